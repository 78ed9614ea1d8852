//! The byte stream below an upstream connection, with what the codec does not tell.
//!
//! HTTP/1 needs patience: when an origin stops reading but has not finished speaking (it refused a body and closed, say),
//! its answer still counts: the wire swallows what cannot be written any more and lets the reading
//! side find out how it ends.
//!
//! HTTP/2 needs its header blocks looked through: a malformed one must not cost the other responses on
//! the connection, nor pseudo-headers in trailers pass for none.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    frames::Heads,
    stream::{Stalled, Stream, WriteStall},
};

/// What is known of a wire.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Line {
    /// A byte came since the request was sent.
    pub(in crate::upstream) received: Cell<bool>,
    /// How often something came.
    pub(in crate::upstream) reads: Cell<u64>,
    /// The peer accepted nothing for too long.
    pub(in crate::upstream) stalled: Cell<bool>,
    /// Nothing can be written any more.
    pub(in crate::upstream) deaf: Cell<bool>,
}

/// A stream to an endpoint.
#[derive(Debug)]
pub(in crate::upstream) struct Wire {
    inner: WriteStall<Stream>,
    line: Rc<Line>,
    /// Whether failures to write are swallowed.
    tolerant: bool,
    /// Where HTTP/2 is spoken.
    heads: Option<Box<Heads>>,
}

impl Wire {
    /// For HTTP/1, where the answer to a request may still come when its rest is not wanted.
    pub(super) fn tolerant(inner: WriteStall<Stream>, line: Rc<Line>) -> Self {
        Self {
            inner,
            line,
            tolerant: true,
            heads: None,
        }
    }

    /// For HTTP/2, where a request can be ended without the connection: who cannot be written to is
    /// gone.
    pub(super) fn strict(inner: WriteStall<Stream>, line: Rc<Line>) -> Self {
        Self {
            inner,
            line,
            tolerant: false,
            heads: Some(Box::new(Heads::behind(0))),
        }
    }

    /// The stream below, for another protocol.
    pub(super) fn into_inner(self) -> WriteStall<Stream> {
        self.inner
    }

    /// Decides what a failure to write means; `done` is what is reported instead.
    fn judge<T>(&self, outcome: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = outcome else {
            return outcome;
        };
        let stalled = error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stalled>);
        if !self.tolerant || (stalled && !self.line.received.get()) {
            self.line.stalled.set(stalled);
            return Poll::Ready(Err(error));
        }
        self.line.deaf.set(true);
        Poll::Ready(Ok(done))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (inner, line) = (&mut this.inner, &this.line);
        let mut read = |cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>| {
            let before = buffer.filled().len();
            let outcome = Pin::new(&mut *inner).poll_read(cx, buffer);
            if buffer.filled().len() > before {
                line.received.set(true);
                line.reads.set(line.reads.get().wrapping_add(1));
            }
            outcome
        };
        let Some(heads) = &mut this.heads else {
            return read(cx, buffer);
        };
        let outcome = heads.poll_read(cx, buffer, read);
        for found in heads.found() {
            let flaw: &dyn std::error::Error = &found.flaw;
            let stream = found.stream;
            tracing::debug!(stream, flaw, "an endpoint sent a malformed header block");
        }
        outcome
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.line.deaf.get() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.judge(outcome, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = || slices.iter().map(|slice| slice.len()).sum();
        if this.line.deaf.get() {
            return Poll::Ready(Ok(all()));
        }
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.judge(outcome, all())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.line.deaf.get() {
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        this.judge(outcome, ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.line.deaf.get() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
