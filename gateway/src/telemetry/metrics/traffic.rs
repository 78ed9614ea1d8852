//! The traffic of one object (a listener, a route, an upstream): one set of cells per worker.
//!
//! What must stay true: a worker writes its own cells and no others, so that writing needs neither a
//! lock nor an atomic addition; objects hold their [`Traffic`], so that nobody looks one up; an object
//! that nobody uses costs a pointer per worker.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::Sniffed;

/// Upper bounds of the durations that are told apart, in nanoseconds and as labels in seconds. From
/// a cached answer on the same machine to a long poll.
pub const BOUNDS: [(u64, &str); 14] = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (10_000_000_000, "10.0"),
    (60_000_000_000, "60.0"),
];

/// Classes of status codes, in the order of [`Reading::classes`].
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What happens to an object besides its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client connection began.
    Connection,
    /// A client connection was closed at once, because a limit was reached.
    Refused,
    /// An HTTP/2 stream was reset, because its client broke the protocol.
    Broken,
    /// A request was sent to an endpoint, or a connection for it was tried.
    Attempt,
    /// An attempt was repeated.
    Retry,
    /// It was clear what a client connection is for, where that has to be found out.
    Sniffed(Sniffed),
}

/// How many kinds of [`Event`] there are besides those below one another.
const SINGLE: usize = 5;

/// How many kinds of [`Event`] there are.
const EVENTS: usize = SINGLE + Sniffed::ALL.len();

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// What the client was told, or would have been.
    pub status: u16,
    /// The reason word of its verdict, from the table of failures.
    pub reason: Option<&'static str>,
    /// From its head to the end of its answer.
    pub duration: Duration,
    /// Of the request body; of a raw stream, what was not counted while it ran.
    pub bytes_in: u64,
    /// Of the response body; as above.
    pub bytes_out: u64,
}

/// The traffic of one object.
#[derive(Debug)]
pub struct Traffic {
    requests: Lanes,
    /// Raw streams count in the same cells as requests would, without classes.
    streams: Lanes,
}

/// The cells of each worker.
type Lanes = Box<[OnceLock<Box<Cells>>]>;

/// What one worker has counted for one object.
#[derive(Debug, Default)]
struct Cells {
    begun: AtomicU64,
    classes: [AtomicU64; CLASSES.len()],
    /// Not cumulative; the last one is for everything above the largest bound.
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    events: [AtomicU64; EVENTS],
    /// By reason word: a closed set. Only failures come here.
    reasons: Mutex<BTreeMap<&'static str, u64>>,
}

/// The sum over all workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests under way.
    pub active: u64,
    /// Requests that ended, by [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// How many lasted at most as long as each of [`BOUNDS`], and all.
    pub durations: [u64; BOUNDS.len() + 1],
    /// What they lasted together.
    pub nanoseconds: u64,
    /// Of request bodies.
    pub bytes_in: u64,
    /// Of response bodies.
    pub bytes_out: u64,
    /// Failures by reason word.
    pub reasons: BTreeMap<&'static str, u64>,
    events: [u64; EVENTS],
}

impl Traffic {
    /// Nothing yet, for this many workers.
    pub fn new(workers: usize) -> Self {
        let lanes = || (0..workers.max(1)).map(|_| OnceLock::new()).collect();
        Self {
            requests: lanes(),
            streams: lanes(),
        }
    }

    /// A request begins at `worker`; [`Self::end`] must follow there.
    pub fn begin(&self, worker: usize) {
        if let Some(cells) = cells(&self.requests, worker) {
            add(&cells.begun, 1);
        }
    }

    /// A request has ended at `worker`.
    pub fn end(&self, worker: usize, outcome: &Outcome) {
        if let Some(cells) = cells(&self.requests, worker) {
            cells.end(outcome);
        }
    }

    /// A raw stream begins at `worker`; [`Self::end_stream`] must follow there.
    pub fn begin_stream(&self, worker: usize) {
        if let Some(cells) = cells(&self.streams, worker) {
            add(&cells.begun, 1);
        }
    }

    /// So many more bytes have gone through a raw stream at `worker`, of those that the outcome of its end
    /// does not count.
    pub fn carry_stream(&self, worker: usize, inward: u64, outward: u64) {
        if let Some(cells) = cells(&self.streams, worker) {
            add(&cells.bytes_in, inward);
            add(&cells.bytes_out, outward);
        }
    }

    /// A raw stream has ended at `worker`.
    pub fn end_stream(&self, worker: usize, outcome: &Outcome) {
        if let Some(cells) = cells(&self.streams, worker) {
            cells.end(outcome);
        }
    }

    /// Something happened at `worker`.
    pub fn count(&self, worker: usize, event: Event) {
        let cells = cells(&self.requests, worker);
        if let Some(cell) = cells.and_then(|cells| cells.events.get(place(event))) {
            add(cell, 1);
        }
    }

    /// The sum over all workers.
    pub fn read(&self) -> Reading {
        sum(&self.requests)
    }

    /// The same of raw streams.
    pub fn read_streams(&self) -> Reading {
        sum(&self.streams)
    }
}

