//! `[upstreams.NAME] socket`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::{KeepAlive, TextOr};

/// Settings of the connections to endpoints.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct UpstreamSocket {
    /// Whether the first data goes out with the first segment, to endpoints that were met before
    /// (TCP Fast Open). Default `false`.
    pub fast_open: Option<bool>,
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
}

/// Which version of the PROXY protocol an endpoint is told about its client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header, with what an earlier proxy has said besides the addresses.
    V2,
}
