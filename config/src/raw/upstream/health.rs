//! `[upstreams.NAME] health_check`

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::raw::{DurationText, OneOrMany};

/// How endpoints are asked, again and again, whether they are well. Exactly one of `http`, `tcp` and `grpc`.
/// An endpoint counts as healthy from the beginning, until it has failed `unhealthy` checks in a row.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct HealthCheck {
    /// A request that has to be answered as expected.
    pub http: Option<HttpCheck>,
    /// A connection that has to be made; what is sent and expected on it, if anything.
    pub tcp: Option<TcpCheck>,
    /// A call of `grpc.health.v1.Health/Check` that has to be answered with `SERVING`, over HTTP/2.
    pub grpc: Option<GrpcCheck>,
    /// From the beginning of one check to that of the next; the first one is made at once.
    /// Range `100ms` to `24h`. Default `10s`.
    pub interval: Option<DurationText>,
    /// How long a check may take altogether. Range `1ms` to `24h`. Default `2s`.
    pub timeout: Option<DurationText>,
    /// By how many percent an interval is longer or shorter, by chance, so that gateways do not ask in step.
    /// Range 0 to 100. Default `10`.
    #[schemars(range(min = 0, max = 100))]
    pub jitter: Option<i64>,
    /// How many checks in a row have to pass before an unhealthy endpoint is healthy again.
    /// Range 1 to 1000. Default `2`.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy: Option<i64>,
    /// How many checks in a row have to fail before a healthy endpoint is unhealthy.
    /// Range 1 to 1000. Default `3`.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy: Option<i64>,
    /// Another port of the endpoints' addresses to ask at. Range 1 to 65535. Default that of each endpoint.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
}

/// A check by a request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct HttpCheck {
    /// The path, with a query where there is one. Default `/`.
    pub path: Option<String>,
    /// The method. Default `GET`.
    pub method: Option<String>,
    /// The host that is asked for, with a port where there is one. Default the address of the endpoint.
    pub host: Option<String>,
    /// The statuses that will do: a number or a range such as `"200-299"`, or a list of them.
    /// Range 100 to 599. Default `"200-299"`.
    pub expected: Option<OneOrMany<Statuses>>,
    /// A text that has to be in the first 64 KiB of the body. Default none.
    pub body: Option<String>,
}

/// A check by a connection.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct TcpCheck {
    /// A text to send. Default none.
    pub send: Option<String>,
    /// A text that has to be in the first 4 KiB that come back. Default none.
    pub expect: Option<String>,
}

/// A check by a call.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct GrpcCheck {
    /// The service that is asked about. Default `""`, which stands for the whole server.
    pub service: Option<String>,
    /// The host that is asked for, with a port where there is one. Default the address of the endpoint.
    pub host: Option<String>,
}

/// A status, or a range of statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statuses {
    /// One.
    Status(i64),
    /// `200-299`
    Text(String),
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or a range such as \"200-299\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Statuses::Status(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Statuses::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Statuses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": r"^[0-9]+(-[0-9]+)?$|\$\{" },
        ] })
    }
}
