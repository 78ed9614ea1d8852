//! The TLS handshakes of one listener or upstream: one set of cells per worker, as for its requests.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::BOUNDS;

/// Handshakes that succeeded, in the order of [`HandshakeReading::kinds`]: version, and whether the
/// client came back with an earlier session.
pub const HANDSHAKE_KINDS: [(&str, bool); 4] = [
    ("TLSv1.2", false),
    ("TLSv1.2", true),
    ("TLSv1.3", false),
    ("TLSv1.3", true),
];

/// The handshakes of one listener or upstream.
#[derive(Debug)]
pub struct Handshakes(Box<[OnceLock<Box<Cells>>]>);

#[derive(Debug, Default)]
struct Cells {
    kinds: [AtomicU64; HANDSHAKE_KINDS.len()],
    /// Not cumulative; the last one is for everything above the largest bound.
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    /// By reason word: a closed set.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// The sum over all workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandshakeReading {
    /// Those that succeeded, by [`HANDSHAKE_KINDS`].
    pub kinds: [u64; HANDSHAKE_KINDS.len()],
    /// How many of them lasted at most as long as each of [`BOUNDS`], and all.
    pub durations: [u64; BOUNDS.len() + 1],
    /// What they lasted together.
    pub nanoseconds: u64,
    /// The others, by reason word.
    pub failures: BTreeMap<&'static str, u64>,
}

impl Handshakes {
    /// None yet, for this many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    fn cells(&self, worker: usize) -> Option<&Cells> {
        let cells = self.0.get(worker)?;
        Some(cells.get_or_init(Box::default))
    }

    /// One succeeded at `worker`.
    pub fn succeeded(&self, worker: usize, version: &str, resumed: bool, duration: Duration) {
        let Some(cells) = self.cells(worker) else {
            return;
        };
        let kind = HANDSHAKE_KINDS
            .iter()
            .position(|kind| *kind == (version, resumed));
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|(bound, _)| nanoseconds <= *bound)
            .unwrap_or(BOUNDS.len());
        let kind = kind.and_then(|kind| cells.kinds.get(kind));
        for cell in kind.into_iter().chain(cells.durations.get(bucket)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        cells.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// One came to nothing at `worker`, for this reason.
    pub fn failed(&self, worker: usize, reason: &'static str) {
        if let Some(cells) = self.cells(worker) {
            let mut failures = cells.failures.lock();
            let count = failures.entry(reason).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The sum over all workers.
    pub fn read(&self) -> HandshakeReading {
        let mut sum = HandshakeReading::default();
        for cells in self.0.iter().filter_map(OnceLock::get) {
            let kinds = cells.kinds.iter().zip(&mut sum.kinds);
            let durations = cells.durations.iter().zip(&mut sum.durations);
            for (cell, sum) in kinds.chain(durations) {
                *sum = sum.saturating_add(cell.load(Ordering::Relaxed));
            }
            let nanoseconds = cells.nanoseconds.load(Ordering::Relaxed);
            sum.nanoseconds = sum.nanoseconds.saturating_add(nanoseconds);
            for (reason, count) in &*cells.failures.lock() {
                let all = sum.failures.entry(reason).or_default();
                *all = all.saturating_add(*count);
            }
        }
        // From counts per bucket to counts up to its bound.
        let mut below = 0_u64;
        for count in &mut sum.durations {
            below = below.saturating_add(*count);
            *count = below;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_of_all_workers_are_summed_by_kind_and_reason() {
        let handshakes = Handshakes::new(2);
        handshakes.succeeded(0, "TLSv1.3", false, Duration::from_millis(2));
        handshakes.succeeded(1, "TLSv1.3", true, Duration::from_millis(1));
        handshakes.failed(1, "timeout");
        handshakes.failed(0, "timeout");

        let reading = handshakes.read();

        assert_eq!(reading.kinds, [0, 0, 1, 1]);
        assert_eq!(reading.durations[..4], [0, 1, 2, 2]);
        assert_eq!(reading.nanoseconds, 3_000_000);
        assert_eq!(reading.failures, BTreeMap::from([("timeout", 2)]));
    }
}
