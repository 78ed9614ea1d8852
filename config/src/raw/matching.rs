//! `match = { … }`: conditions on a request.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{OneOrMany, Table, TextOr};

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Match {
    /// On the normalised path: a string is the whole path, else a table with exactly one of `exact`,
    /// `prefix`, `starts_with`, `regex`.
    pub path: Option<TextOr<PathMatch>>,
    /// A method, or a list of which one must hold: `GET`. Case-sensitive.
    pub method: Option<OneOrMany<String>>,
    /// Headers by name, each of which must hold: a string is the whole value, else a table with
    /// exactly one of `exact`, `starts_with`, `regex`, `present`. Every single value of a repeated
    /// header and the joined value are tried.
    pub headers: Option<Table<TextOr<ValueMatch>>>,
    /// Parameters of the query by name, percent-decoded, each of which must hold; as for `headers`.
    pub query: Option<Table<TextOr<ValueMatch>>>,
    /// Cookies by name, each of which must hold; as for `headers`.
    pub cookies: Option<Table<TextOr<ValueMatch>>>,
    /// The client's address is this one or in this network (`10.0.0.0/8`), or in one of a list.
    pub client: Option<OneOrMany<String>>,
    /// The request came in on this listener, or on one of a list.
    pub listener: Option<OneOrMany<String>>,
    /// The address that the client has connected to, our side of the connection, is this one or in this
    /// network, or in one of a list.
    pub destination: Option<OneOrMany<String>>,
    /// The port that the client has connected to: a number, or a range `"5000-5999"`; or one of a list.
    pub destination_port: Option<OneOrMany<Ports>>,
    /// A protocol inside TLS, or a list of which one must hold: the client offers it (ALPN) where TLS is
    /// passed through, it was agreed on where a `tls` listener ends it.
    pub alpn: Option<OneOrMany<String>>,
    /// The name that the client asks for in its TLS handshake (SNI): a string is the whole name, else a
    /// table with exactly one of `exact`, `starts_with`, `regex`, `present`; `{ present = false }` holds for
    /// clients that ask for none. With `mode = "passthrough"`, and on `tls` listeners.
    pub sni: Option<TextOr<ValueMatch>>,
}

/// A port, or a range of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// One.
    Port(i64),
    /// `5000-5999`
    Text(String),
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, or a range such as \"5000-5999\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Ports::Port(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Ports::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Ports {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65535 },
            { "type": "string", "pattern": r"^[0-9]+(-[0-9]+)?$|\$\{" },
        ] })
    }
}

/// A condition on the path: exactly one key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct PathMatch {
    /// The whole path.
    pub exact: Option<String>,
    /// Whole segments: `/api` admits `/api` and `/api/pets`, not `/apis`.
    pub prefix: Option<String>,
    /// The first characters.
    pub starts_with: Option<String>,
    /// A regular expression for the whole path; its groups are the captures `{1}` to `{9}`.
    pub regex: Option<String>,
}

/// A condition on a value that may be absent: exactly one key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ValueMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// The first characters.
    pub starts_with: Option<String>,
    /// A regular expression for the whole value.
    pub regex: Option<String>,
    /// Whether there is a value at all.
    pub present: Option<bool>,
}
