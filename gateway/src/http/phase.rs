//! What a client connection is doing, and the deadlines that follow from it.
//!
//! A connection is idle, receives a head, receives a body, or is answered. [`Wire`] is the stream with
//! the clocks of the first two: `timeouts.idle` until a request begins, then `timeouts.request_head`
//! as a total for its head, however steadily that trickles. The codec reports the other transitions
//! through [`Phase`]. What must stay true: a read that may wait for ever has a clock running, except
//! while a request is under way, which has its own.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use sluice_config::model::ListenerTimeouts;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{
    error::ProxyError,
    stream::{Stalled, Stream, WriteStall},
};

/// How long a client that closed its sending side may neither be written to nor finish before it
/// counts as gone. TCP says the same for "I have asked everything" and for "I am no longer here".
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// How long, and how many bytes, a refused client may go on sending before its connection is torn
/// down. Closing at once would reset the connection, and the answer would be lost on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// What a connection is doing. Shared by its stream and its requests.
#[derive(Debug)]
pub(crate) struct Phase {
    at: Cell<At>,
    since: Cell<Instant>,
    /// Bytes arrived after the end of the request under way: the next head has begun.
    ahead: Cell<bool>,
    /// The response went out before the request was here.
    answered: Cell<bool>,
    gone: Cell<Option<Gone>>,
    unread: Cell<bool>,
}

/// The phases of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Nothing is under way.
    Idle,
    /// A head has begun.
    Head,
    /// The head is here, the body is not.
    Body,
    /// The request is here, the response is not out.
    Answer,
}

/// Why a connection ended, where the stream knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The time for a head was over.
    HeadTimeout,
    /// No request came in time.
    Idle,
    /// The client accepted no byte for too long.
    Stalled,
}

impl Phase {
    fn new() -> Self {
        Self {
            at: Cell::new(At::Idle),
            since: Cell::new(Instant::now()),
            ahead: Cell::new(false),
            answered: Cell::new(false),
            gone: Cell::new(None),
            unread: Cell::new(false),
        }
    }

    pub(crate) fn at(&self) -> At {
        self.at.get()
    }

    /// How long it has been doing that.
    pub(crate) fn lasted(&self) -> Duration {
        self.since.get().elapsed()
    }

    pub(crate) fn gone(&self) -> Option<Gone> {
        self.gone.get()
    }

    /// A request's head is here.
    pub(crate) fn begin(&self, has_body: bool) {
        self.at.set(if has_body { At::Body } else { At::Answer });
    }

    /// Its body is here, too, or nobody wants it.
    pub(crate) fn received(&self) {
        if self.at.get() == At::Body {
            self.at.set(At::Answer);
            if self.answered.take() {
                self.end();
            }
        }
    }

    /// Its response is out.
    pub(crate) fn end(&self) {
        if self.at.get() == At::Body {
            self.answered.set(true);
            return;
        }
        let ahead = self.ahead.take();
        self.at.set(if ahead { At::Head } else { At::Idle });
        self.since.set(Instant::now());
    }

    /// A request was answered without reading all of it.
    pub(crate) fn leave_unread(&self) {
        self.unread.set(true);
    }

    /// What a request is told that is dropped before its end.
    pub(crate) fn cause(&self) -> ProxyError {
        match self.gone.get() {
            Some(Gone::Stalled) => ProxyError::ClientStalled,
            Some(Gone::HeadTimeout) => ProxyError::HeadTimeout,
            Some(Gone::Idle) | None => ProxyError::ClientClosed,
        }
    }

    fn arrived(&self) {
        match self.at.get() {
            At::Idle => {
                self.at.set(At::Head);
                self.since.set(Instant::now());
            }
            At::Answer => self.ahead.set(true),
            At::Head | At::Body => {}
        }
    }
}

/// A client's stream with its clocks.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: WriteStall<Stream>,
    phase: Rc<Phase>,
    timeouts: ListenerTimeouts,
    /// Made when first needed, then kept. It may ring early, never late: see [`Wire::rings`].
    timer: Option<Pin<Box<Sleep>>>,
    /// The client closed its sending side; since when nothing was written.
    half_closed: Option<Instant>,
    /// A write is under way.
    writing: bool,
}

impl Wire {
    /// A stream, and what its connection does.
    pub(crate) fn new(stream: Stream, timeouts: ListenerTimeouts) -> (Self, Rc<Phase>) {
        let phase = Rc::new(Phase::new());
        let wire = Self {
            stream: WriteStall::new(stream, timeouts.write_stall),
            phase: Rc::clone(&phase),
            timeouts,
            timer: None,
            half_closed: None,
            writing: false,
        };
        (wire, phase)
    }

    /// Says `farewell` unless half an answer is out, and closes. `refused` clients may still be
    /// sending what nobody read.
    pub(crate) async fn close(mut self, farewell: &[u8], refused: bool) {
        if !farewell.is_empty() && !self.writing && self.stream.write_all(farewell).await.is_err() {
            return;
        }
        let lingers = (refused || self.phase.unread.get()) && self.half_closed.is_none();
        if self.stream.shutdown().await.is_ok() && lingers {
            self.linger().await;
        }
    }

    /// Reads what the client still sends and throws it away.
    async fn linger(&mut self) {
        let mut scratch = vec![0; 4096];
        let mut left = LINGER_BYTES;
        let read = async {
            while let Ok(count @ 1..) = self.stream.read(&mut scratch).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        // The time being over is one of two good ends.
        let _in_time = tokio::time::timeout(LINGER, read).await;
    }

    /// Waits for `deadline`. Moving a timer for every request would cost more than the request's own
    /// look at the clock, so the timer stays where it is as long as that is earlier.
    fn rings(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Nothing to read now.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let since = self.phase.since.get();
        match self.phase.at() {
            At::Body | At::Answer => Poll::Pending,
            At::Idle => {
                ready!(self.rings(cx, after(since, self.timeouts.idle)));
                self.phase.gone.set(Some(Gone::Idle));
                // Read as the end of the stream, which between requests is no error.
                Poll::Ready(Ok(()))
            }
            At::Head => {
                ready!(self.rings(cx, after(since, self.timeouts.request_head)));
                self.phase.gone.set(Some(Gone::HeadTimeout));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// The client sends nothing more. While it is being answered that alone is no reason to stop.
    fn ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase.at() == At::Answer {
            let since = *self.half_closed.get_or_insert_with(Instant::now);
            ready!(self.rings(cx, after(since, HALF_CLOSED)));
        }
        Poll::Ready(Ok(()))
    }

    fn written<T>(&mut self, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.writing = progress.is_pending();
        match &progress {
            Poll::Ready(Ok(_)) => {
                if let Some(since) = &mut self.half_closed {
                    *since = Instant::now();
                }
            }
            Poll::Ready(Err(error)) => {
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stalled>)
                {
                    self.phase.gone.set(Some(Gone::Stalled));
                }
            }
            Poll::Pending => {}
        }
        progress
    }
}

fn after(since: Instant, duration: Duration) -> Instant {
    // A duration too long for the clock is as good as a day.
    const DAY: Duration = Duration::from_hours(24);
    since.checked_add(duration).unwrap_or_else(|| since + DAY)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.half_closed.is_some() {
            return this.ended(cx);
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.wait(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if buffer.filled().len() == before => this.ended(cx),
            Poll::Ready(Ok(())) => {
                this.phase.arrived();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(progress)
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
