//! What anybody can cause as often as they like, and an operator is to hear of now and then.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Says when it is time again; the same for all workers.
#[derive(Debug)]
pub(super) struct Seldom {
    /// In seconds.
    pause: u64,
    last: AtomicU64,
}

impl Seldom {
    /// Once in so many seconds.
    pub(super) const fn once_in(pause: u64) -> Self {
        let last = AtomicU64::new(0);
        Self { pause, last }
    }

    /// Whether it is time again, for one of those who ask.
    pub(super) fn is_time(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let last = self.last.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        now.saturating_sub(last) >= self.pause
            && self.last.compare_exchange(last, now, order, order).is_ok()
    }
}
