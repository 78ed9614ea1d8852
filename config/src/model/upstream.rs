//! Upstreams: a named group of endpoints with balancing, pool and limits.

mod dns;
mod health;

use std::time::Duration;

use serde::Serialize;

use super::{Address, Limit, Scheme, Startup, UpstreamSocket, UpstreamTls, canonical};
use crate::names::UpstreamName;

pub use dns::Dns;
pub use health::{GrpcCheck, HealthCheck, HttpCheck, Question, TcpCheck};

/// A named group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Its name.
    #[serde(skip)]
    pub name: UpstreamName,
    /// In the order written; may be empty (then requests answer 503 `no_endpoint`).
    pub endpoints: Vec<Endpoint>,
    /// How its endpoints are spoken to.
    pub protocol: UpstreamProtocol,
    /// How TLS is spoken with them; none: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// In which version of the PROXY protocol they are told who the client is, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// What is said to them before TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// Settings of the connections to them.
    #[serde(skip_serializing_if = "UpstreamSocket::is_default")]
    pub socket: UpstreamSocket,
    /// Bounds on how long endpoints may take.
    pub timeouts: UpstreamTimeouts,
    /// How connections are kept.
    pub pool: UpstreamPool,
    /// Bounds on what is asked of it.
    pub limits: UpstreamLimits,
    /// How its endpoints are asked whether they are well, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// The least share of available endpoints, in percent, with which only those get requests.
    #[serde(skip_serializing_if = "is_default_panic")]
    pub panic_threshold: u32,
}

impl Upstream {
    /// As Envoy: half of the endpoints can hardly serve all.
    pub const PANIC_THRESHOLD: u32 = 50;

    /// An upstream with every default.
    pub fn new(name: UpstreamName, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name,
            endpoints,
            protocol: UpstreamProtocol::default(),
            tls: None,
            balance: Balance::default(),
            proxy_protocol: None,
            startup: None,
            socket: UpstreamSocket::default(),
            timeouts: UpstreamTimeouts::default(),
            pool: UpstreamPool::default(),
            limits: UpstreamLimits::default(),
            health_check: None,
            panic_threshold: Self::PANIC_THRESHOLD,
        }
    }

    /// Whether anything may make an endpoint unavailable.
    pub fn is_watched(&self) -> bool {
        self.health_check.is_some()
    }

    /// What an address written directly in `to` stands for.
    pub fn of_address(address: &Address) -> Self {
        let name = UpstreamName::of_address(address);
        let protocol = match address.scheme {
            Scheme::Http | Scheme::Https => UpstreamProtocol::default(),
            Scheme::H2c | Scheme::H2 => UpstreamProtocol::Http2,
        };
        let tls = match address.scheme {
            Scheme::Http | Scheme::H2c => None,
            Scheme::Https | Scheme::H2 => Some(UpstreamTls::default()),
        };
        let (scheme, host) = (Scheme::Http, address.host.clone());
        Self {
            protocol,
            tls,
            ..Self::new(name, vec![Endpoint::new(Address { scheme, host })])
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_default_panic(percent: &u32) -> bool {
    *percent == Upstream::PANIC_THRESHOLD
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where. Its scheme says nothing here: how to speak stands in the upstream's `protocol` and `tls`.
    pub address: Address,
    /// Its share among the endpoints, 0 to 1,000,000. 0 gets nothing.
    pub weight: u32,
}

impl Endpoint {
    /// An endpoint of weight 1.
    pub fn new(address: Address) -> Self {
        Self { address, weight: 1 }
    }
}

/// How endpoints are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 from the first byte.
    Http2,
    /// HTTP/2 for gRPC, which needs it, and HTTP/1.1 for everything else.
    Auto,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// Of two chosen by chance the one with fewer requests under way for its weight.
    LeastRequest,
    /// By the client's address, so that a change of endpoints moves few clients.
    RingHash,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header, with what an earlier proxy has said besides the addresses.
    V2,
}

/// Bounds on how long endpoints may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpstreamTimeouts {
    /// Until the connection stands.
    #[serde(serialize_with = "canonical::time")]
    pub connect: Duration,
    /// From the request's last byte, or the response's absence, to the head of the response (504).
    #[serde(serialize_with = "canonical::time")]
    pub response_head: Duration,
    /// The longest pause between two pieces of a response body.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub response_body: Limit<Duration>,
    /// How long an endpoint may accept no byte of a request.
    #[serde(serialize_with = "canonical::time")]
    pub write_stall: Duration,
}

impl UpstreamTimeouts {
    /// Three SYNs.
    pub const CONNECT: Duration = Duration::from_secs(5);
    /// As most proxies.
    pub const RESPONSE_HEAD: Duration = Duration::from_mins(1);
    /// Long enough for event streams that send a heartbeat.
    pub const RESPONSE_BODY: Limit<Duration> = Limit::At(Duration::from_mins(5));
    /// As downstream.
    pub const WRITE_STALL: Duration = Duration::from_secs(30);
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Self::CONNECT,
            response_head: Self::RESPONSE_HEAD,
            response_body: Self::RESPONSE_BODY,
            write_stall: Self::WRITE_STALL,
        }
    }
}

/// How connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpstreamPool {
    /// How long an unused connection is kept.
    #[serde(serialize_with = "canonical::time")]
    pub idle_timeout: Duration,
    /// Idle connections kept at a time, over all workers.
    pub idle_connections: usize,
    /// A connection older than this takes no further request.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub max_age: Limit<Duration>,
    /// A connection takes at most this many requests.
    pub requests_per_connection: Limit<u64>,
    /// How often an HTTP/2 connection with requests under way is asked for a sign of life.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub ping: Limit<Duration>,
}

impl UpstreamPool {
    /// Below the 5 s of Node.js and the 60 to 75 s of most others would be too short for the latter;
    /// a reused connection that died is retried, so the longer wins.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
    /// Enough to carry tens of thousands of requests a second.
    pub const IDLE_CONNECTIONS: usize = 256;
}

impl Default for UpstreamPool {
    fn default() -> Self {
        Self {
            idle_timeout: Self::IDLE_TIMEOUT,
            idle_connections: Self::IDLE_CONNECTIONS,
            max_age: Limit::Off,
            requests_per_connection: Limit::Off,
            // Some gRPC origins take frequent pings for an attack.
            ping: Limit::Off,
        }
    }
}

/// Bounds on what is asked of an upstream, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpstreamLimits {
    /// Connections at a time: connecting, busy and idle.
    pub connections: Limit<usize>,
    /// Requests that may wait for a connection; further ones answer 503 `overflow`.
    pub pending_requests: usize,
    /// Requests at a time on one HTTP/2 connection; the origin may allow fewer.
    pub streams: usize,
}

impl UpstreamLimits {
    /// As Envoy.
    pub const CONNECTIONS: Limit<usize> = Limit::At(1024);
    /// As Envoy.
    pub const PENDING_REQUESTS: usize = 1024;
    /// What RFC 9113 recommends as the least that origins should allow.
    pub const STREAMS: usize = 100;
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: Self::CONNECTIONS,
            pending_requests: Self::PENDING_REQUESTS,
            streams: Self::STREAMS,
        }
    }
}
