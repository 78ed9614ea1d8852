//! Where a stream was meant to go that the system led here.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::Stream;

/// How streams come here that are meant for somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Led {
    /// Their destination was changed on the way, which the system remembers (`redirect`, `REDIRECT`).
    Redirected,
    /// As they are: our side of them is where they were meant to go (`tproxy`). Has the port of the listener.
    Accepted(u16),
}

/// Why it is not known where a stream was meant to go.
#[derive(Debug, thiserror::Error)]
pub enum Direct {
    /// It came straight to the listener: to pass it on there would be a circle.
    #[error("it was not redirected, but is meant for the listener itself")]
    Itself,
    /// The system does not say.
    #[error("the system does not say where it was meant to go")]
    Unknown(#[from] io::Error),
    /// Nobody redirects a unix socket.
    #[error("only TCP can be redirected")]
    NoTcp,
}

impl Stream {
    /// Where it was meant to go.
    pub fn original_destination(&self, led: Led) -> Result<SocketAddr, Direct> {
        let Self::Tcp(stream) = self else {
            return Err(Direct::NoTcp);
        };
        let local = canonical(stream.local_addr()?);
        let (original, is_itself) = match led {
            Led::Redirected => {
                let original = remembered(stream, local.ip())?;
                (original, original == local)
            }
            Led::Accepted(port) => (local, local.port() == port && is_ours(local.ip())),
        };
        if is_itself {
            return Err(Direct::Itself);
        }
        Ok(original)
    }
}

/// What the system remembers, by the family that is spoken on the wire.
fn remembered(stream: &TcpStream, local: IpAddr) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match local {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    let address = address?.as_socket();
    let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    address.map(canonical).ok_or_else(none)
}

/// Whether it is an address of this machine: nothing else can be bound to.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
