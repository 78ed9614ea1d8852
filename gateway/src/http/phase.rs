//! What a client connection is doing, and the deadlines that follow from it.
//!
//! A connection is idle, receives a head, receives a body, or is answered: [`Phase`], which its stream
//! ([`Wire`]) and its requests keep up to date. [`Clock`] runs `timeouts.idle` until a request begins,
//! then `timeouts.request_head` as a total for its head, however steadily that trickles. What must
//! stay true: whenever nothing is under way that has a clock of its own, this one runs.

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

/// How long nothing may move on behalf of a client that closed its sending side before it counts as
/// gone. TCP says the same for "I have asked everything" and for "I am no longer here".
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
    /// The client closed its sending side; since when nothing has moved.
    half_closed: Cell<Option<Instant>>,
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

/// Why a connection ends, where the codec cannot know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The time for a head was over.
    HeadTimeout,
    /// No request came in time, or none can come any more.
    Idle,
    /// The client closed its sending side and does not read either.
    Closed,
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
            half_closed: Cell::new(None),
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

    /// A piece of a body got on.
    pub(crate) fn moved(&self) {
        if self.half_closed.get().is_some() {
            self.half_closed.set(Some(Instant::now()));
        }
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
            Some(Gone::Idle | Gone::Closed) | None => ProxyError::ClientClosed,
        }
    }

    /// When it is over if nothing changes, and why.
    fn ends(&self, timeouts: &ListenerTimeouts) -> Option<(Instant, Gone)> {
        let since = self.since.get();
        match (self.at(), self.half_closed.get()) {
            (At::Idle, None) => Some((after(since, timeouts.idle), Gone::Idle)),
            (At::Idle, Some(_)) => Some((since, Gone::Idle)),
            (At::Head, _) => Some((after(since, timeouts.request_head), Gone::HeadTimeout)),
            (At::Body | At::Answer, Some(since)) => Some((after(since, HALF_CLOSED), Gone::Closed)),
            (At::Body | At::Answer, None) => None,
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

/// Ends connections on which nothing happens.
#[derive(Debug)]
pub(crate) struct Clock {
    phase: Rc<Phase>,
    timeouts: ListenerTimeouts,
    /// Made when first needed, then kept. Moving it for every request would cost more than looking at
    /// the time when it rings, so it may ring early; never late.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(crate) fn new(phase: Rc<Phase>, timeouts: ListenerTimeouts) -> Self {
        Self {
            phase,
            timeouts,
            timer: None,
        }
    }

    /// Has to be asked after each step of the connection. Ready when its time is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let Some((deadline, gone)) = self.phase.ends(&self.timeouts) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                self.phase.gone.set(Some(gone));
                return Poll::Ready(gone);
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// A client's stream, which notes what happens on it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: WriteStall<Stream>,
    phase: Rc<Phase>,
    /// A write is under way.
    writing: bool,
}

impl Wire {
    /// A stream, and what its connection does.
    pub(crate) fn new(stream: Stream, timeouts: &ListenerTimeouts) -> (Self, Rc<Phase>) {
        let phase = Rc::new(Phase::new());
        let wire = Self {
            stream: WriteStall::new(stream, timeouts.write_stall),
            phase: Rc::clone(&phase),
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
        let lingers =
            (refused || self.phase.unread.get()) && self.phase.half_closed.get().is_none();
        if self.stream.shutdown().await.is_ok() && lingers {
            self.linger().await;
        }
    }

    /// The stream below, for another protocol; none while something of ours is still to be written.
    pub(crate) fn into_stream(self) -> Option<WriteStall<Stream>> {
        (!self.writing).then_some(self.stream)
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

    /// The client sends nothing more. While a request is under way that alone is no reason to stop,
    /// so the codec is not told: the rest of the body may still be on its way through us. If it is
    /// not, the clock ends the wait.
    fn ended(&self) -> Poll<io::Result<()>> {
        if matches!(self.phase.at(), At::Idle | At::Head) {
            return Poll::Ready(Ok(()));
        }
        if self.phase.half_closed.get().is_none() {
            self.phase.half_closed.set(Some(Instant::now()));
        }
        Poll::Pending
    }

    fn written<T>(&mut self, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.writing = progress.is_pending();
        match &progress {
            Poll::Ready(Ok(_)) => self.phase.moved(),
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
        if this.phase.half_closed.get().is_some() {
            return this.ended();
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if buffer.filled().len() == before => this.ended(),
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
