//! What travels: requests and responses with one body type.

use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    error::ProxyError,
    stream::{self, WriteStall},
};

/// A request on its way through the gateway.
pub type Request = http::Request<Body>;

/// A response on its way through the gateway.
pub type Response = http::Response<Body>;

/// A body that streams through a box.
pub type Stream = Pin<Box<dyn HttpBody<Data = Bytes, Error = ProxyError>>>;

/// The one body type of the data path. Bodies stay on their worker, so they need not be `Send`.
#[derive(Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// All of it is here.
    Full(Bytes),
    /// It arrives piece by piece.
    Stream(Stream),
    /// None: the connection went over to another protocol (101), or to a tunnel (2xx to CONNECT).
    /// Counts as empty.
    Tunnel(Box<Tunnel>),
}

/// A connection to an endpoint that went over to another protocol.
pub struct Tunnel {
    /// What was asked for and granted; none after CONNECT.
    pub protocol: Option<HeaderValue>,
    /// The connection, or a stream of one.
    pub stream: WriteStall<stream::Stream>,
    /// What came behind the head of the answer.
    pub ahead: Bytes,
    /// What counts it; to be dropped once it is closed.
    pub hold: Box<dyn Any>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tunnel").field(&self.protocol).finish()
    }
}

impl Body {
    /// A body that streams from `inner`.
    pub fn stream(inner: impl HttpBody<Data = Bytes, Error = ProxyError> + 'static) -> Self {
        Self::Stream(Box::pin(inner))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Stream(_) => "Stream",
            Self::Tunnel(_) => "Tunnel",
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty | Self::Tunnel(_) => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Tunnel(_) => true,
            Self::Full(_) => false,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Full(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}
