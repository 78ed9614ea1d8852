//! A request body on its way: bounded, timed, counted, never held whole.
//!
//! What must stay true: the client is asked for the body only when somebody reads it, and whoever
//! answers can see how far it came ([`Progress`]), wherever the body itself went. A panic on the way to a
//! piece is a failure of its own request: who polls it may carry others.

mod web;

use std::{
    cell::Cell,
    fmt,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sluice_config::model::{self, Limit};
use tokio::time::{Instant, Sleep};

use super::{normalize::clean_trailers, serve::phase::Phase};
use crate::{
    error::{Malformed, ProxyError},
    telemetry::metrics::{Counter, Shard},
};

pub(crate) use web::from_web;

/// Why a request body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// More than this.
    TooLarge(u64),
    /// It paused for too long, or trickles.
    Timeout,
    /// More trailers than a head may have.
    Trailers,
    /// The client left.
    Closed,
    /// Its framing is broken.
    Malformed,
    /// A defect of ours.
    Defect,
}

impl From<Fault> for ProxyError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge(limit) => Self::BodyTooLarge { limit },
            Fault::Timeout => Self::BodyTimeout,
            Fault::Trailers => Self::HeadTooLarge,
            Fault::Closed => Self::ClientClosed,
            Fault::Malformed => Self::BadRequest(Malformed::Body),
            Fault::Defect => Self::Internal,
        }
    }
}

/// How far a request body has come. Shared by the body, wherever it is, and its exchange.
pub(crate) struct Progress {
    phase: Rc<Phase>,
    counters: Shard,
    /// `max_body`, known once the rule is.
    limit: Cell<u64>,
    /// Whether the peer's trailers may speak of forwarding.
    trusted: Cell<bool>,
    bytes: Cell<u64>,
    touched: Cell<bool>,
    ended: Cell<bool>,
    /// It need not come steadily.
    conversing: Cell<bool>,
    /// It need not come at all.
    patient: Cell<bool>,
    fault: Cell<Option<Fault>>,
    /// Asks the codec whether the client broke the stream that it comes on. Where it shares no
    /// connection, there is nobody to ask.
    broken: Option<Box<dyn Fn() -> bool>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Progress");
        fields.field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Progress {
    pub(crate) fn new(phase: Rc<Phase>, counters: Shard) -> Self {
        Self {
            broken: None,
            phase,
            counters,
            limit: Cell::new(u64::MAX),
            trusted: Cell::new(false),
            bytes: Cell::new(0),
            touched: Cell::new(false),
            ended: Cell::new(false),
            conversing: Cell::new(false),
            patient: Cell::new(false),
            fault: Cell::new(None),
        }
    }

    /// Of a stream among others, whose codec is asked so whether the client broke it.
    pub(crate) fn asking(self, broken: impl Fn() -> bool + 'static) -> Self {
        let broken: Option<Box<dyn Fn() -> bool>> = Some(Box::new(broken));
        Self { broken, ..self }
    }

    /// Whether the client broke the stream. Only to be asked when nobody reads the body any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken())
    }

    /// What the rule and the sender allow.
    pub(crate) fn allow(&self, limit: Option<u64>, trusted: bool) {
        self.limit.set(limit.unwrap_or(u64::MAX));
        self.trusted.set(trusted);
    }

    /// From here on it need not come steadily: it is one half of a conversation.
    pub(crate) fn converse(&self) {
        self.conversing.set(true);
    }

