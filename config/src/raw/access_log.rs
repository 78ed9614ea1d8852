//! `[access_log]`

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{DurationText, OneOrMany, TextOr};

/// One line per request, written when its body has ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLog {
    /// `stdout`, `off`, or a table that names a file. Default `stdout`.
    pub output: Option<TextOr<AccessLogFile>>,
    /// `json`, `common`, `combined`, or a text with the names of fields in braces:
    /// `"{client} {method} {path} {status}"`; `{{` is a brace. Outside of JSON an absent fact is `-`,
    /// and quotes, backslashes and what is no printable ASCII are escaped. Default `json`.
    pub format: Option<String>,
    /// Which requests have a line; all conditions that are written must hold. Default every request.
    pub filter: Option<AccessLogFilter>,
    /// Which fields are left out or hidden.
    pub fields: Option<AccessLogFields>,
    /// Lines that may wait for the output, per process; further ones are dropped and counted.
    /// Range 1 to 1000000. Default `8192`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue: Option<i64>,
}

/// A file that lines are appended to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLogFile {
    /// The path of the file. Required.
    pub file: Option<String>,
}

/// Which requests have a line. All conditions that are written must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLogFilter {
    /// Statuses, `404`, or classes of them, `"5xx"`; one of them must be the request's.
    /// Default any.
    pub status: Option<OneOrMany<StatusWord>>,
    /// The shortest request that has a line. Range `0ms` to `24h`. Default `0ms`.
    pub min_duration: Option<DurationText>,
}

/// Fields that are left out or hidden.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLogFields {
    /// Names of fields that JSON lines do not have; in other formats they are `-`.
    pub drop: Option<OneOrMany<String>>,
    /// Names of fields whose values are replaced by `redacted`; an absent one stays absent.
    pub redact: Option<OneOrMany<String>>,
}

/// A status, or a class of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusWord {
    /// A number.
    Number(i64),
    /// Any text; only classes pass the check.
    Text(String),
}

impl<'de> Deserialize<'de> for StatusWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = StatusWord;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 404, or a class such as \"5xx\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(StatusWord::Number(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(StatusWord::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for StatusWord {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusWord".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": r"^[1-5]xx$|\$\{" },
        ] })
    }
}
