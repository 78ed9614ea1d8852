//! What belongs to connections and datagrams before anybody speaks HTTP.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::canonical;

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP inside TLS, and TLS that is passed through.
    Https,
    /// TLS, ended here or passed through; what is inside is passed on, whatever it is.
    Tls,
    /// Bytes that nobody looks at.
    Tcp,
    /// Datagrams.
    Udp,
    /// What the first bytes say: HTTP, TLS, or anything else.
    Auto,
    /// CONNECT, and requests that name where they go (RFC 9110 §7.1): egress.
    ForwardProxy,
    /// Streams that the system redirected here from where they were meant to go: egress.
    Transparent,
}

impl Protocol {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Auto => "auto",
            Self::ForwardProxy => "forward-proxy",
            Self::Transparent => "transparent",
        }
    }

    /// Whether clients come to go out: they say where to, `[egress]` whether they may, and no route is asked.
    pub const fn is_egress(self) -> bool {
        matches!(self, Self::ForwardProxy | Self::Transparent)
    }

    /// Whether requests for routes may be read there.
    pub const fn has_requests(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Auto)
    }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocolIn {
    /// None is read.
    #[default]
    Off,
    /// Those of trusted proxies may.
    Optional,
    /// Those of trusted proxies must.
    Required,
}

impl ProxyProtocolIn {
    /// Whether none is read.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// `true`, `false` or `"optional"`.
impl Serialize for ProxyProtocolIn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Required => serializer.serialize_bool(true),
            Self::Optional => serializer.serialize_str("optional"),
        }
    }
}

/// What is said before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Startup {
    /// The `SSLRequest` of `PostgreSQL`.
    Postgres,
}

/// How datagrams become sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Udp {
    /// A session ends when neither side has sent anything for so long.
    #[serde(serialize_with = "canonical::time")]
    pub idle_timeout: Duration,
    /// Sessions at a time, over all workers.
    pub sessions: usize,
    /// Sessions at a time from one client address.
    pub sessions_per_client: usize,
    /// Whether a session ends with the first reply.
    pub one_shot: bool,
}

impl Udp {
    /// What most home routers keep a mapping for at least (RFC 4787 asks for more, few give it).
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Each has a socket of its own: well under the usual limit of descriptors.
    pub const SESSIONS: usize = 10_000;
    /// Enough for an office behind one address.
    pub const SESSIONS_PER_CLIENT: usize = 1_000;

    /// Whether nobody wrote anything about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            idle_timeout: Self::IDLE_TIMEOUT,
            sessions: Self::SESSIONS,
            sessions_per_client: Self::SESSIONS_PER_CLIENT,
            one_shot: false,
        }
    }
}
