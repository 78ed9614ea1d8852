//! What is accepted on and what comes of it: TCP and unix sockets alike.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net,
    },
};

use sluice_config::model::ListenerSocket;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::stream::{Family, Options, Stream, Unset};

/// Stands in for both addresses of a connection over a unix socket, which has none: for limits, matches and
/// `trusted_proxies` its peer is one on this machine.
pub const NEAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A bound socket; non-blocking, known to no runtime.
#[derive(Debug)]
pub enum Listening {
    /// One of TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket, perhaps one of several names of the same.
    Unix(net::UnixListener),
}

/// A bound socket that the runtime watches.
#[derive(Debug)]
pub(super) enum Watched {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that the runtime watches.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that no runtime knows.
#[derive(Debug)]
pub enum Loose {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(net::UnixStream),
}

impl Listening {
    /// Lets the runtime watch it.
    pub(super) fn watch(self) -> io::Result<Watched> {
        Ok(match self {
            Self::Tcp(socket) => Watched::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket) => Watched::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// The next connection that waits, by the system call itself.
    pub(super) fn accept(&self) -> io::Result<(Loose, SocketAddr)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                (Loose::Tcp(stream), peer)
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                (Loose::Unix(stream), NEAR)
            }
        })
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Watched {
    pub(super) async fn accept(&self) -> io::Result<(Accepted, SocketAddr)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                (Accepted::Tcp(stream), peer)
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                (Accepted::Unix(stream), NEAR)
            }
        })
    }

    /// Changes its settings: what is accepted from now on has them. What is set only once stays.
    pub(super) fn change(
        &self,
        before: &ListenerSocket,
        next: &ListenerSocket,
    ) -> Result<(), Unset> {
        if before.backlog != next.backlog {
            // To listen once more is how it is said.
            let backlog = i32::try_from(next.backlog).unwrap_or(i32::MAX);
            let unset = |source| Unset {
                option: "backlog",
                source,
            };
            SockRef::from(self).listen(backlog).map_err(unset)?;
        }
        let Self::Tcp(socket) = self else {
            return Ok(());
        };
        let family = match socket.local_addr() {
            Ok(SocketAddr::V6(_)) => Family::V6,
            Ok(SocketAddr::V4(_)) | Err(_) => Family::V4,
        };
        Options::from(before).change(next.into(), self, family)
    }

    /// Takes it away from the runtime.
    pub(super) fn release(self) -> io::Result<Listening> {
        Ok(match self {
            Self::Tcp(socket) => Listening::Tcp(socket.into_std()?),
            Self::Unix(socket) => Listening::Unix(socket.into_std()?),
        })
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Accepted {
    /// Takes it away from the runtime.
    pub(super) fn release(self) -> io::Result<Loose> {
        Ok(match self {
            Self::Tcp(stream) => Loose::Tcp(stream.into_std()?),
            Self::Unix(stream) => Loose::Unix(stream.into_std()?),
        })
    }

    /// The stream, and our side of it.
    pub(super) fn into_stream(self) -> io::Result<(Stream, SocketAddr)> {
        Ok(match self {
            Self::Tcp(stream) => {
                let local = stream.local_addr()?;
                (Stream::Tcp(stream), local)
            }
            Self::Unix(stream) => (Stream::Unix(stream), NEAR),
        })
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Loose {
    /// Lets the runtime of this thread watch it.
    pub(super) fn watch(self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(stream) => Accepted::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Accepted::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// The same under the lowest number that is free by now.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl AsFd for Loose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
