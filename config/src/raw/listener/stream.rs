//! What belongs to connections and datagrams before anybody speaks HTTP.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::raw::{CountOrOff, DurationText, TextOr};

/// `true`, `false` or `"optional"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyProtocolIn {
    /// A header must come, or none is read.
    Bool(bool),
    /// Any text; only `optional` passes the check.
    Text(String),
}

impl<'de> Deserialize<'de> for ProxyProtocolIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = ProxyProtocolIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"optional\"")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(ProxyProtocolIn::Bool(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(ProxyProtocolIn::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for ProxyProtocolIn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProxyProtocolIn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "const": "optional" }] })
    }
}

/// What a client says before its TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Startup {
    /// The `SSLRequest` of `PostgreSQL`.
    Postgres,
}

/// How datagrams become sessions. A session is one address of a client and the endpoint that its
/// datagrams go to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Udp {
    /// A session ends when neither side has sent anything for so long. Range `1ms` to `24h`.
    /// Default `30s`.
    pub idle_timeout: Option<DurationText>,
    /// Sessions at a time, over all workers; datagrams of further clients are dropped and counted.
    /// Range 1 to 10000000. Default `10000`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub sessions: Option<i64>,
    /// Sessions at a time from one client address. Range 1 to 10000000. Default `1000`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub sessions_per_client: Option<i64>,
    /// Whether a session ends with the first reply, as suits DNS. Default `false`.
    pub one_shot: Option<bool>,
}

/// Settings of the sockets that a listener accepts on, and of what they accept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ListenerSocket {
    /// Connections that may wait to be accepted; the system caps it at `net.core.somaxconn`.
    /// Range 1 to 1000000. Default `4096`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backlog: Option<i64>,
    /// TCP Fast Open: how many connections may wait that sent data with their first segment, or
    /// `off`. Range 1 to 1000000. Default `off`.
    pub fast_open: Option<CountOrOff>,
    /// Whether small pieces are sent at once (`TCP_NODELAY`). Default `true`.
    pub nodelay: Option<bool>,
    /// Signs of life on quiet connections (`SO_KEEPALIVE`): a table that says how, or `off`.
    /// Default `off`.
    pub keepalive: Option<TextOr<KeepAlive>>,
    /// The mark of its packets (`SO_MARK`), for the system's routing and filters; needs
    /// `CAP_NET_ADMIN`. Range 1 to 4294967295. Default none.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub mark: Option<i64>,
    /// The differentiated services code point of its packets. Range 0 to 63. Default none.
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<i64>,
    /// Whether an IPv6 address leaves IPv4 alone. Default `false`: `[::]` accepts both.
    pub ipv6_only: Option<bool>,
    /// Whether it accepts what is meant for any address (`IP_TRANSPARENT`), as the system's tproxy hands it on;
    /// needs `CAP_NET_ADMIN`. For `transparent`. Default `false`: streams are redirected, and the system is asked
    /// where they were meant to go.
    pub transparent: Option<bool>,
    /// The permissions of the file of a unix socket, in octal. Default `0660`.
    pub mode: Option<String>,
}

/// Signs of life on quiet connections.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct KeepAlive {
    /// How long nothing comes before the first one; whole seconds. Range `1s` to `9h`.
    /// Default `2m`.
    pub idle: Option<DurationText>,
    /// How long until the next one, without an answer; whole seconds. Range `1s` to `9h`.
    /// Default `15s`.
    pub interval: Option<DurationText>,
    /// After so many without an answer the connection is broken off. Range 1 to 127. Default `4`.
    #[schemars(range(min = 1, max = 127))]
    pub count: Option<i64>,
}
