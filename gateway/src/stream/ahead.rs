//! A stream of which something was read before it was clear for whom.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Socket, Stream};

/// A stream, and what was read off it ahead of whoever reads it.
#[derive(Debug)]
pub struct Ahead {
    bytes: Bytes,
    stream: Stream,
}

impl Stream {
    /// Puts back what was read off it: the next reader gets `bytes` first.
    #[must_use]
    pub fn with_ahead(self, bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return self;
        }
        match self {
            Self::Ahead(mut ahead) => {
                ahead.bytes = [bytes, ahead.bytes].concat().into();
                Self::Ahead(ahead)
            }
            stream => Self::Ahead(Box::new(Ahead { bytes, stream })),
        }
    }

    /// What was put back and not read since, and the stream without it.
    pub fn split_ahead(self) -> (Bytes, Self) {
        match self {
            Self::Ahead(ahead) => (ahead.bytes, ahead.stream),
            stream => (Bytes::new(), stream),
        }
    }
}

impl Ahead {
    /// The socket, once nothing is to be read before what comes in there.
    pub(super) fn socket(&self) -> Option<Socket<'_>> {
        let socket = self.stream.socket();
        socket.filter(|_| self.bytes.is_empty())
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let length = this.bytes.len().min(buffer.remaining());
        buffer.put_slice(this.bytes.get(..length).unwrap_or_default());
        this.bytes.advance(length);
        if this.bytes.is_empty() {
            // Not to be kept for as long as the stream lives.
            this.bytes = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_was_put_back_comes_before_the_rest() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" four").await.unwrap();
        let stream = Stream::Memory(near).with_ahead(Bytes::from_static(b" three"));
        let mut stream = stream.with_ahead(Bytes::from_static(b"one two"));

        let mut first = [0; 3];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"one");
        stream.write_all(b"back").await.unwrap();
        let (ahead, mut stream) = stream.split_ahead();
        assert_eq!(&ahead[..], b" two three");

        let mut rest = [0; 5];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b" four");
        let mut back = [0; 4];
        far.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
        assert!(stream.split_ahead().0.is_empty());
    }
}
