//! Counters: one shard per worker, written without contention, summed when read. What concerns one
//! listener, route or upstream is counted in the [`Traffic`] that it holds.

mod datagrams;
mod handshakes;
mod sniffed;
pub mod text;
mod traffic;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub use datagrams::{DatagramReading, Datagrams, Loss};
pub use handshakes::{HANDSHAKE_KINDS, HandshakeReading, Handshakes};
pub use sniffed::Sniffed;
pub use traffic::{BOUNDS, CLASSES, Event, Outcome, Reading, Traffic};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),* $(,)?) => {
        /// What is counted. Each has a stable name without the `sluice_` prefix.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant),*
        }

        impl Counter {
            /// Every counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// What it counts, in a sentence.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+)),*
                }
            }
        }
    };
}

counters! {
    /// Client connections accepted.
    ConnectionsAccepted = "connections_accepted_total",
    /// Client connections closed at once because a limit was reached.
    ConnectionsRefused = "connections_refused_total",
    /// Fresh client connections handed to a less loaded worker.
    ConnectionsHandedOver = "connections_handed_over_total",
    /// Client connections that began with a PROXY header of a trusted proxy.
    ProxyHeaders = "proxy_headers_total",
    /// Client connections closed because their PROXY header was missing, malformed or late.
    ProxyHeadersRefused = "proxy_headers_refused_total",
    /// HTTP/2 connections closed because their client sent too much to no purpose.
    Floods = "connections_flooded_total",
    /// `accept` failed.
    AcceptErrors = "accept_errors_total",
    /// Accepting paused because the next descriptor would have been of the reserve.
    AcceptPauses = "accept_pauses_total",
    /// Requests that ended, whatever came of them.
    Requests = "requests_total",
    /// Requests that the gateway answered itself, refusals by the HTTP codec included.
    RequestsRefused = "requests_refused_total",
    /// Header fields dropped because their name contains an underscore.
    UnderscoreHeadersDropped = "underscore_headers_dropped_total",
    /// Requests whose task panicked.
    Panics = "panics_total",
    /// Client connections that went over to another protocol.
    UpgradesStarted = "upgrades_total",
    /// Those of them that ended; the difference is how many there are.
    UpgradesEnded = "upgrades_ended_total",
    /// Raw streams that began.
    StreamsOpened = "streams_opened_total",
    /// Raw streams that ended; the difference is how many there are.
    StreamsClosed = "streams_closed_total",
    /// Attempts to send a request to an endpoint.
    UpstreamAttempts = "upstream_attempts_total",
    /// Attempts repeated because a reused connection had died.
    UpstreamRetries = "upstream_retries_total",
    /// Requests that `fault` of their rule held back.
    FaultsDelayed = "faults_delayed_total",
    /// Requests that `fault` of their rule answered.
    FaultsAborted = "faults_aborted_total",
    /// Connections opened to endpoints.
    UpstreamConnections = "upstream_connections_total",
    /// Connections to endpoints that could not be opened.
    UpstreamConnectFailures = "upstream_connect_failures_total",
    /// Look-ups of endpoint names that failed.
    DnsFailures = "dns_failures_total",
    /// Access log lines dropped because the sink was too slow.
    AccessLogDropped = "access_log_dropped_total",
    /// Spans that a receiver of traces took.
    SpansExported = "trace_spans_exported_total",
    /// Spans dropped because the queue was full or the receiver did not take them.
    SpansDropped = "trace_spans_dropped_total",
    /// Configurations that took effect.
    ReloadsApplied = "reloads_applied_total",
    /// Configurations that were refused.
    ReloadsRefused = "reloads_refused_total",
}

/// The counters of one worker, or of the control runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shard {
    cells: Arc<[AtomicU64]>,
    number: usize,
    workers: usize,
}

impl Shard {
    fn new(number: usize, workers: usize) -> Self {
        Self {
            cells: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            number,
            workers,
        }
    }

    /// Whose it is: that of a worker, from 0, or how many there are.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Cells of every worker for another object.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::new(Traffic::new(self.workers))
    }

    /// Cells of every worker for the datagrams of another listener.
    pub fn datagrams(&self) -> Arc<Datagrams> {
        Arc::new(Datagrams::new(self.workers))
    }

    /// Cells of every worker for the handshakes of another object.
    pub fn handshakes(&self) -> Arc<Handshakes> {
        Arc::new(Handshakes::new(self.workers))
    }

    /// Adds one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    pub fn add(&self, counter: Counter, amount: u64) {
        if let Some(cell) = self.cells.get(position(counter)) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn get(&self, counter: Counter) -> u64 {
        self.cells
            .get(position(counter))
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a field-less enum is its position"
)]
const fn position(counter: Counter) -> usize {
    counter as usize
}

/// Every shard of the process.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<[Shard]>);

impl Metrics {
    /// One shard per worker and one for the control runtime.
    pub fn new(workers: usize) -> Self {
        Self(
            (0..=workers)
                .map(|number| Shard::new(number, workers))
                .collect(),
        )
    }

    /// The shard of worker `number`, from 0.
    pub fn worker(&self, number: usize) -> Shard {
        self.0.get(number).unwrap_or(self.last()).clone()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The shard of everything that is no worker.
    pub fn control(&self) -> Shard {
        self.last().clone()
    }

    #[expect(clippy::expect_used, reason = "`new` makes at least one shard")]
    fn last(&self) -> &Shard {
        self.0.last().expect("at least one shard")
    }

    /// The sum over all shards.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.0.iter().map(|shard| shard.get(counter)).sum()
    }
}
