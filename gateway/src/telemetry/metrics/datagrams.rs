//! The datagrams of one listener: one set of cells per worker, as for requests.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

macro_rules! losses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal),* $(,)?) => {
        /// Why a datagram went nowhere. A closed set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Loss {
            $($(#[doc = $doc])+ $variant),*
        }

        impl Loss {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its stable word.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }
    };
}

losses! {
    /// The listener has `udp.sessions` already.
    Sessions = "sessions",
    /// The client has `udp.sessions_per_client` already.
    SessionsPerClient = "sessions_per_client",
    /// The process holds as much memory as `process.memory` allows.
    Overloaded = "overloaded",
    /// The process has no file descriptor left.
    NoDescriptor = "no_descriptor",
    /// The listener lets nobody new in any more.
    Draining = "draining",
    /// No route or rule is for this client.
    NoRoute = "no_route",
    /// The rule sends nobody anywhere.
    NoTarget = "no_target",
    /// The upstream has no endpoint that takes datagrams.
    NoEndpoint = "no_endpoint",
    /// The endpoint cannot be reached.
    Connect = "connect",
    /// The way to the endpoint takes no more for now.
    UpstreamBusy = "upstream_busy",
    /// It is larger than the way to the endpoint allows.
    TooLarge = "too_large",
    /// The system did not send it to the client.
    Unsent = "unsent",
}

/// The datagrams of one listener.
#[derive(Debug)]
pub struct Datagrams(Box<[OnceLock<Box<Cells>>]>);

#[derive(Debug)]
struct Cells {
    opened: AtomicU64,
    ended: AtomicU64,
    inward: Way,
    outward: Way,
    losses: Box<[AtomicU64]>,
}

#[derive(Debug, Default)]
struct Way {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

/// The sum over all workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatagramReading {
    /// Sessions that began.
    pub opened: u64,
    /// Those of them that are not over.
    pub active: u64,
    /// Datagrams from clients that went to endpoints, and their bytes.
    pub inward: (u64, u64),
    /// Datagrams from endpoints, and their bytes.
    pub outward: (u64, u64),
    /// Datagrams that went nowhere, in the order of [`Loss::ALL`].
    pub losses: Vec<u64>,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            opened: AtomicU64::default(),
            ended: AtomicU64::default(),
            inward: Way::default(),
            outward: Way::default(),
            losses: Loss::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Datagrams {
    /// None yet, for this many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    fn cells(&self, worker: usize) -> Option<&Cells> {
        let cells = self.0.get(worker)?;
        Some(cells.get_or_init(Box::default))
    }

    /// A session begins at `worker`; [`Self::ended`] must follow there.
    pub fn opened(&self, worker: usize) {
        if let Some(cells) = self.cells(worker) {
            add(&cells.opened, 1);
        }
    }

    /// A session is over at `worker`.
    pub fn ended(&self, worker: usize) {
        if let Some(cells) = self.cells(worker) {
            add(&cells.ended, 1);
        }
    }

    /// A datagram went to an endpoint.
    pub fn inward(&self, worker: usize, length: usize) {
        if let Some(cells) = self.cells(worker) {
            cells.inward.add(length);
        }
    }

    /// A datagram came from an endpoint.
    pub fn outward(&self, worker: usize, length: usize) {
        if let Some(cells) = self.cells(worker) {
            cells.outward.add(length);
        }
    }

    /// A datagram went nowhere.
    pub fn lost(&self, worker: usize, loss: Loss) {
        let cells = self.cells(worker);
        if let Some(cell) = cells.and_then(|cells| cells.losses.get(position(loss))) {
            add(cell, 1);
        }
    }

    /// The sum over all workers.
    pub fn read(&self) -> DatagramReading {
        let mut sum = DatagramReading {
            losses: vec![0; Loss::ALL.len()],
            ..DatagramReading::default()
        };
        for cells in self.0.iter().filter_map(OnceLock::get) {
            let ended = get(&cells.ended);
            // Read last, so that what ended has begun too.
            let opened = get(&cells.opened);
            sum.opened = sum.opened.saturating_add(opened);
            let active = opened.saturating_sub(ended);
            sum.active = sum.active.saturating_add(active);
            cells.inward.add_to(&mut sum.inward);
            cells.outward.add_to(&mut sum.outward);
            for (cell, sum) in cells.losses.iter().zip(&mut sum.losses) {
                *sum = sum.saturating_add(get(cell));
            }
        }
        sum
    }
}

impl DatagramReading {
    /// How many went nowhere for this reason.
    pub fn lost(&self, loss: Loss) -> u64 {
        self.losses.get(position(loss)).copied().unwrap_or_default()
    }
}

impl Way {
    fn add(&self, length: usize) {
        add(&self.datagrams, 1);
        add(&self.bytes, u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn add_to(&self, (datagrams, bytes): &mut (u64, u64)) {
        *datagrams = datagrams.saturating_add(get(&self.datagrams));
        *bytes = bytes.saturating_add(get(&self.bytes));
    }
}

/// A worker is the only one who writes its cells.
fn add(cell: &AtomicU64, amount: u64) {
    cell.store(get(cell).wrapping_add(amount), Ordering::Relaxed);
}

fn get(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a field-less enum is its position"
)]
const fn position(loss: Loss) -> usize {
    loss as usize
}
