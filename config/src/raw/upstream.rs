//! `[upstreams.NAME]`

mod dns;
mod health;
mod socket;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    CountOrOff, DurationOrOff, DurationText, OneOrMany, Startup, Switch, TextOr, UpstreamTls,
};

pub use dns::Dns;
pub use health::{GrpcCheck, HealthCheck, HttpCheck, Statuses, TcpCheck};
pub use socket::{ProxyVersion, UpstreamSocket};

/// A named group of endpoints with balancing, pool and limits.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Upstream {
    /// Addresses (`10.0.0.1:9080`, `[::1]:80`, `name:8080`, `http://name`, `https://name`, `h2c://name`,
    /// `h2://name`, `unix:/path`), or tables with `address` and `weight`. A name stands for all its addresses, resolved in the background.
    /// With an empty list requests answer 503 `no_endpoint`. Required.
    pub endpoints: Option<OneOrMany<TextOr<Endpoint>>>,
    /// How endpoints are spoken to: `http1` (HTTP/1.1), `http2` (HTTP/2 from the first byte) or `auto`
    /// (HTTP/2 for gRPC, that is where `content-type` begins with `application/grpc`; HTTP/1.1 else).
    /// Where every endpoint is `h2c://` or `h2://`, `http2` need not be written. Over TLS an endpoint that
    /// agrees to no HTTP/2 is spoken to in HTTP/1.1 under `auto`. Default `http1`.
    pub protocol: Option<UpstreamProtocol>,
    /// Whether endpoints are reached over TLS; a table says how. Where every endpoint is `https://` or
    /// `h2://`, `true` need not be written. Default `false`.
    pub tls: Option<Switch<UpstreamTls>>,
    /// How an endpoint is chosen: `round-robin`, `random`, `least-request` or `ring-hash`, each by weight.
    /// Default `round-robin`.
    pub balance: Option<Balance>,
    /// Whether endpoints are told who the client is with a header of the PROXY protocol at the beginning of
    /// each connection, and in which version; for datagrams `v2` in front of the first one of each session. A
    /// connection that began with a header is only used again for what would have the same one. Default none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What is said to an endpoint before its TLS; `postgres` sends the `SSLRequest` of `PostgreSQL`. For raw
    /// streams. Default none; passed through from a listener with the same `startup`, that.
    pub startup: Option<Startup>,
    /// Settings of the connections to endpoints.
    pub socket: Option<UpstreamSocket>,
    /// Bounds on how long endpoints may take.
    pub timeouts: Option<UpstreamTimeouts>,
    /// How connections are kept.
    pub pool: Option<UpstreamPool>,
    /// Bounds on what is asked of it, over all workers.
    pub limits: Option<UpstreamLimits>,
    /// How endpoints are asked whether they are well. Default they are not.
    pub health_check: Option<HealthCheck>,
    /// The least share of endpoints that have to be available, in percent: with fewer, requests go to all of them
    /// as if all were well, so that the few are not crushed. 0 for never: where none is available, requests answer
    /// 503 `no_endpoint`. Range 0 to 100. Default `50`.
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: Option<i64>,
}

/// One address of an upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Endpoint {
    /// `10.0.0.1:9080`, `[::1]:80`, `name:8080`, `http://name`, `https://name`, `h2c://name`, `h2://name` or
    /// `unix:/path`. Required.
    pub address: Option<String>,
    /// Its share among the endpoints; 0 gets nothing. Range 0 to 1000000. Default `1`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<i64>,
}

/// How endpoints are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte.
    Http2,
    /// HTTP/2 for gRPC, HTTP/1.1 for everything else.
    Auto,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after the other, by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// Of two chosen by chance the one with fewer requests under way for its weight.
    LeastRequest,
    /// By the client's address: the same client gets the same endpoint as long as it is there, and a
    /// change of endpoints moves few clients.
    RingHash,
}

/// Bounds on how long endpoints may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct UpstreamTimeouts {
    /// Until the connection stands (502). Range `1ms` to `24h`. Default `5s`.
    pub connect: Option<DurationText>,
    /// From the end of the request to the head of the response (504). Range `1ms` to `24h`.
    /// Default `1m`.
    pub response_head: Option<DurationText>,
    /// The longest pause between two pieces of a response body, or `off`. Range `1ms` to `24h`.
    /// Default `5m`.
    pub response_body: Option<DurationOrOff>,
    /// How long an endpoint may accept no byte of a request. Range `1ms` to `24h`. Default `30s`.
    pub write_stall: Option<DurationText>,
}

/// How connections are kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct UpstreamPool {
    /// How long an unused connection is kept. Range `1ms` to `24h`. Default `50s`.
    pub idle_timeout: Option<DurationText>,
    /// Idle connections kept at a time, over all workers; 0 keeps none. Range 0 to 1000000.
    /// Default `256`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub idle_connections: Option<i64>,
    /// A connection older than this takes no further request, or `off`. Range `1ms` to `24h`.
    /// Default `off`.
    pub max_age: Option<DurationOrOff>,
    /// The most requests a connection takes, or `off`. Range 1 to 1000000000. Default `off`.
    pub requests_per_connection: Option<CountOrOff>,
    /// How often an HTTP/2 connection with requests under way is asked for a sign of life, or `off`;
    /// without an answer within the same time it is closed. Some gRPC origins refuse frequent pings.
    /// Range `1ms` to `24h`. Default `off`.
    pub ping: Option<DurationOrOff>,
}

/// Bounds on what is asked of an upstream, over all workers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct UpstreamLimits {
    /// Connections at a time, or `off`: connecting, busy and idle. Each worker may always hold one.
    /// Range 1 to 10000000. Default `1024`.
    pub connections: Option<CountOrOff>,
    /// Requests that may wait for a connection; further ones answer 503 `overflow`.
    /// Range 0 to 1000000. Default `1024`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pending_requests: Option<i64>,
    /// Requests at a time on one HTTP/2 connection; the origin may allow fewer.
    /// Range 1 to 10000. Default `100`.
    #[schemars(range(min = 1, max = 10_000))]
    pub streams: Option<i64>,
}
