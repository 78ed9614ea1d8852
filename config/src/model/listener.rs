//! Listeners: an address and protocol we accept on.

mod basic;
mod bind;
mod socket;
mod stream;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::Serialize;

use super::{Filters, Limit, ListenerTls, Mode, canonical};
use crate::names::ListenerName;

pub use basic::{Basic, BasicError, PasswordHash, PasswordHashError};
pub use bind::Bind;
pub use socket::{KeepAlive, ListenerSocket, UpstreamSocket};
pub use stream::{Protocol, ProxyProtocolIn, Startup, Udp};

/// An address and protocol we accept on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Its name.
    #[serde(skip)]
    pub name: ListenerName,
    /// Where it accepts.
    pub address: Bind,
    /// Nobody wrote it: it exists because no listener was configured. Only then may the load step
    /// fall back from `[::]` to `0.0.0.0` where the machine has no IPv6.
    #[serde(skip)]
    pub implied: bool,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What belongs to TLS; there when it ends it: always with `https`, with `auto` where there are
    /// certificates, with `tls` unless there are none and every route of it is passed through.
    #[serde(flatten)]
    pub tls: Option<ListenerTls>,
    /// The names and passwords that clients are asked for; only on `forward-proxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Arc<Basic>>,
    /// Whether anybody who reaches it may use it; only on `forward-proxy`, and never with `basic` or client
    /// certificates that are required.
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub open: bool,
    /// Answer every request with a redirect to https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<HttpsRedirect>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How many proxies at most stand between the client and us; the address is taken at most this
    /// many entries from the right end of the forwarding header.
    #[serde(skip_serializing_if = "Limit::is_off")]
    pub trusted_hops: Limit<usize>,
    /// Whether connections of `trusted_proxies` begin with a header of the PROXY protocol.
    #[serde(skip_serializing_if = "ProxyProtocolIn::is_off")]
    pub proxy_protocol: ProxyProtocolIn,
    /// What clients say before their TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// How datagrams become sessions.
    #[serde(skip_serializing_if = "Udp::is_default")]
    pub udp: Udp,
    /// Settings of its sockets.
    #[serde(skip_serializing_if = "ListenerSocket::is_default")]
    pub socket: ListenerSocket,
    /// How requests are brought into one form before anybody trusts them.
    pub normalize: Normalize,
    /// Bounds on what peers may take.
    pub limits: ListenerLimits,
    /// Bounds on how long peers may take.
    pub timeouts: ListenerTimeouts,
    /// How much HTTP/2 clients may send ahead.
    pub http2: Http2,
    /// Filters for every request that comes in here.
    #[serde(flatten)]
    pub filters: Filters,
}

impl Listener {
    /// A listener with every default.
    pub fn new(name: ListenerName, address: Bind) -> Self {
        Self {
            name,
            address,
            implied: false,
            protocol: Protocol::Http,
            tls: None,
            basic: None,
            open: false,
            https_redirect: None,
            trusted_proxies: Vec::new(),
            trusted_hops: Limit::Off,
            proxy_protocol: ProxyProtocolIn::default(),
            startup: None,
            udp: Udp::default(),
            socket: ListenerSocket::default(),
            normalize: Normalize::default(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            http2: Http2::default(),
            filters: Filters::default(),
        }
    }

    /// Takes password hashes away, for whoever looks at what runs.
    pub(crate) fn redact(&mut self) {
        if let Some(basic) = &mut self.basic {
            for (_, hash) in &mut Arc::make_mut(basic).users {
                *hash = PasswordHash::redacted();
            }
        }
    }

    /// Whether a route of that mode is handed what is inside TLS that was ended here. On `auto` raw streams
    /// come out of TLS for clients of `PostgreSQL` only.
    pub fn hands_from_tls(&self, mode: Mode) -> bool {
        let is_database = self.protocol == Protocol::Auto && self.startup.is_some();
        mode.is_inside_tls_of(self.protocol) || (mode == Mode::Tcp && is_database)
    }
}

/// The redirect to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HttpsRedirect {
    /// 301, 302, 307 or 308.
    pub status: u16,
    /// The port to name; 443 is left out of the URL.
    pub port: u16,
}

impl Default for HttpsRedirect {
    fn default() -> Self {
        Self {
            status: 301,
            port: 443,
        }
    }
}

/// How requests are brought into one form. The same path is matched and forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Normalize {
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// `%2f` in a path.
    pub escaped_slash: Escapes,
    /// `%5c` in a path.
    pub escaped_backslash: Escapes,
    /// `%00` in a path.
    pub escaped_nul: Escapes,
    /// `\` in a path.
    pub backslash: Escapes,
    /// Header names with `_`.
    pub underscores: Underscores,
}

impl Default for Normalize {
    fn default() -> Self {
        Self {
            merge_slashes: true,
            escaped_slash: Escapes::Refuse,
            escaped_backslash: Escapes::Refuse,
            escaped_nul: Escapes::Refuse,
            backslash: Escapes::Refuse,
            underscores: Underscores::Drop,
        }
    }
}