    /// From here on it may come as slowly as it likes, or not at all.
    pub(crate) fn be_patient(&self) {
        self.patient.set(true);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Somebody asked for it: the client may have been told to go on, bytes may be gone.
    pub(crate) fn is_touched(&self) -> bool {
        self.touched.get()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.get()
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// What was in it cannot be read.
    fn break_off(&self, fault: Fault) {
        self.fault.set(Some(fault));
    }

    fn end(&self) {
        self.ended.set(true);
        self.phase.received();
    }
}

/// The next piece of a body.
type Next = Poll<Option<Result<Frame<Bytes>, ProxyError>>>;

/// Gives the next piece, or what became of a panic on the way to it.
fn isolated(progress: &Progress, next: impl FnOnce() -> Next) -> Next {
    panic::catch_unwind(AssertUnwindSafe(next)).unwrap_or_else(|_panic| {
        progress.counters.count(Counter::Panics);
        progress.break_off(Fault::Defect);
        Poll::Ready(Some(Err(Fault::Defect.into())))
    })
}

/// How fast a request body has to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The longest pause.
    pause: Duration,
    /// The least bytes per second, averaged over so much waiting.
    rate: u64,
    /// The most bytes of its trailers.
    trailers: usize,
}

impl Pace {
    pub(crate) fn of(listener: &model::Listener) -> Self {
        Self {
            pause: listener.timeouts.request_body,
            rate: match listener.limits.body_rate {
                Limit::Off => 0,
                Limit::At(rate) => rate,
            },
            trailers: listener.limits.head,
        }
    }
}

/// A request body. `B` is what the codec gives.
pub(crate) struct Upload<B> {
    inner: B,
    progress: Rc<Progress>,
    pace: Pace,
    /// Made at the first pause, then kept.
    timer: Option<Pin<Box<Sleep>>>,
    pausing: Option<Instant>,
    /// How long was waited, and what came meanwhile, since the average was last looked at.
    waited: Duration,
    came: u64,
}

impl<B> Upload<B> {
    pub(crate) fn new(inner: B, progress: Rc<Progress>, pace: Pace) -> Self {
        Self {
            inner,
            progress,
            pace,
            timer: None,
            pausing: None,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Only somebody who waits for the body runs this clock, so an endpoint that stopped reading is
    /// never blamed on the client.
    fn paused_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = || Instant::now() + self.pace.pause;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline())));
        if self.pausing.is_none() {
            timer.as_mut().reset(deadline());
            self.pausing = Some(Instant::now());
        }
        ready!(timer.as_mut().poll(cx));
        if self.progress.patient.get() {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether what came is too little for the time that it took.
    fn trickles(&mut self, came: u64) -> bool {
        self.came = self.came.saturating_add(came);
        if let Some(since) = self.pausing.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
        if self.waited < self.pace.pause {
            return false;
        }
        let waited = std::mem::take(&mut self.waited).as_millis();
        let came = u128::from(std::mem::take(&mut self.came));
        let due = u128::from(self.pace.rate).saturating_mul(waited) / 1000;
        came < due && !self.progress.conversing.get() && !self.progress.patient.get()
    }

    fn fail(&self, fault: Fault) -> Next {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault.into())))
    }
}

impl<B: HttpBody<Data = Bytes, Error = Fault> + Unpin> Upload<B> {
    fn next(&mut self, cx: &mut Context<'_>) -> Next {
        let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.paused_too_long(cx));
            return self.fail(Fault::Timeout);
        };
        let mut frame = match next {
            None => {
                self.progress.end();
                return Poll::Ready(None);
            }
            Some(Err(fault)) => return self.fail(fault),
            Some(Ok(frame)) => frame,
        };
        if self.trickles(frame.data_ref().map_or(0, length)) {
            return self.fail(Fault::Timeout);
        }
        if let Some(data) = frame.data_ref() {
            let bytes = self.progress.bytes.get().saturating_add(length(data));
            self.progress.bytes.set(bytes);
            self.progress.phase.moved();
            let limit = self.progress.limit.get();
            if bytes > limit {
                return self.fail(Fault::TooLarge(limit));
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            if size(trailers) > self.pace.trailers {
                return self.fail(Fault::Trailers);
            }
            clean_trailers(trailers, self.progress.trusted.get());
        }
        if self.inner.is_end_stream() {
            self.progress.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl<B: HttpBody<Data = Bytes, Error = Fault> + Unpin> HttpBody for Upload<B> {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        let progress = Rc::clone(&this.progress);
        progress.touched.set(true);
        if progress.fault.get().is_some() {
            return Poll::Ready(None);
        }
        isolated(&progress, || this.next(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        let progress = &self.progress;
        if !progress.ended.get() {
            progress.phase.leave_unread();
        }
        progress.phase.received();
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// As RFC 9113 §6.5.2 counts.
fn size(fields: &HeaderMap) -> usize {
    fields.iter().fold(0_usize, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len())
            .saturating_add(value.len())
            .saturating_add(32)
    })
}

#[cfg(test)]
mod tests;
