//! How long the last attempt of a request took, and why there was no further one.

use std::time::Duration;

use tokio::time::Instant;

/// The last attempt of a request. Before there is one, everything is absent.
#[derive(Debug, Default)]
pub struct Attempt {
    started: Option<Instant>,
    connect: Option<Micros>,
    first_byte: Option<Micros>,
    failed: Option<Micros>,
    why_last: Option<WhyLast>,
}

/// A time of up to 71 minutes; longer ones are told as that. Every request under way has three.
type Micros = u32;

/// Why a failed attempt was the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyLast {
    /// No endpoint gave a connection.
    NotConnected,
    /// The connection was new, so that it did not die of old age.
    NewConnection,
    /// A part of an answer had come.
    Answered,
    /// It was the second attempt already.
    TriedAgain,
    /// The failure is none that another attempt would mend.
    WouldNotHelp,
    /// The endpoint may have acted on it, and doing that twice is not the same as once.
    NotIdempotent,
    /// A part of the body was sent, and nobody kept it.
    BodySent,
    /// The body of the request broke off.
    BodyBroken,
    /// The time of its rule was over.
    OutOfTime,
}

impl WhyLast {
    /// Its stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::NewConnection => "new_connection",
            Self::Answered => "answered",
            Self::TriedAgain => "tried_again",
            Self::WouldNotHelp => "would_not_help",
            Self::NotIdempotent => "not_idempotent",
            Self::BodySent => "body_sent",
            Self::BodyBroken => "body_broken",
            Self::OutOfTime => "out_of_time",
        }
    }
}

impl Attempt {
    /// One begins: what is known of an earlier one no longer counts.
    pub fn begin(&mut self) {
        *self = Self {
            started: Some(Instant::now()),
            ..Self::default()
        };
    }

    /// It got a connection, or learned that there is none to be had.
    pub fn connected(&mut self, reused: bool) {
        if !reused {
            self.connect = self.since();
        }
    }

    /// The head of the response is here; the request came at `arrived`.
    pub fn answered(&mut self, arrived: Instant) {
        self.first_byte = Some(micros(arrived));
    }

    /// It failed. The first failure counts.
    pub fn fail(&mut self) {
        if self.failed.is_none() {
            self.failed = self.since();
        }
        if self.first_byte.is_some() {
            self.give_up(WhyLast::Answered);
        }
    }

    /// There is no further one. The first reason counts.
    pub fn give_up(&mut self, why: WhyLast) {
        self.why_last.get_or_insert(why);
    }

    /// How long it waited for a new connection.
    pub fn connect(&self) -> Option<Duration> {
        self.connect.map(time)
    }

    /// From the request's head to that of the response.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.map(time)
    }

    /// How long it took to fail.
    pub fn failed(&self) -> Option<Duration> {
        self.failed.map(time)
    }

    /// Why there is no further one, where it failed.
    pub fn why_last(&self) -> Option<WhyLast> {
        self.why_last.filter(|_| self.failed.is_some())
    }

    fn since(&self) -> Option<Micros> {
        self.started.map(micros)
    }
}

fn micros(since: Instant) -> Micros {
    Micros::try_from(since.elapsed().as_micros()).unwrap_or(Micros::MAX)
}

fn time(micros: Micros) -> Duration {
    Duration::from_micros(u64::from(micros))
}