/// What to do with a character that parsers disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escapes {
    /// Answer 400.
    Refuse,
    /// Leave it as it is, an ordinary character of its segment.
    Keep,
}

/// What to do with header names that contain `_`, which some origins fold into `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Underscores {
    /// Take the header away and count it.
    Drop,
    /// Let it through.
    Keep,
    /// Answer 400.
    Refuse,
}

/// Bounds on what the peers of a listener may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListenerLimits {
    /// Connections at a time; further ones are closed at once and counted.
    pub connections: Limit<usize>,
    /// Connections at a time from one client address.
    pub connections_per_client: Limit<usize>,
    /// Bytes of a request head (431).
    #[serde(serialize_with = "canonical::size")]
    pub head: usize,
    /// Bytes of a request target (414).
    #[serde(serialize_with = "canonical::size")]
    pub uri: usize,
    /// Header fields of a request (431).
    pub headers: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// Requests that an HTTP/2 client may take back or break within any 30 seconds.
    pub resets: usize,
    /// Bytes per second of a request body, averaged over `timeouts.request_body` (408).
    pub body_rate: Limit<u64>,
}

impl ListenerLimits {
    /// Under the usual descriptor limit of 65,536 with room for upstream connections.
    pub const CONNECTIONS: usize = 20_000;
    /// Enough for a large office behind one address.
    pub const CONNECTIONS_PER_CLIENT: usize = 2_000;
    /// What browsers with many cookies reach, and what most origins accept.
    pub const HEAD: usize = 32 << 10;
    /// The largest target most origins accept.
    pub const URI: usize = 8 << 10;
    /// As most origins.
    pub const HEADERS: usize = 100;
    /// What RFC 9113 §6.5.2 recommends at least, and more than browsers use.
    pub const STREAMS: u32 = 100;
    /// Far above what leaving a page full of pictures takes back.
    pub const RESETS: usize = 200;
    /// A tenth of what the slowest modems sent.
    pub const BODY_RATE: u64 = 128;
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: Limit::At(Self::CONNECTIONS),
            connections_per_client: Limit::At(Self::CONNECTIONS_PER_CLIENT),
            head: Self::HEAD,
            uri: Self::URI,
            headers: Self::HEADERS,
            streams: Self::STREAMS,
            resets: Self::RESETS,
            body_rate: Limit::At(Self::BODY_RATE),
        }
    }
}

/// Bounds on how long the peers of a listener may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListenerTimeouts {
    /// From the first moment of a connection to the end of its TLS handshake.
    #[serde(serialize_with = "canonical::time")]
    pub tls_handshake: Duration,
    /// From the first byte of a request head to its last, however steadily it trickles.
    #[serde(serialize_with = "canonical::time")]
    pub request_head: Duration,
    /// A connection without a request; also before its first byte.
    #[serde(serialize_with = "canonical::time")]
    pub idle: Duration,
    /// The longest pause between two pieces of a request body (408).
    #[serde(serialize_with = "canonical::time")]
    pub request_body: Duration,
    /// How long a client may accept no byte of a response.
    #[serde(serialize_with = "canonical::time")]
    pub write_stall: Duration,
    /// From the first moment of a connection to the end of its PROXY header.
    #[serde(serialize_with = "canonical::time")]
    pub proxy_header: Duration,
    /// How long the first bytes may take where they decide what becomes of a connection.
    #[serde(serialize_with = "canonical::time")]
    pub sniff: Duration,
}

impl ListenerTimeouts {
    /// Three round trips for almost everybody.
    pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
    /// A head is one packet for almost everybody.
    pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
    /// As most servers.
    pub const IDLE: Duration = Duration::from_secs(75);
    /// A phone may lose its network for a while.
    pub const REQUEST_BODY: Duration = Duration::from_secs(30);
    /// As above.
    pub const WRITE_STALL: Duration = Duration::from_secs(30);
    /// Proxies send it with their first segment.
    pub const PROXY_HEADER: Duration = Duration::from_secs(5);
    /// As for the handshake, of which the first bytes mostly are.
    pub const SNIFF: Duration = Duration::from_secs(10);
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Self::TLS_HANDSHAKE,
            request_head: Self::REQUEST_HEAD,
            idle: Self::IDLE,
            request_body: Self::REQUEST_BODY,
            write_stall: Self::WRITE_STALL,
            proxy_header: Self::PROXY_HEADER,
            sniff: Self::SNIFF,
        }
    }
}

/// How much of request bodies an HTTP/2 client may send ahead of whoever reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Http2 {
    /// Of one request.
    #[serde(serialize_with = "canonical::size")]
    pub stream_window: usize,
    /// Of all requests of one connection together.
    #[serde(serialize_with = "canonical::size")]
    pub connection_window: usize,
}

impl Http2 {
    /// A fast upload over 20 ms of network.
    pub const STREAM_WINDOW: usize = 256 << 10;
    /// Four of them at full speed.
    pub const CONNECTION_WINDOW: usize = 1 << 20;
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            stream_window: Self::STREAM_WINDOW,
            connection_window: Self::CONNECTION_WINDOW,
        }
    }
}
