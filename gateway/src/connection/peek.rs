//! Reads what a client says first, and keeps it for whoever goes on with the connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use crate::stream::Stream;

/// Room for the first words of almost every client; held only while there is something to read.
const BUFFER: usize = 4 << 10;

/// A stream, and what was read of it.
#[derive(Debug)]
pub(super) struct Peek {
    stream: Stream,
    bytes: BytesMut,
}

impl Peek {
    pub(super) fn new(stream: Stream) -> Self {
        let (ahead, stream) = stream.split_ahead();
        Self {
            stream,
            bytes: ahead.into(),
        }
    }

    /// Everything that was read, but for what was skipped.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads once more; gives how much came, 0 at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [0; BUFFER];
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.bytes.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads once more; gives how much came, 0 at the end.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// Answers a beginning of `length` bytes, which nobody else is to see.
    pub(super) async fn answer(&mut self, length: usize, word: &[u8]) -> io::Result<()> {
        self.bytes.advance(length.min(self.bytes.len()));
        self.stream.write_all(word).await
    }

    /// Says a last word. Without the end of the stream some clients take it for a broken connection.
    pub(super) async fn part(mut self, word: &[u8]) -> io::Result<()> {
        self.stream.write_all(word).await?;
        self.stream.shutdown().await
    }

    /// The stream, from its beginning.
    pub(super) fn into_stream(self) -> Stream {
        self.stream.with_ahead(self.bytes.freeze())
    }

    /// What was read, and the rest.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.bytes.freeze())
    }
}
