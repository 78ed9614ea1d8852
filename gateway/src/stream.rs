//! A byte stream to a peer, whatever carries it.

mod ahead;
pub mod fast_open;
mod memory;
mod options;
mod original;
mod pipe;
mod stall;
mod tunnel;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use sluice_certs::{ServerStream, client::ClientStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpStream, UnixStream},
};

pub use ahead::Ahead;
pub use memory::{MemoryListener, MemoryNetwork};
pub use options::{Family, Options, Unset};
pub use original::{Direct, Led};
pub use pipe::{Pipe, Socket};
pub use stall::{Stalled, WriteStall};
pub use tunnel::{Reset, Tunnel};

/// A byte stream to a peer.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// A pipe inside the process, for tests with a paused clock.
    Memory(DuplexStream),
    /// Inside the TLS that a client speaks.
    Tls(ServerStream<Stream>),
    /// TLS with an endpoint, over one of the others.
    ToEndpoint(Box<ClientStream<Self>>),
    /// A stream of an HTTP/2 connection. Dropped before both sides are done, it is reset.
    Tunnel(Pin<Box<dyn Tunnel>>),
    /// One of the others, and what was read off it already.
    Ahead(Box<Ahead>),
}

impl Stream {
    /// The socket, where nothing lies between it and what is read and written.
    pub fn socket(&self) -> Option<Socket<'_>> {
        match self {
            Self::Tcp(stream) => Some(Socket::Tcp(stream)),
            Self::Unix(stream) => Some(Socket::Unix(stream)),
            Self::Ahead(stream) => stream.socket(),
            Self::Memory(_) | Self::Tls(_) | Self::ToEndpoint(_) | Self::Tunnel(_) => None,
        }
    }

    /// Closes it so that the peer does not take what it got for the whole.
    pub fn abort(self) {
        match self {
            Self::Tcp(stream) => {
                // Without it the peer is told that we are done; that is all that can be said then.
                let _told = stream.set_zero_linger();
            }
            Self::Ahead(ahead) => ahead.into_stream().abort(),
            Self::Unix(_)
            | Self::Memory(_)
            | Self::Tls(_)
            | Self::ToEndpoint(_)
            | Self::Tunnel(_) => {}
        }
    }
}

/// Calls `$body` with `$inner` bound to the pinned stream of whichever kind.
macro_rules! each {
    ($stream:expr, $inner:ident => $body:expr) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
            Stream::Unix(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
            Stream::Memory(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
            Stream::Tls(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
            Stream::ToEndpoint(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
            Stream::Tunnel(stream) => {
                let $inner = stream.as_mut();
                $body
            }
            Stream::Ahead(stream) => {
                let $inner = Pin::new(stream);
                $body
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A plain write is the cheaper call.
        if let [slice] = slices {
            return each!(self, stream => stream.poll_write(cx, slice));
        }
        each!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::ToEndpoint(stream) => stream.is_write_vectored(),
            Self::Tunnel(_) => false,
            Self::Ahead(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
