//! What a route takes from its listeners.

use std::fmt;

use serde::Serialize;

use crate::model::Protocol;

/// What a route takes from its listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests.
    #[default]
    Http,
    /// Raw streams; on a listener that ends TLS, what is inside.
    Tcp,
    /// TLS that is passed on as it came.
    Passthrough,
    /// Datagrams.
    Udp,
}

impl Mode {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Http, Self::Tcp, Self::Passthrough, Self::Udp];

    /// That of a route on such a listener which does not say.
    pub const fn of(protocol: Protocol) -> Self {
        match protocol {
            // No route is bound to these.
            Protocol::Http
            | Protocol::Https
            | Protocol::Auto
            | Protocol::ForwardProxy
            | Protocol::Transparent => Self::Http,
            Protocol::Tls | Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }

    /// Whether a listener that speaks `protocol` can hand it anything.
    pub const fn is_allowed_on(self, protocol: Protocol) -> bool {
        match self {
            Self::Http => protocol.has_requests(),
            Self::Tcp => matches!(protocol, Protocol::Tcp | Protocol::Tls | Protocol::Auto),
            Self::Passthrough => {
                matches!(protocol, Protocol::Https | Protocol::Tls | Protocol::Auto)
            }
            Self::Udp => matches!(protocol, Protocol::Udp),
        }
    }

    /// Whether it is handed what is inside TLS that such a listener has ended. On `auto` requests may
    /// be, raw streams are not, but for what a listener itself knows better.
    pub const fn is_inside_tls_of(self, protocol: Protocol) -> bool {
        match self {
            Self::Http => matches!(protocol, Protocol::Https | Protocol::Auto),
            Self::Tcp => matches!(protocol, Protocol::Tls),
            Self::Passthrough | Self::Udp => false,
        }
    }

    /// Whether a client of such a listener says in its handshake which host it is meant for.
    pub const fn knows_sni(self, protocol: Protocol) -> bool {
        match self {
            Self::Passthrough => true,
            Self::Tcp => matches!(protocol, Protocol::Tls),
            Self::Http | Self::Udp => false,
        }
    }

    /// Whether it takes requests.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Passthrough => "passthrough",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
