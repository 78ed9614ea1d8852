//! The filter key `retry`

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::raw::{DurationOrOff, DurationText, OneOrMany, SizeText};

/// When a request is sent once more. What is not written here has its default, whatever stands further away.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Retry {
    /// How often at most, after the first attempt; 0 switches retries off. Range 0 to 10. Default `2`.
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<i64>,
    /// How long one attempt may take up to the head of its response, or `off`. Range `1ms` to `24h`.
    /// Default `off`.
    pub per_try_timeout: Option<DurationOrOff>,
    /// After what: `connect-failure`, `refused-stream`, `reset`, `reset-before-request`, `gateway-error` (502, 503, 504, or no
    /// answer), `5xx` (any of them, or no answer), `retriable-4xx` (409), statuses of gRPC (`cancelled`, `deadline-exceeded`,
    /// `internal`, `resource-exhausted`, `unavailable`), or statuses of HTTP as numbers.
    /// Default `["connect-failure", "refused-stream"]`.
    pub on: Option<OneOrMany<RetryOn>>,
    /// Also after a response that has one of these headers. Default none.
    pub headers: Option<OneOrMany<String>>,
    /// How long to wait between attempts.
    pub back_off: Option<BackOff>,
    /// The largest request body that is kept to be sent again. Range `0B` to `16MiB`. Default `64KiB`.
    pub max_body: Option<SizeText>,
    /// Whether methods that are not idempotent (POST, PATCH) may be repeated when the endpoint may have acted on them.
    /// A request with `Idempotency-Key` always may. Default `false`.
    pub non_idempotent: Option<bool>,
}

/// How long to wait between attempts: by chance up to `base`, twice that the next time, and so on up to `max`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct BackOff {
    /// The most before the second attempt. Range `1ms` to `1m`. Default `25ms`.
    pub base: Option<DurationText>,
    /// The most ever. Range `1ms` to `10m`. Default ten times `base`.
    pub max: Option<DurationText>,
}

/// A condition by its name, or a status of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryOn {
    /// Not yet looked up.
    Name(String),
    /// Not yet held against its range.
    Status(i64),
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = RetryOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition such as \"connect-failure\", or a status")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(RetryOn::Status(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(RetryOn::Name(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RetryOn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "integer", "minimum": 400, "maximum": 599 },
        ] })
    }
}
