//! Options of sockets, on either side of the gateway.

use std::{io, net::SocketAddr, os::fd::AsFd};

use sluice_config::model::{KeepAlive, ListenerSocket, UpstreamSocket};
use socket2::{SockRef, TcpKeepalive};

use super::fast_open;

/// What can be set on a socket of TCP at any time. The default is what a fresh one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    nodelay: bool,
    keepalive: Option<KeepAlive>,
    mark: u32,
    dscp: u8,
    /// Of a socket that listens: how many may wait that sent data with their first segment.
    fast_open: u32,
    /// Of a socket that listens: takes what is meant for other addresses.
    transparent: bool,
}

/// An option that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("{option} cannot be set")]
pub struct Unset {
    /// Its key.
    pub option: &'static str,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Of which family a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, and IPv4 where the socket takes both.
    V6,
}

impl From<&ListenerSocket> for Options {
    fn from(model: &ListenerSocket) -> Self {
        Self {
            nodelay: model.nodelay,
            keepalive: model.keepalive.get(),
            mark: model.mark.unwrap_or_default(),
            dscp: model.dscp.unwrap_or_default(),
            fast_open: model.fast_open.get().unwrap_or_default(),
            transparent: model.transparent,
        }
    }
}

impl From<&UpstreamSocket> for Options {
    fn from(model: &UpstreamSocket) -> Self {
        Self {
            nodelay: model.nodelay,
            keepalive: model.keepalive.get(),
            mark: model.mark.unwrap_or_default(),
            dscp: model.dscp.unwrap_or_default(),
            // It is for each connection to decide.
            fast_open: 0,
            transparent: false,
        }
    }
}

impl Family {
    /// That of a socket at `address`.
    pub fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

impl Options {
    /// The same without what is for connections only.
    #[must_use]
    pub fn of_datagrams(self) -> Self {
        Self {
            nodelay: false,
            keepalive: None,
            transparent: false,
            ..self
        }
    }

    /// Sets on `socket`, which has these options, what differs in `next`. What is accepted on a socket that
    /// listens has its options from the beginning (Linux).
    pub fn change(self, next: Self, socket: &impl AsFd, family: Family) -> Result<(), Unset> {
        if self.fast_open != next.fast_open {
            refused("fast_open", fast_open::listen(socket, next.fast_open))?;
        }
        let socket = SockRef::from(socket);
        if self.nodelay != next.nodelay {
            refused("nodelay", socket.set_tcp_nodelay(next.nodelay))?;
        }
        if self.keepalive != next.keepalive {
            refused("keepalive", keep_alive(&socket, next.keepalive))?;
        }
        if self.mark != next.mark {
            refused("mark", socket.set_mark(next.mark))?;
        }
        if self.transparent != next.transparent {
            refused(
                "transparent",
                socket.set_ip_transparent_v4(next.transparent),
            )?;
            if family == Family::V6 {
                refused(
                    "transparent",
                    socket.set_ip_transparent_v6(next.transparent),
                )?;
            }
        }
        if self.dscp != next.dscp {
            // RFC 2474 §3: the upper six bits; the others belong to congestion control.
            let class = u32::from(next.dscp) << 2;
            refused("dscp", socket.set_tos_v4(class))?;
            if family == Family::V6 {
                refused("dscp", socket.set_tclass_v6(class))?;
            }
        }
        Ok(())
    }
}

fn refused(option: &'static str, result: io::Result<()>) -> Result<(), Unset> {
    result.map_err(|source| Unset { option, source })
}

fn keep_alive(socket: &SockRef<'_>, keepalive: Option<KeepAlive>) -> io::Result<()> {
    match keepalive {
        None => socket.set_keepalive(false),
        Some(keepalive) => socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count),
        ),
    }
}
