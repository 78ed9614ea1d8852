//! Makes connections to endpoints and speaks HTTP over them.
//!
//! The only home of the HTTP client codecs: what others see is a [`Connection`] that takes one
//! request at a time or a [`Channel`] that takes many, and a typed reason when one fails.

mod channel;
mod dial;
mod http1;
mod probe;
mod question;
mod request;
mod startup;
mod stream;
mod tls;
mod tunnel;
mod wire;

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use rustix::io::Errno;
use sluice_config::model::UpstreamSocket;
use tokio::net::{TcpSocket, UnixSocket};

use super::endpoints::Target;
use crate::{
    error::BoxError,
    pressure::Pressure,
    stream::{Family, MemoryNetwork, Options, Stream, fast_open},
};

pub(super) use channel::Channel;
pub(super) use dial::{Dial, Made, NotMade};
pub(super) use http1::{Broken, Connection, Switched, failure};
pub(super) use hyper::body::Incoming as Whole;
pub(super) use probe::ask;
pub(super) use question::Unwell;
pub(crate) use startup::ask_for_tls;
pub(super) use stream::{Given, Load, Refusal, Sending};
pub(super) use tls::refused;
pub(super) use tunnel::Opening;

/// What endpoints are reached through.
#[derive(Debug, Clone, Default)]
pub enum Connector {
    /// Sockets of the system; names are resolved.
    #[default]
    Network,
    /// A network inside the process; every address is a name in it.
    Memory(MemoryNetwork),
}

impl Connector {
    /// Opens a stream, on which we speak first or not. Takes as long as the peer likes: the caller bounds it. Fails at once, and
    /// without a word to the peer, where its descriptor would be one of the reserve.
    pub(super) async fn open(
        &self,
        target: &Target,
        (settings, speaks_first): (&UpstreamSocket, bool),
        pressure: &Pressure,
    ) -> io::Result<Stream> {
        match (target, self) {
            (Target::Tcp(address), _) => {
                let (socket, family) = match address {
                    SocketAddr::V4(_) => (TcpSocket::new_v4()?, Family::V4),
                    SocketAddr::V6(_) => (TcpSocket::new_v6()?, Family::V6),
                };
                leave_reserve(&socket, pressure)?;
                let set = Options::default().change(settings.into(), &socket, family);
                set.map_err(|unset| io::Error::new(unset.source.kind(), unset))?;
                if settings.fast_open && speaks_first {
                    fast_open::connect(&socket);
                }
                Ok(Stream::Tcp(socket.connect(*address).await?))
            }
            (Target::Unix(path), _) => {
                let socket = UnixSocket::new_stream()?;
                leave_reserve(&socket, pressure)?;
                Ok(Stream::Unix(socket.connect(path).await?))
            }
            (Target::Memory(name), Self::Memory(network)) => {
                Ok(Stream::Memory(network.connect(name).await?))
            }
            (Target::Memory(_), Self::Network) => {
                Err(io::Error::from(io::ErrorKind::AddrNotAvailable))
            }
        }
    }
}

/// As if the system had no descriptor left, where those that it has are not for peers.
fn leave_reserve(socket: &impl AsFd, pressure: &Pressure) -> io::Result<()> {
    if pressure.reserves(socket) {
        return Err(Errno::MFILE.into());
    }
    Ok(())
}

/// Whether there was no descriptor, of the process or of the system.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|none| code == Some(none.raw_os_error()))
}

/// The body of a response, as the codec gives it.
pub(super) enum Incoming {
    Http1(Whole),
    Http2(Given),
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
