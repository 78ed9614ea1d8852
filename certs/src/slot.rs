//! The place of one certificate: what it is now, and what went wrong last.
//!
//! Renewal puts other pairs into the same slot, so that no plan has to change. What must stay true: a
//! slot that had pairs never loses them because newer ones are broken.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwapOption;
use rustls::{SignatureScheme, sign::CertifiedKey};

use crate::{KeyKind, Pair};

/// The place of one certificate. Handshakes read it without waiting.
#[derive(Debug)]
pub struct Slot {
    name: Box<str>,
    pairs: ArcSwapOption<Pairs>,
    problem: ArcSwapOption<Problem>,
}

/// The pairs of one certificate, one per kind of key; never none.
#[derive(Debug, PartialEq, Eq)]
pub struct Pairs(Box<[Pair]>);

/// What went wrong when something newer was to take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In words.
    pub what: Arc<str>,
    /// When it was seen first.
    pub since: SystemTime,
}

impl Slot {
    /// A place for the certificate `name`, empty.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            pairs: ArcSwapOption::empty(),
            problem: ArcSwapOption::empty(),
        }
    }

    /// The name of the certificate in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is there now.
    pub fn pairs(&self) -> Option<Arc<Pairs>> {
        self.pairs.load_full()
    }

    /// From now on handshakes use `pairs`, and nothing is wrong.
    pub fn set(&self, pairs: Pairs) {
        self.pairs.store(Some(Arc::new(pairs)));
        self.problem.store(None);
    }

    /// What is there stays; something newer cannot be used because of `what`. Gives whether that is
    /// news.
    pub fn fail(&self, what: &str) -> bool {
        let known = self.problem.load();
        if known.as_ref().is_some_and(|known| *known.what == *what) {
            return false;
        }
        self.problem.store(Some(Arc::new(Problem {
            what: what.into(),
            since: SystemTime::now(),
        })));
        true
    }

    /// Nothing is wrong any more.
    pub fn mend(&self) {
        self.problem.store(None);
    }

    /// What went wrong last, until it goes well.
    pub fn problem(&self) -> Option<Problem> {
        self.problem.load().as_deref().cloned()
    }
}

impl Pairs {
    /// None of nothing. Those whose handshakes cost least come first, else in the order given.
    pub fn new(mut pairs: Vec<Pair>) -> Option<Self> {
        pairs.sort_by_key(|pair| matches!(pair.facts().key, KeyKind::Rsa(_) | KeyKind::Other));
        (!pairs.is_empty()).then(|| Self(pairs.into_boxed_slice()))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.0.iter()
    }

    /// Whether every one of them is for `host`: which one a client got, nobody remembers.
    pub fn covers(&self, host: &str) -> bool {
        self.0.iter().all(|pair| pair.facts().covers(host))
    }

    /// The first whose key can sign as the client asks.
    pub(crate) fn for_schemes(&self, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let keys = self.0.iter().map(Pair::certified);
        keys.into_iter()
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
    }
}
