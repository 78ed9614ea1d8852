//! How long two streams stay joined, and when it is told what went through them meanwhile.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::Parted;

/// Between two moments at which it is told what has gone through.
const TELL: Duration = Duration::from_secs(2);

/// How long two streams may stay joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Nothing moves in either direction.
    pub(crate) idle: Option<Duration>,
    /// Altogether.
    pub(crate) whole: Option<Duration>,
}

/// Runs the two bounds. One timer serves idle streams and those that have something to tell; it is not
/// moved for every byte, so that it may ring early.
pub(super) struct Clock {
    idle: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    /// It rings because something has moved that was not told yet.
    tells: bool,
    whole: Option<Pin<Box<Sleep>>>,
    moved: Instant,
}

impl Clock {
    pub(super) fn new(bounds: Bounds) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        Self {
            idle: bounds.idle,
            // Most streams have something to tell by then, and need not move it before.
            timer: sleep(bounds.idle.map_or(TELL, |idle| idle.min(TELL))),
            tells: true,
            whole: bounds.whole.map(sleep),
            moved: Instant::now(),
        }
    }

    /// Ready when a bound is reached; `moved` since the last call. Calls `tell` when it is time to.
    pub(super) fn poll(
        &mut self,
        moved: bool,
        tell: impl Fn(),
        cx: &mut Context<'_>,
    ) -> Poll<Parted> {
        if let Some(whole) = &mut self.whole
            && whole.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Parted::Expired);
        }
        if moved {
            self.moved = Instant::now();
            if !self.tells {
                self.tells = true;
                let soon = self.idle.map_or(TELL, |idle| idle.min(TELL));
                self.timer.as_mut().reset(self.moved + soon);
            }
        }
        while self.tells || self.idle.is_some() {
            ready!(self.timer.as_mut().poll(cx));
            if std::mem::take(&mut self.tells) {
                tell();
            }
            if let Some(idle) = self.idle {
                let until = self.moved + idle;
                if Instant::now() >= until {
                    return Poll::Ready(Parted::Idle);
                }
                self.timer.as_mut().reset(until);
            }
        }
        Poll::Pending
    }
}
