//! Settings of sockets.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    model::{Limit, canonical},
    unit,
};

/// Settings of the sockets that a listener accepts on, and of what they accept. What has its default is
/// not printed: not every socket has every setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerSocket {
    /// Connections that may wait to be accepted.
    #[serde(skip_serializing_if = "is_default_backlog")]
    pub backlog: u32,
    /// TCP Fast Open: how many connections may wait that sent data with their first segment.
    #[serde(skip_serializing_if = "Limit::is_off")]
    pub fast_open: Limit<u32>,
    /// Whether small pieces are sent at once.
    #[serde(skip_serializing_if = "is_true")]
    pub nodelay: bool,
    /// Signs of life on quiet connections.
    #[serde(skip_serializing_if = "Limit::is_off")]
    pub keepalive: Limit<KeepAlive>,
    /// The mark of its packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// The differentiated services code point of its packets, 0 to 63.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// Whether an IPv6 address leaves IPv4 alone.
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub ipv6_only: bool,
    /// Whether it accepts what is meant for any address, so that our side of a connection is where its client
    /// meant to go (`IP_TRANSPARENT`); only on `transparent`.
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub transparent: bool,
    /// The permissions of the file of a unix socket.
    #[serde(skip_serializing_if = "is_default_mode", serialize_with = "octal")]
    pub mode: u32,
}

impl ListenerSocket {
    /// What the system has for a bound since Linux 5.4.
    pub const BACKLOG: u32 = 4096;
    /// Whoever is in the group of the process may connect.
    pub const MODE: u32 = 0o660;

    /// Whether nobody wrote anything about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ListenerSocket {
    fn default() -> Self {
        Self {
            backlog: Self::BACKLOG,
            // Middleboxes drop such segments now and then, and an early request may come twice.
            fast_open: Limit::Off,
            nodelay: true,
            keepalive: Limit::Off,
            mark: None,
            dscp: None,
            ipv6_only: false,
            transparent: false,
            mode: Self::MODE,
        }
    }
}

/// Settings of the connections to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamSocket {
    /// Whether the first data goes out with the first segment.
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub fast_open: bool,
    /// Whether small pieces are sent at once.
    #[serde(skip_serializing_if = "is_true")]
    pub nodelay: bool,
    /// Signs of life on quiet connections.
    #[serde(skip_serializing_if = "Limit::is_off")]
    pub keepalive: Limit<KeepAlive>,
    /// The mark of its packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// The differentiated services code point of its packets, 0 to 63.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
}

impl UpstreamSocket {
    /// Whether nobody wrote anything about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for UpstreamSocket {
    fn default() -> Self {
        Self {
            fast_open: false,
            nodelay: true,
            keepalive: Limit::Off,
            mark: None,
            dscp: None,
        }
    }
}

/// Signs of life on quiet connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct KeepAlive {
    /// How long nothing comes before the first one; whole seconds.
    #[serde(serialize_with = "canonical::time")]
    pub idle: Duration,
    /// How long until the next one, without an answer; whole seconds.
    #[serde(serialize_with = "canonical::time")]
    pub interval: Duration,
    /// After so many without an answer the connection is broken off.
    pub count: u32,
}

impl KeepAlive {
    /// Shorter than the five minutes after which many firewalls forget a connection.
    pub const IDLE: Duration = Duration::from_mins(2);
    /// With [`Self::COUNT`] a dead peer is known a minute later.
    pub const INTERVAL: Duration = Duration::from_secs(15);
    /// As above.
    pub const COUNT: u32 = 4;
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            idle: Self::IDLE,
            interval: Self::INTERVAL,
            count: Self::COUNT,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_default_backlog(backlog: &u32) -> bool {
    *backlog == ListenerSocket::BACKLOG
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_default_mode(mode: &u32) -> bool {
    *mode == ListenerSocket::MODE
}

/// `"0660"`
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&unit::octal_text(*mode))
}
