//! How many connections an upstream has, for whoever looks from outside.
//!
//! Each worker keeps its own numbers and writes no others; the ledger only knows where they are.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// The connections of an upstream at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Those that exist or are being made.
    pub open: usize,
    /// Those of them that wait for a request.
    pub idle: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

/// The numbers of all workers.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Ledger(Mutex<Vec<(Weak<AtomicUsize>, Weak<AtomicUsize>)>>);

/// A number that one worker changes and anybody may read.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Gauge(Arc<AtomicUsize>);

impl Ledger {
    /// The numbers of another pool: its open connections and its idle ones.
    pub(in crate::upstream) fn open(&self) -> (Gauge, Gauge) {
        let (open, idle) = (Gauge::default(), Gauge::default());
        let mut pools = self.0.lock();
        pools.retain(|(open, _)| open.strong_count() > 0);
        pools.push((Arc::downgrade(&open.0), Arc::downgrade(&idle.0)));
        (open, idle)
    }

    pub(in crate::upstream) fn read(&self) -> Connections {
        let read = |number: &Weak<AtomicUsize>| {
            let number = number.upgrade();
            number.map_or(0, |number| number.load(Ordering::Relaxed))
        };
        let pools = self.0.lock();
        let mut sum = Connections::default();
        for (open, idle) in pools.iter() {
            sum.open = sum.open.saturating_add(read(open));
            sum.idle = sum.idle.saturating_add(read(idle));
        }
        // A pool may have changed between the two.
        sum.idle = sum.idle.min(sum.open);
        sum
    }
}

impl Gauge {
    pub(in crate::upstream) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::upstream) fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pools_are_summed_while_they_live() {
        let ledger = Ledger::default();
        let (first, idle) = ledger.open();
        let (second, _) = ledger.open();
        first.set(3);
        idle.set(1);
        second.set(2);
        let connections = ledger.read();
        assert_eq!((connections.open, connections.idle), (5, 1));
        drop(first);
        assert_eq!(ledger.read().open, 2);
    }
}
