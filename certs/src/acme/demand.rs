//! Certificates that are ordered when a client asks for a host: who may be waited for, and for how long.
//!
//! Handshakes come here for hosts that no certificate is for. What is held is found without a lock; what
//! is not is asked of the keeper, by a bounded number of handshakes, each for a bounded time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use tokio::sync::{mpsc, oneshot};

use crate::{Pairs, Slot, name};

/// How long a handshake waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many handshakes wait.
const WAITING: usize = 100;

/// Why there is no certificate for a host that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither the list nor who is asked allows it.
    #[error("the host is not allowed")]
    NotAllowed,
    /// Who is to be asked does not answer.
    #[error("nobody says whether the host is allowed")]
    NoOpinion,
    /// More orders than the rate allows.
    #[error("too many certificates were ordered on demand")]
    Rate,
    /// Too many handshakes are waiting.
    #[error("too many handshakes wait for certificates")]
    Crowd,
    /// It takes too long. It may be there next time.
    #[error("the certificate was not there in time")]
    Late,
    /// The order failed, and the next one has to wait.
    #[error("the last order failed: {0}")]
    Failed(String),
}

impl Denied {
    /// A stable word for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::NoOpinion => "no_opinion",
            Self::Rate => "rate",
            Self::Crowd => "crowd",
            Self::Late => "late",
            Self::Failed(_) => "failed",
        }
    }
}

/// What a handshake asks the keeper.
pub(super) struct Request {
    pub(super) issuer: String,
    pub(super) host: String,
    pub(super) reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<(), Denied>>;

/// By host: who it was ordered from, and its place.
type Slots = HashMap<Box<str>, (Box<str>, Arc<Slot>), RandomState>;

/// The certificates that were ordered on demand.
#[derive(Debug)]
pub(super) struct Desk {
    held: ArcSwap<Slots>,
    waiting: AtomicUsize,
    requests: mpsc::Sender<Request>,
}

impl Desk {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, asked) = mpsc::channel(WAITING);
        let desk = Self {
            held: ArcSwap::default(),
            waiting: AtomicUsize::new(0),
            requests,
        };
        (desk, asked)
    }

    /// The pairs for `host`, ordered from `issuer` if there are none.
    pub(super) async fn demand(&self, issuer: &str, host: &str) -> Result<Arc<Pairs>, Denied> {
        let host = name::normal(host);
        if let Some(pairs) = self.find(issuer, &host) {
            return Ok(pairs);
        }
        // A certificate for an address or for a name without a dot is nobody's wish.
        if !name::is_host(&host)
            || host.starts_with("*.")
            || !host.contains('.')
            || name::address(&host).is_some()
        {
            return Err(Denied::NotAllowed);
        }
        let _place = Place::take(&self.waiting).ok_or(Denied::Crowd)?;
        let (reply, answer) = oneshot::channel();
        let request = Request {
            issuer: issuer.to_owned(),
            host: host.to_string(),
            reply,
        };
        self.requests.try_send(request).map_err(|_| Denied::Crowd)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer?,
            // The keeper is gone, or busy for longer than this client has time.
            Ok(Err(_)) | Err(_) => return Err(Denied::Late),
        }
        self.find(issuer, &host).ok_or(Denied::Late)
    }

    /// The pairs for `host`, which is normal, if they were ordered from `issuer`.
    pub(super) fn find(&self, issuer: &str, host: &str) -> Option<Arc<Pairs>> {
        let held = self.held.load();
        let (from, slot) = held.get(host)?;
        slot.pairs().filter(|_| **from == *issuer)
    }

    /// What is held from now on: host, issuer and place of each.
    pub(super) fn hold(&self, slots: impl Iterator<Item = (Box<str>, (Box<str>, Arc<Slot>))>) {
        self.held.store(Arc::new(slots.collect()));
    }
}

/// A handshake's place among those that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        // Counted first, given back on drop if it was one too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
