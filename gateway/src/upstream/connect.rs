//! Makes connections to endpoints and speaks HTTP over them.
//!
//! The only home of the HTTP client codecs: what others see is a [`Connection`] that takes one
//! request at a time or a [`Channel`] that takes many, and a typed reason when one fails.

mod channel;
mod dial;
mod http1;
mod request;
mod stream;
mod tls;
mod tunnel;
mod wire;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::net::{TcpStream, UnixStream};

use super::endpoints::Target;
use crate::{
    error::BoxError,
    stream::{MemoryNetwork, Stream},
};

pub(super) use channel::Channel;
pub(super) use dial::{Dial, Made, NotMade};
pub(super) use http1::{Broken, Connection, Switched, failure};
pub(super) use hyper::body::Incoming as Whole;
pub(super) use stream::{Given, Load, Refusal, Sending};
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
    /// Opens a stream. Takes as long as the peer likes: the caller bounds it.
    pub(super) async fn open(&self, target: &Target) -> io::Result<Stream> {
        match (target, self) {
            (Target::Tcp(address), _) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            (Target::Unix(path), _) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            (Target::Memory(name), Self::Memory(network)) => {
                Ok(Stream::Memory(network.connect(name).await?))
            }
            (Target::Memory(_), Self::Network) => {
                Err(io::Error::from(io::ErrorKind::AddrNotAvailable))
            }
        }
    }
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
