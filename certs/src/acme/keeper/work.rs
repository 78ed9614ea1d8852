//! What the keeper has done beside its loop: ordering one certificate, asking an issuer for its wish,
//! reading what others wrote, looking up a challenge. Each ends with a result for the loop.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use instant_acme::CertificateIdentifier;
use tokio::time::{Instant, MissedTickBehavior};

use super::book::{Record, pick};
use crate::{
    acme::{
        account,
        bundle::{self, Bundle},
        challenge::{Board, Challenge, PublishError},
        issuer::{Issuer, Terms, Wanted},
        order::{self, Issued, OrderError},
        pending::{Pending, Question},
        schedule::{self, Moment},
        words::chain,
    },
    storage::{BREAK, Kind, Lock, POLL, REFRESH, Storage, StorageError, Stored, Version, key},
};

/// No order takes longer. An issuer may take minutes; a name server's record its time to spread.
const WHOLE: Duration = Duration::from_mins(10);
/// How much longer than until the next look of others a challenge that only they can answer waits.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How long a certificate that cannot be stored is tried to be.
const INSIST: Duration = Duration::from_mins(1);

/// What an order needs.
pub(super) struct Order {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) wanted: Wanted,
    pub(super) terms: Arc<Terms>,
    pub(super) pending: Arc<Pending>,
    /// The version that is known here.
    pub(super) known: Option<Version>,
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
    pub(super) forced: bool,
    /// Whether the other replicas know by themselves that it is due.
    pub(super) plain: bool,
}

/// What came of an order.
pub(super) enum Ordered {
    /// There is a new certificate, ordered here.
    Issued(Option<Version>, Bundle),
    /// There is a new certificate, ordered elsewhere.
    Found(Version, Bundle),
    /// Another replica orders it.
    Taken,
    /// It failed, or failed before, and waits.
    Waiting(Record),
    /// The storage is away, or the lock was lost. Nothing is to be concluded about the issuer.
    Away(StorageError),
}

impl Order {
    /// Orders, if nobody else does or did.
    pub(super) async fn run(&self) -> Ordered {
        let lock = match self.terms.storage.lock(&self.key).await {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ordered::Taken,
            Err(error) => return Ordered::Away(error),
        };
        // Whichever ends first: the work, or what entitles to it.
        let ordered = tokio::select! {
            ordered = self.run_locked(&lock) => ordered,
            error = refresh(&*self.terms.storage, &lock) => return Ordered::Away(error),
        };
        if let Err(error) = self.terms.storage.unlock(lock).await {
            tracing::debug!(%error, name = self.name, "a lock was not given back, and ends by itself");
        }
        ordered
    }

    async fn run_locked(&self, lock: &Lock) -> Ordered {
        match self.begin(lock).await {
            Ok(ordered) => ordered,
            Err(error) => Ordered::Away(error),
        }
    }

    async fn begin(&self, lock: &Lock) -> Result<Ordered, StorageError> {
        // What happened before the lock was ours counts.
        if let Some(stored) = self
            .terms
            .storage
            .read(Kind::Certificate, &self.key, None)
            .await?
            && Some(stored.version) != self.known
            && let Ok(bundle) = Bundle::read(&stored.bytes)
        {
            return Ok(Ordered::Found(stored.version, bundle));
        }
        let record = self
            .terms
            .storage
            .read(Kind::Record, &self.key, None)
            .await?;
        let mut record = record.map_or_else(Record::default, |stored| parse_record(&stored));
        let Some(issuer) = pick(&self.terms, &self.wanted, &record, now(), self.forced) else {
            return Ok(Ordered::Waiting(record));
        };
        tracing::info!(name = self.name, issuer = issuer.name, hosts = ?self.wanted.hosts, "ordering a certificate");
        let began = Instant::now();
        let limit = tokio::time::timeout(WHOLE, Box::pin(self.order(&issuer, lock)));
        match limit.await.unwrap_or(Err(OrderError::Undecided)) {
            Ok(Some((made, bundle))) => {
                let took = began.elapsed();
                let until = bundle.pair.facts().not_after;
                tracing::info!(name = self.name, issuer = issuer.name, ?took, %until, "certificate issued");
                let version = self.keep(&issuer, &made, lock).await;
                if !record.tries.is_empty() {
                    let removed = self.terms.storage.remove(Kind::Record, &self.key);
                    removed.await.unwrap_or_default();
                }
                Ok(Ordered::Issued(version, bundle))
            }
            // Another replica is registering us.
            Ok(None) => Ok(Ordered::Taken),
            Err(OrderError::Storage(error) | OrderError::Publish(PublishError::Storage(error))) => {
                Err(error)
            }
            Err(error) => {
                self.fail(&mut record, &issuer, &error, lock).await?;
                Ok(Ordered::Waiting(record))
            }
        }
    }