fn cells(lanes: &Lanes, worker: usize) -> Option<&Cells> {
    let cells = lanes.get(worker)?;
    Some(cells.get_or_init(Box::default))
}

fn sum(lanes: &Lanes) -> Reading {
    let mut sum = Reading::default();
    for cells in lanes.iter().filter_map(OnceLock::get) {
        cells.add_to(&mut sum);
    }
    // From counts per bucket to counts up to its bound.
    let mut below = 0_u64;
    for count in &mut sum.durations {
        below = below.saturating_add(*count);
        *count = below;
    }
    sum
}

impl Cells {
    fn end(&self, outcome: &Outcome) {
        let class = usize::from(outcome.status / 100).clamp(1, CLASSES.len());
        if let Some(cell) = class.checked_sub(1).and_then(|at| self.classes.get(at)) {
            add(cell, 1);
        }
        let nanoseconds = u64::try_from(outcome.duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|(bound, _)| nanoseconds <= *bound)
            .unwrap_or(BOUNDS.len());
        if let Some(cell) = self.durations.get(bucket) {
            add(cell, 1);
        }
        add(&self.nanoseconds, nanoseconds);
        add(&self.bytes_in, outcome.bytes_in);
        add(&self.bytes_out, outcome.bytes_out);
        if let Some(reason) = outcome.reason {
            let mut reasons = self.reasons.lock();
            let count = reasons.entry(reason).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn add_to(&self, sum: &mut Reading) {
        let mut ended = 0_u64;
        for (cell, sum) in self.classes.iter().zip(&mut sum.classes) {
            let count = get(cell);
            ended = ended.saturating_add(count);
            *sum = sum.saturating_add(count);
        }
        // Read last, so that what ended meanwhile has begun too.
        let active = get(&self.begun).saturating_sub(ended);
        sum.active = sum.active.saturating_add(active);
        for (cell, sum) in self.durations.iter().zip(&mut sum.durations) {
            *sum = sum.saturating_add(get(cell));
        }
        for (cell, sum) in self.events.iter().zip(&mut sum.events) {
            *sum = sum.saturating_add(get(cell));
        }
        sum.nanoseconds = sum.nanoseconds.saturating_add(get(&self.nanoseconds));
        sum.bytes_in = sum.bytes_in.saturating_add(get(&self.bytes_in));
        sum.bytes_out = sum.bytes_out.saturating_add(get(&self.bytes_out));
        for (reason, count) in self.reasons.lock().iter() {
            let sum = sum.reasons.entry(reason).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

impl Reading {
    /// Whether there was nothing yet.
    pub fn is_empty(&self) -> bool {
        self.active == 0 && self.requests() == 0
    }

    /// Requests that ended.
    pub fn requests(&self) -> u64 {
        self.classes
            .iter()
            .fold(0, |sum, it| sum.saturating_add(*it))
    }

    /// How often something happened.
    pub fn events(&self, event: Event) -> u64 {
        self.events.get(place(event)).copied().unwrap_or_default()
    }
}

/// A worker is the only one who writes its cells: reading and writing apart loses nothing, and costs
/// a tenth of an atomic addition.
fn add(cell: &AtomicU64, amount: u64) {
    cell.store(get(cell).wrapping_add(amount), Ordering::Relaxed);
}

fn get(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

fn place(event: Event) -> usize {
    match event {
        Event::Connection => 0,
        Event::Attempt => 1,
        Event::Retry => 2,
        Event::Refused => 3,
        Event::Broken => 4,
        Event::Sniffed(sniffed) => {
            let found = Sniffed::ALL.iter().position(|it| *it == sniffed);
            SINGLE.saturating_add(found.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, milliseconds: u64) -> Outcome {
        Outcome {
            status,
            reason: (status == 502).then_some("connect"),
            duration: Duration::from_millis(milliseconds),
            bytes_in: 10,
            bytes_out: 100,
        }
    }

    #[test]
    fn what_workers_counted_is_summed_and_buckets_are_cumulative() {
        let traffic = Traffic::new(2);
        for (worker, status, milliseconds) in [(0, 200, 1), (1, 204, 3), (1, 502, 90_000)] {
            traffic.begin(worker);
            traffic.end(worker, &outcome(status, milliseconds));
        }
        traffic.begin(1);
        traffic.count(0, Event::Retry);

        let reading = traffic.read();

        assert_eq!(reading.active, 1);
        assert_eq!(reading.requests(), 3);
        assert_eq!(reading.classes, [0, 2, 0, 0, 1]);
        assert_eq!(reading.durations[..4], [0, 1, 1, 2]);
        assert_eq!(reading.durations[BOUNDS.len() - 1..], [2, 3]);
        assert_eq!((reading.bytes_in, reading.bytes_out), (30, 300));
        assert_eq!(reading.reasons, BTreeMap::from([("connect", 1)]));
        assert_eq!(reading.events(Event::Retry), 1);
    }

    #[test]
    fn an_object_without_traffic_reads_as_nothing_and_so_does_an_unknown_worker() {
        let traffic = Traffic::new(1);
        traffic.begin(7);
        assert_eq!(traffic.read(), Reading::default());
    }
}
