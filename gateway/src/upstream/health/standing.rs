//! What is known of the health of one endpoint, whatever configuration it belongs to at the moment.

use std::{sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use sluice_config::model::HealthCheck;
use tokio::time::Instant;

use super::streak::Streak;

/// How an endpoint stands.
#[derive(Debug)]
pub(in crate::upstream) struct Standing(Mutex<Record>);

#[derive(Debug)]
struct Record {
    streak: Streak,
    since: SystemTime,
    /// Of the check that made it unhealthy.
    why: Option<Arc<str>>,
    /// When the next check of this kind is due.
    next: Option<(HealthCheck, Instant)>,
}

/// Whether an endpoint can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Nothing speaks against it.
    Healthy,
    /// Its checks fail.
    Unhealthy,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 2] = [Self::Healthy, Self::Unhealthy];

    /// Its word in reports and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is told of the health of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it can take requests.
    pub state: HealthState,
    /// Since when; for one that was never anything else, since it is known.
    pub since: SystemTime,
    /// What speaks against it.
    pub why: Option<Arc<str>>,
}

impl Default for Standing {
    fn default() -> Self {
        Self(Mutex::new(Record {
            streak: Streak::default(),
            since: SystemTime::now(),
            why: None,
            next: None,
        }))
    }
}

impl Standing {
    /// Whether it can be picked.
    pub(in crate::upstream) fn is_available(&self) -> bool {
        !self.0.lock().streak.is_unhealthy
    }

    /// What is told of it.
    pub(in crate::upstream) fn read(&self) -> Health {
        let record = self.0.lock();
        let state = if record.streak.is_unhealthy {
            HealthState::Unhealthy
        } else {
            HealthState::Healthy
        };
        Health {
            state,
            since: record.since,
            why: record.why.clone(),
        }
    }

    /// When the next such check is due; nothing where there was none yet.
    pub(super) fn due(&self, check: &HealthCheck) -> Option<Instant> {
        let record = self.0.lock();
        let (known, due) = record.next.as_ref()?;
        (known == check).then_some(*due)
    }

    /// The next such check is due then.
    pub(super) fn put_off(&self, check: &HealthCheck, due: Instant) {
        self.0.lock().next = Some((check.clone(), due));
    }

    /// Takes the outcome of a check in: why it failed, if it did. Says whether the endpoint is something
    /// else now.
    pub(super) fn note(&self, failure: Option<&str>, check: &HealthCheck) -> bool {
        let mut record = self.0.lock();
        let changed = record.streak.note(failure.is_none(), check);
        if changed {
            record.since = SystemTime::now();
            record.why = failure.map(Arc::from);
        } else if record.streak.is_unhealthy && failure.is_some() {
            // The last reason is the one to be mended.
            record.why = failure.map(Arc::from);
        }
        changed
    }

    /// Nobody asks any more.
    pub(super) fn forget_checks(&self) {
        let mut record = self.0.lock();
        record.next = None;
        if record.streak.is_unhealthy {
            record.since = SystemTime::now();
            record.why = None;
        }
        record.streak = Streak::default();
    }
}
