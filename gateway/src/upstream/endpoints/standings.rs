//! What is known of the health of all endpoints of an upstream, kept under its name.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{super::health::standing::Standing, Goal};

/// Of all upstreams that had one name one after the other: another pool or balance makes nobody well.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Standings {
    known: Mutex<HashMap<Goal, Weak<Standing>>>,
    passed: AtomicU64,
    failed: AtomicU64,
}

/// What came of the checks of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Standings {
    /// That of the endpoint at `goal`: the same as long as anybody remembers it.
    pub(super) fn of(&self, goal: &Goal) -> Arc<Standing> {
        let mut known = self.known.lock();
        if let Some(standing) = known.get(goal).and_then(Weak::upgrade) {
            return standing;
        }
        known.retain(|_, standing| standing.strong_count() > 0);
        let standing = Arc::default();
        known.insert(goal.clone(), Arc::downgrade(&standing));
        standing
    }

    /// One of its endpoints was checked.
    pub(in crate::upstream) fn checked(&self, passed: bool) {
        let count = if passed { &self.passed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What came of its checks.
    pub(in crate::upstream) fn checks(&self) -> Checks {
        Checks {
            passed: self.passed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
