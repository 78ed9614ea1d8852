//! How long two streams stay joined.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::Parted;

/// How long two streams may stay joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Nothing moves in either direction.
    pub(crate) idle: Option<Duration>,
    /// Altogether.
    pub(crate) whole: Option<Duration>,
}

/// Runs the two bounds. The timer for idle streams is not moved for every byte: it may ring early.
pub(super) struct Clock {
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    whole: Option<Pin<Box<Sleep>>>,
    moved: Instant,
}

impl Clock {
    pub(super) fn new(bounds: Bounds) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        Self {
            idle: bounds.idle.map(|time| (time, sleep(time))),
            whole: bounds.whole.map(sleep),
            moved: Instant::now(),
        }
    }

    /// Ready when a bound is reached; `moved` since the last call.
    pub(super) fn poll(&mut self, moved: bool, cx: &mut Context<'_>) -> Poll<Parted> {
        if let Some(whole) = &mut self.whole
            && whole.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Parted::Expired);
        }
        let Some((limit, timer)) = &mut self.idle else {
            return Poll::Pending;
        };
        if moved {
            self.moved = Instant::now();
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let until = self.moved + *limit;
            if Instant::now() >= until {
                return Poll::Ready(Parted::Idle);
            }
            timer.as_mut().reset(until);
        }
    }
}