    /// Writes down that an order failed, so that every replica waits.
    async fn fail(
        &self,
        record: &mut Record,
        issuer: &Issuer,
        error: &OrderError,
        lock: &Lock,
    ) -> Result<(), StorageError> {
        let before = record.tries.get(&issuer.name);
        let at = (now(), rand::random::<f64>());
        let tries = schedule::failed(before, error.failure(), chain(error), at);
        tracing::warn!(
            name = self.name,
            issuer = issuer.name,
            failures = tries.failures,
            again_in = tries.until.saturating_sub(tries.at),
            error = tries.problem,
            "no certificate"
        );
        record.tries.insert(issuer.name.clone(), tries);
        let bytes = Bytes::from(serde_json::to_vec(&record).unwrap_or_default());
        let written = self
            .terms
            .storage
            .write(Kind::Record, &self.key, bytes, lock);
        written.await.map(|_| ())
    }

    async fn order(
        &self,
        issuer: &Issuer,
        lock: &Lock,
    ) -> Result<Option<(Issued, Bundle)>, OrderError> {
        let Some(account) = account::open(issuer, &self.terms.storage).await? else {
            return Ok(None);
        };
        let board = Board {
            pending: &self.pending,
            storage: &*self.terms.storage,
            lock,
            dns: issuer.dns.as_ref(),
        };
        let settle = if self.terms.storage.is_shared() && !self.plain {
            // Others learn of it when they look next, and need a moment for that.
            POLL.saturating_add(SETTLE)
        } else {
            Duration::ZERO
        };
        let terms = order::Terms {
            issuer,
            hosts: &self.wanted.hosts,
            replaces: self.replaces.clone(),
            settle,
            now: now(),
        };
        let done = order::run(&account, board, terms).await;
        if done.as_ref().is_err_and(OrderError::is_stranger) {
            account::forget(issuer, &self.terms.storage).await?;
        }
        let made = done?;
        let text = bundle::write(&issuer.directory, &made.chain, &made.key);
        let bundle = Bundle::read(&text)?;
        Ok(Some((made, bundle)))
    }

    /// Stores a certificate. If that cannot be, it is served all the same: it is ours, and was not free.
    async fn keep(&self, issuer: &Issuer, made: &Issued, lock: &Lock) -> Option<Version> {
        let text = bundle::write(&issuer.directory, &made.chain, &made.key);
        let until = Instant::now() + INSIST;
        loop {
            let written =
                self.terms
                    .storage
                    .write(Kind::Certificate, &self.key, text.clone(), lock);
            match written.await {
                Ok(version) => return Some(version),
                Err(error)
                    if matches!(error, StorageError::LockLost) || Instant::now() >= until =>
                {
                    let error = chain(&error);
                    tracing::error!(
                        name = self.name,
                        error,
                        "a new certificate could not be stored"
                    );
                    return None;
                }
                Err(error) => {
                    tracing::warn!(
                        name = self.name,
                        error = chain(&error),
                        "storing a new certificate"
                    );
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }
}

/// Refreshes a lock for as long as it can be. Ends when it is lost, or as good as.
async fn refresh(storage: &dyn Storage, lock: &Lock) -> StorageError {
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut refreshed = Instant::now();
    loop {
        ticks.tick().await;
        match storage.refresh(lock).await {
            Ok(()) => refreshed = Instant::now(),
            // A hiccup of the storage is none of ours, until others may take over.
            Err(error)
                if matches!(error, StorageError::LockLost) || refreshed.elapsed() >= BREAK =>
            {
                return error;
            }
            Err(error) => tracing::debug!(%error, "refreshing a lock"),
        }
    }
}

/// What is unreadable is as good as none: the next failure writes it anew.
pub(super) fn parse_record(stored: &Stored) -> Record {
    serde_json::from_slice(&stored.bytes).unwrap_or_default()
}

/// Finds what another replica published, and shows it here.
pub(super) async fn look_up(storage: &Arc<dyn Storage>, pending: &Pending, question: &Question) {
    let place = question.place();
    let found = storage.read(Kind::Challenge, &key(&place), None).await;
    let challenge = match found {
        Ok(Some(stored)) => serde_json::from_slice::<Challenge>(&stored.bytes).ok(),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(error = chain(&error), "looking up a challenge");
            None
        }
    };
    if let Some(challenge) = challenge.filter(|challenge| challenge.until > now())
        && let Err(error) = challenge.show(pending)
    {
        tracing::warn!(error = chain(&error), "showing another's challenge");
    }
}

/// The issuer's wish for a certificate, and when to ask again.
pub(super) async fn ask(
    issuer: &Issuer,
    storage: &Arc<dyn Storage>,
    certificate: &CertificateIdentifier<'static>,
) -> (Option<(Moment, Moment)>, Duration) {
    /// When an issuer has no wishes, or has trouble.
    const LATER: Duration = Duration::from_hours(6);
    let answer = async {
        let Some(account) = account::open(issuer, storage).await? else {
            return Ok(None);
        };
        order::window(&account, certificate).await.map(Some)
    };
    match answer.await {
        Ok(Some((window, again))) => (Some(window), again),
        Ok(None) => (None, LATER),
        Err(error) => {
            tracing::debug!(
                issuer = issuer.name,
                error = chain(&error),
                "no renewal information"
            );
            (None, LATER)
        }
    }
}

/// Seconds since 1970, as the clock has it.
pub(super) fn now() -> Moment {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment::try_from(now.as_secs()).unwrap_or(Moment::MAX)
}
