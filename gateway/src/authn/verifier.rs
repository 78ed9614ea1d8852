//! Verifies passwords away from the workers, a few at a time, and remembers for a while which were right.
//!
//! What must stay true: a worker's thread never hashes a password; what is remembered is of no use to
//! anybody who reads it; the same credentials that come many times at once are verified once; and however
//! many clients send nonsense, processors are left for everybody else.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::Instant,
};

use super::password::PasswordHash;

/// How many verifications are under way at most, those that wait for a processor included.
const UNDER_WAY: usize = 64;

/// How long credentials that were right are not verified again.
const KEEP: Duration = Duration::from_mins(5);

/// Of how many at most that is remembered.
const KEPT: usize = 16 << 10;

/// Workers seldom ask for the same one of so many.
const SHARDS: usize = 16;

/// Stands for a user, the hash on the list and the password that came.
type Fingerprint = [u8; 32];

/// Verifies passwords. Clones are the same one.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

/// As many verifications are under way as may be.
#[derive(Debug)]
pub(super) struct Busy;

struct Inner {
    /// Of this process, known to nobody: without it a fingerprint cannot be tried against a list of
    /// passwords.
    keys: [[u8; 32]; 2],
    under_way: Arc<Semaphore>,
    running: Arc<Semaphore>,
    shards: [Mutex<Shard>; SHARDS],
    begun: AtomicU64,
}

#[derive(Default)]
struct Shard {
    /// Those that were right, and until when that counts.
    right: HashMap<Fingerprint, Instant>,
    /// The same in the order in which they came.
    order: VecDeque<Fingerprint>,
    pending: HashMap<Fingerprint, Weak<Pending>>,
}

/// A verification that is under way, for all who wait for it.
struct Pending {
    outcome: OnceCell<bool>,
    _place: OwnedSemaphorePermit,
}

impl Default for Verifier {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(Inner {
            keys: rand::random(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            // The other half is for requests.
            running: Arc::new(Semaphore::new((processors / 2).max(1))),
            shards: Default::default(),
            begun: AtomicU64::new(0),
        }))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// How many passwords were hashed so far.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// A number that is always the same for a name, and that nobody can tell.
    pub(super) fn spread(&self, name: &str) -> usize {
        let [key, _] = &self.0.keys;
        let digest = Sha256::new()
            .chain_update(key)
            .chain_update(name)
            .finalize();
        digest
            .iter()
            .take(size_of::<usize>())
            .fold(0, |number, byte| (number << 8) | usize::from(*byte))
    }

    /// Whether `password` is the one of `hash`. What comes of it for somebody who `is_known` is remembered
    /// if it is right.
    pub(super) async fn verify(
        &self,
        name: &str,
        password: &str,
        hash: &Arc<PasswordHash>,
        is_known: bool,
    ) -> Result<bool, Busy> {
        // To compare a part of it would let others in.
        if !hash.takes(password.len()) {
            return Ok(false);
        }
        let fingerprint = self.fingerprint(name, password, hash, is_known);
        let Some(shard) = self.shard(&fingerprint) else {
            return Ok(false);
        };
        let pending = {
            let mut shard = shard.lock();
            if shard.has(&fingerprint) {
                return Ok(true);
            }
            shard.pending(fingerprint, &self.0.under_way)?
        };
        let hashed = pending.outcome.get_or_init(|| self.hash(password, hash));
        let is_right = *hashed.await;
        if is_right && is_known {
            shard.lock().keep(fingerprint);
        }
        Ok(is_right)
    }

    /// Hashes it on another thread, when it is its turn. Goes on there for nobody when it is dropped, and
    /// holds its turn until then.
    async fn hash(&self, password: &str, hash: &Arc<PasswordHash>) -> bool {
        // Nobody closes it.
        let Ok(turn) = Arc::clone(&self.0.running).acquire_owned().await else {
            return false;
        };
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let (password, hash) = (password.to_owned(), Arc::clone(hash));
        let verified = spawn_blocking(move || {
            let is_right = hash.verify(password.as_bytes());
            drop(turn);
            is_right
        });
        verified.await.unwrap_or_else(|error| {
            tracing::error!(%error, "verifying a password failed");
            false
        })
    }

    /// Two keys, one hash around the other: knowing it for one text tells nothing of a longer one.
    fn fingerprint(
        &self,
        name: &str,
        password: &str,
        hash: &PasswordHash,
        is_known: bool,
    ) -> Fingerprint {
        let [inner, outer] = &self.0.keys;
        let mut digest = Sha256::new().chain_update(inner);
        digest.update([u8::from(is_known)]);
        for part in [name, hash.as_str(), password] {
            // With its length, so that no two of them run into each other.
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize();
        let around = Sha256::new().chain_update(outer).chain_update(digest);
        around.finalize().into()
    }

    fn shard(&self, fingerprint: &Fingerprint) -> Option<&Mutex<Shard>> {
        let [first, ..] = fingerprint;
        self.0.shards.get(usize::from(*first) % SHARDS)
    }
}

impl Shard {
    fn has(&self, fingerprint: &Fingerprint) -> bool {
        let until = self.right.get(fingerprint);
        until.is_some_and(|until| Instant::now() < *until)
    }

    /// The verification of it that is under way, or another, if there is a place for one.
    fn pending(
        &mut self,
        fingerprint: Fingerprint,
        places: &Arc<Semaphore>,
    ) -> Result<Arc<Pending>, Busy> {
        let known = self.pending.get(&fingerprint);
        if let Some(known) = known.and_then(Weak::upgrade) {
            return Ok(known);
        }
        let place = Arc::clone(places).try_acquire_owned();
        let pending = Arc::new(Pending {
            outcome: OnceCell::new(),
            _place: place.map_err(|_| Busy)?,
        });
        self.pending.retain(|_, pending| pending.strong_count() > 0);
        self.pending.insert(fingerprint, Arc::downgrade(&pending));
        Ok(pending)
    }

    fn keep(&mut self, fingerprint: Fingerprint) {
        let now = Instant::now();
        if self.right.insert(fingerprint, now + KEEP).is_none() {
            self.order.push_back(fingerprint);
        }
        // All are kept for as long, so that the first is the first to go.
        while let Some(first) = self.order.front() {
            let is_over = self.right.get(first).is_none_or(|until| *until <= now);
            if !is_over && self.right.len() <= KEPT / SHARDS {
                break;
            }
            self.right.remove(first);
            self.order.pop_front();
        }
    }
}
