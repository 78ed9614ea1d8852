//! What a client connection is doing, and the deadlines that follow from it.
//!
//! A connection is idle, receives a head, receives a body, or is answered: [`Phase`], which its stream
//! and its requests keep up to date. [`Clock`] runs `timeouts.idle` until a request begins,
//! then `timeouts.request_head` as a total for its head, however steadily that trickles. What must
//! stay true: whenever nothing is under way that has a clock of its own, this one runs.
//!
//! An HTTP/2 connection does many things at once: each of its requests has a phase of its own, and
//! [`Streams`] is what they have in common.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use sluice_config::model::ListenerTimeouts;
use tokio::time::{Instant, Sleep};

use crate::{
    drain::FIRST_WORD,
    error::{Malformed, ProxyError},
};

/// How long nothing may move on behalf of a client that closed its sending side before it counts as
/// gone. TCP says the same for "I have asked everything" and for "I am no longer here".
const HALF_CLOSED: Duration = Duration::from_secs(1);

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
    /// Nothing has come yet.
    fresh: Cell<bool>,
    /// It is to end, and the first request may be on its way.
    hurried: Cell<bool>,
    /// The client closed its sending side; since when nothing has moved.
    half_closed: Cell<Option<Instant>>,
    /// Of one request among others.
    streams: Option<Rc<Streams>>,
    /// Since when a piece of the response waits for the client's permission to send it.
    pinned: Cell<Option<Instant>>,
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
    /// The client sent too much to no purpose.
    Flood,
    /// The client speaks something else than it said.
    Malformed,
}

impl Phase {
    pub(crate) fn new() -> Self {
        Self {
            at: Cell::new(At::Idle),
            since: Cell::new(Instant::now()),
            ahead: Cell::new(false),
            answered: Cell::new(false),
            gone: Cell::new(None),
            unread: Cell::new(false),
            fresh: Cell::new(true),
            hurried: Cell::new(false),
            half_closed: Cell::new(None),
            streams: None,
            pinned: Cell::new(None),
        }
    }

    /// That of one request among others.
    pub(crate) fn of_stream(streams: &Rc<Streams>) -> Self {
        Self {
            streams: Some(Rc::clone(streams)),
            ..Self::new()
        }
    }

    /// Whether other requests share the connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.streams.is_some()
    }

    /// The connection of a stream is not to take more.
    pub(crate) fn leave(&self) {
        if let Some(streams) = &self.streams {
            streams.leave();
        }
    }

    /// A piece of the response was handed to the codec, or asked for. Only that of a stream matters:
    /// where there are no streams, the socket says who stops reading.
    pub(crate) fn hand(&self, handed: bool) {
        if self.is_stream() {
            self.pinned.set(handed.then(Instant::now));
        }
    }

    /// Since when the codec could not send what it was handed.
    pub(crate) fn pinned(&self) -> Option<Instant> {
        self.pinned.get()
    }

    pub(crate) fn at(&self) -> At {
        self.at.get()
    }

    /// How long it has been doing that.
    pub(crate) fn lasted(&self) -> Duration {
        self.since.get().elapsed()
    }

    pub(crate) fn gone(&self) -> Option<Gone> {
        let connection = || self.streams.as_ref()?.connection.gone();
        self.gone.get().or_else(connection)
    }

    /// Why it ends, if it does.
    pub(crate) fn end_with(&self, gone: Gone) {
        self.gone.set(Some(gone));
    }

    /// The requests that follow have phases of their own.
    pub(crate) fn multiplex(&self) {
        self.at.set(At::Idle);
        self.since.set(Instant::now());
    }

    /// The client sends nothing more.
    pub(crate) fn half_close(&self) {
        if self.half_closed.get().is_none() {
            self.half_closed.set(Some(Instant::now()));
        }
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.half_closed.get().is_some()
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// It is to end. Whether it goes on for a moment, since its first request may be on its way.
    pub(crate) fn hurry(&self) -> bool {
        self.hurried.set(true);
        self.fresh.get() && self.lasted() < FIRST_WORD
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
        match self.gone() {
            Some(Gone::Flood) => ProxyError::Flood,
            Some(Gone::Malformed) => ProxyError::BadRequest(Malformed::Syntax),
            Some(Gone::Stalled) => ProxyError::ClientStalled,
            Some(Gone::HeadTimeout) => ProxyError::HeadTimeout,
            Some(Gone::Idle | Gone::Closed) | None => ProxyError::ClientClosed,
        }
    }

    /// When it is over if nothing changes, and why.
    fn ends(&self, timeouts: &ListenerTimeouts) -> Option<(Instant, Gone)> {
        let since = self.since.get();
        match (self.at(), self.half_closed.get()) {
            (At::Idle, None) if self.hurried.get() => {
                Some((after(since, timeouts.idle.min(FIRST_WORD)), Gone::Idle))
            }
            (At::Idle, None) => Some((after(since, timeouts.idle), Gone::Idle)),
            (At::Idle, Some(_)) => Some((since, Gone::Idle)),
            (At::Head, _) => Some((after(since, timeouts.request_head), Gone::HeadTimeout)),
            (At::Body | At::Answer, Some(since)) => Some((after(since, HALF_CLOSED), Gone::Closed)),
            (At::Body | At::Answer, None) => None,
        }
    }

    /// Bytes came.
    pub(crate) fn arrived(&self) {
        self.fresh.set(false);
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

/// What the requests of an HTTP/2 connection have in common.
#[derive(Debug)]
pub(crate) struct Streams {
    connection: Rc<Phase>,
    open: Cell<usize>,
    /// Since when none is open.
    quiet: Cell<Instant>,
    /// The client is to be told to go.
    leaving: Cell<bool>,
    /// Whoever runs the connection.
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    pub(crate) fn new(connection: Rc<Phase>) -> Rc<Self> {
        Rc::new(Self {
            connection,
            open: Cell::new(0),
            quiet: Cell::new(Instant::now()),
            leaving: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// Since when no request is under way; none while one is. Wakes the caller when that changes.
    pub(crate) fn quiet(&self, cx: &Context<'_>) -> Option<Instant> {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        (self.open.get() == 0).then(|| self.quiet.get())
    }

    /// Whether one of the requests was a reason to tell the client to go.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    fn leave(&self) {
        self.leaving.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// A request is under way until what this gives is dropped.
    pub(crate) fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get().saturating_add(1));
        Open(Rc::clone(self))
    }
}

/// A request under way on an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Open(Rc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        let open = self.0.open.get().saturating_sub(1);
        self.0.open.set(open);
        if open == 0 {
            self.0.quiet.set(Instant::now());
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
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
                self.phase.end_with(gone);
                return Poll::Ready(gone);
            }
            timer.as_mut().reset(deadline);
        }
    }
}

pub(super) fn after(since: Instant, duration: Duration) -> Instant {
    // A duration too long for the clock is as good as a day.
    const DAY: Duration = Duration::from_hours(24);
    since.checked_add(duration).unwrap_or_else(|| since + DAY)
}
