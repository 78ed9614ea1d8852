//! How many connections an upstream may have, over all workers.
//!
//! Connecting, busy and idle ones count. A worker without any may always take one, so that it can
//! serve at all: with `n` workers there are at most `n - 1` above the limit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use sluice_config::model::UpstreamLimits;
use tokio::sync::{Notify, Semaphore};

/// The connections and the waiting requests of one upstream.
#[derive(Debug)]
pub(super) struct Budget {
    limited: bool,
    /// What is left below the limit. Fair: who waits longest is served first, whichever worker.
    free: Semaphore,
    /// Connections above the limit; what is given back pays for them first.
    debt: AtomicUsize,
    waiting: AtomicUsize,
    most_waiting: usize,
    /// Rung when somebody waits, so that workers part with idle connections.
    bells: Mutex<Vec<Arc<Notify>>>,
}

/// A place in the queue; gives it up when dropped.
#[derive(Debug)]
pub(super) struct Waiting<'b>(&'b Budget);

impl Budget {
    pub(super) fn new(limits: &UpstreamLimits) -> Self {
        let limit = limits.connections.get();
        Self {
            limited: limit.is_some(),
            free: Semaphore::new(limit.unwrap_or(0).min(Semaphore::MAX_PERMITS)),
            debt: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most_waiting: limits.pending_requests,
            bells: Mutex::new(Vec::new()),
        }
    }

    /// Takes one connection if the limit or the need of a worker that `has_none` allows it.
    pub(super) fn try_take(&self, has_none: bool) -> bool {
        if !self.limited {
            return true;
        }
        if let Ok(permit) = self.free.try_acquire() {
            permit.forget();
            return true;
        }
        if has_none {
            self.debt.fetch_add(1, Ordering::AcqRel);
        }
        has_none
    }

    /// Takes one connection once it is this caller's turn.
    pub(super) async fn take(&self) {
        // The semaphore is never closed; without a permit there would be nothing to forget.
        if let Ok(permit) = self.free.acquire().await {
            permit.forget();
        }
    }

    /// Gives one connection back.
    pub(super) fn give_back(&self) {
        if !self.limited {
            return;
        }
        let paid = self
            .debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |debt| {
                debt.checked_sub(1)
            });
        if paid.is_err() {
            self.free.add_permits(1);
        }
    }

    /// Takes a place in the queue, unless it is full. `sure` goes in anyway: its connection is
    /// being closed for it.
    pub(super) fn queue(&self, sure: bool) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(self);
        (sure || before < self.most_waiting).then_some(place)
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Asks every worker to close an idle connection.
    pub(super) fn ask(&self) {
        for bell in self.bells.lock().iter() {
            bell.notify_one();
        }
    }

    /// Lets a worker be asked.
    pub(super) fn join(&self, bell: &Arc<Notify>) {
        self.bells.lock().push(Arc::clone(bell));
    }

    /// The worker has no more connections.
    pub(super) fn leave(&self, bell: &Arc<Notify>) {
        self.bells.lock().retain(|other| !Arc::ptr_eq(other, bell));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use sluice_config::model::Limit;

    use super::*;

    fn budget(connections: usize, pending_requests: usize) -> Budget {
        Budget::new(&UpstreamLimits {
            connections: Limit::At(connections),
            pending_requests,
            ..UpstreamLimits::default()
        })
    }

    #[test]
    fn a_worker_without_a_connection_gets_one_above_the_limit() {
        let budget = budget(1, 0);
        assert!(budget.try_take(true));
        assert!(!budget.try_take(false));
        assert!(budget.try_take(true));
    }

    #[test]
    fn what_was_above_the_limit_is_paid_back_first() {
        let budget = budget(1, 0);
        assert!(budget.try_take(true) && budget.try_take(true));
        budget.give_back();
        assert!(!budget.try_take(false), "one is still open");
        budget.give_back();
        assert!(budget.try_take(false));
    }

    #[test]
    fn the_queue_is_bounded_and_places_are_given_up() {
        let budget = budget(1, 1);
        let place = budget.queue(false);
        assert!(place.is_some());
        assert!(budget.queue(false).is_none());
        assert!(budget.queue(true).is_some());
        assert_eq!(budget.waiting(), 1);
        drop(place);
        assert!(budget.queue(false).is_some());
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let budget = Budget::new(&UpstreamLimits {
            connections: Limit::Off,
            pending_requests: 0,
            ..UpstreamLimits::default()
        });
        assert!((0..10_000).all(|_| budget.try_take(false)));
    }
}
