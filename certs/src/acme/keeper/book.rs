//! What the keeper knows of each certificate, and what follows from it at a given time. No input, no
//! output.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Facts, Slot,
    acme::{
        bundle::Bundle,
        issuer::{Issuer, Terms, Wanted},
        schedule::{self, Moment, Tries},
    },
    storage::{Version, key, short_hash},
};

/// How long a name is left alone that another replica is ordering.
const TAKEN: Moment = 2;

/// What failed with which issuer, as it lies in the storage. Gone after a success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) tries: BTreeMap<String, Tries>,
}

impl Record {
    /// The failure that happened last.
    pub(super) fn last(&self) -> Option<(&str, &Tries)> {
        let tries = self
            .tries
            .iter()
            .map(|(issuer, tries)| (issuer.as_str(), tries));
        tries.max_by_key(|(_, tries)| tries.at)
    }
}

/// A certificate that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) wanted: Wanted,
    /// Its name in the storage.
    pub(super) key: String,
    pub(super) slot: Arc<Slot>,
    /// Ordered because a client asked.
    pub(super) on_demand: bool,
    pub(super) held: Option<Bundle>,
    /// The version that was read last, whether it could be used or not.
    pub(super) version: Option<Version>,
    pub(super) record: (Option<Version>, Record),
    /// The issuer's wish, for the certificate that is held.
    pub(super) window: Option<(Moment, Moment)>,
    /// When to ask for the issuer's wish.
    pub(super) ask: Moment,
    /// Somebody wants it renewed now.
    pub(super) forced: bool,
    /// Being worked at since.
    pub(super) busy: Option<Moment>,
    /// Found in another replica's hands at.
    pub(super) taken: Moment,
}

/// How a certificate fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It is there, and not due.
    Issued,
    /// It is to be ordered next.
    Due,
    /// This replica orders it.
    Ordering {
        /// Since when.
        since: Moment,
    },
    /// The next attempt waits, because the last one failed.
    Waiting {
        /// Until when.
        until: Moment,
    },
    /// Nobody is known to order it from.
    NoIssuer,
}

/// What is known of one certificate that is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The hosts it is for.
    pub hosts: Vec<String>,
    /// From whom it is ordered first.
    pub issuer: String,
    /// Whether it was ordered because a client asked.
    pub on_demand: bool,
    /// How it fares.
    pub phase: Phase,
    /// What the certificate that is served says.
    pub facts: Option<Arc<Facts>>,
    /// When it is renewed.
    pub renewal: Option<Moment>,
    /// Why the last attempt failed, in the issuer's own words where it had some, and with whom.
    pub problem: Option<(String, Tries)>,
}

impl Entry {
    pub(super) fn new(wanted: Wanted, key: String, slot: Arc<Slot>, on_demand: bool) -> Self {
        Self {
            key,
            wanted,
            slot,
            on_demand,
            held: None,
            version: None,
            record: (None, Record::default()),
            window: None,
            ask: 0,
            forced: false,
            busy: None,
            taken: 0,
        }
    }

    /// Shows what is held in another place, if it is another.
    pub(super) fn show_in(&mut self, slot: Arc<Slot>) {
        if Arc::ptr_eq(&self.slot, &slot) {
            return;
        }
        self.slot = slot;
        self.show();
    }

    fn show(&self) {
        let held = self.held.as_ref().map(|held| held.pair.clone());
        if let Some(pairs) = crate::Pairs::new(held.into_iter().collect()) {
            self.slot.set(pairs);
        }
    }

    /// Takes over a certificate that lies in the storage.
    pub(super) fn take(&mut self, version: Version, bundle: Bundle) {
        self.version = Some(version);
        self.held = Some(bundle);
        self.show();
        self.window = None;
        self.ask = 0;
        self.forced = false;
    }

    /// When it is renewed.
    pub(super) fn renewal(&self) -> Option<Moment> {
        let held = self.held.as_ref()?;
        Some(renewal(held.pair.facts(), self.window))
    }

    /// Whether every replica can know that a new one is needed, from what lies in the storage.
    pub(super) fn is_plainly_due(&self, terms: &Terms, now: Moment) -> bool {
        let Some(held) = &self.held else { return true };
        let facts = held.pair.facts();
        renewal(facts, None) <= now
            || !self.wanted.hosts.iter().all(|host| covers(facts, host))
            || !issuers(terms, &self.wanted)
                .iter()
                .any(|issuer| issuer.directory == held.directory)
    }

    /// Whether a new one is needed.
    pub(super) fn is_due(&self, terms: &Terms, now: Moment) -> bool {
        self.forced || self.is_plainly_due(terms, now) || self.renewal().is_some_and(|at| at <= now)
    }

    /// From whom to order it at `now`, if it is due and the waits after failures are over.
    pub(super) fn next(&self, terms: &Terms, now: Moment) -> Option<Arc<Issuer>> {
        let taken = (0..TAKEN).contains(&now.saturating_sub(self.taken));
        if self.busy.is_some() || taken || !self.is_due(terms, now) {
            return None;
        }
        pick(terms, &self.wanted, &self.record.1, now, self.forced)
    }

    pub(super) fn state(&self, name: &str, terms: &Terms, now: Moment) -> State {
        let names = names(terms, &self.wanted);
        let phase = match (self.busy, schedule::next(&names, &self.record.1.tries, now)) {
            (Some(since), _) => Phase::Ordering { since },
            (None, None) => Phase::NoIssuer,
            (None, _) if !self.is_due(terms, now) => Phase::Issued,
            (None, Some(next)) if next.at > now => Phase::Waiting { until: next.at },
            (None, Some(_)) => Phase::Due,
        };
        let problem = self.record.1.last();
        State {
            name: name.to_owned(),
            hosts: self.wanted.hosts.clone(),
            issuer: self.wanted.issuer.clone(),
            on_demand: self.on_demand,
            phase,
            facts: self.held.as_ref().map(|held| Arc::clone(held.pair.facts())),
            renewal: self.renewal(),
            problem: problem.map(|(issuer, tries)| (issuer.to_owned(), tries.clone())),
        }
    }
}

/// From whom to order, once the waits after failures are over.
pub(super) fn pick(
    terms: &Terms,
    wanted: &Wanted,
    record: &Record,
    now: Moment,
    forced: bool,
) -> Option<Arc<Issuer>> {
    let names = names(terms, wanted);
    let next = schedule::next(&names, &record.tries, now)?;
    // Who asks for a renewal does not wait for a failed one, but for an issuer that asked us to.
    let limited = record
        .tries
        .get(next.issuer)
        .is_some_and(|tries| tries.limited);
    if next.at > now && (!forced || limited) {
        return None;
    }
    terms.issuers.get(next.issuer).map(Arc::clone)
}

/// The issuers of a certificate that exist, the first one first.
fn issuers<'t>(terms: &'t Terms, wanted: &Wanted) -> Vec<&'t Arc<Issuer>> {
    let Some(first) = terms.issuers.get(&wanted.issuer) else {
        return Vec::new();
    };
    let others = first
        .fallback
        .iter()
        .filter_map(|name| terms.issuers.get(name));
    std::iter::once(first).chain(others).collect()
}

fn names(terms: &Terms, wanted: &Wanted) -> Vec<String> {
    let issuers = issuers(terms, wanted).into_iter();
    issuers.map(|issuer| issuer.name.clone()).collect()
}

fn renewal(facts: &Facts, window: Option<(Moment, Moment)>) -> Moment {
    let valid = (
        facts.not_before.unix_timestamp(),
        facts.not_after.unix_timestamp(),
    );
    let seed = facts
        .fingerprint
        .first_chunk()
        .map_or(0, |some| u64::from_be_bytes(*some));
    schedule::renewal(valid, window, seed)
}

fn covers(facts: &Facts, host: &str) -> bool {
    if host.starts_with("*.") {
        facts.covers_wildcard(host)
    } else {
        facts.covers(host)
    }
}

/// Where each certificate lies, by its name: where its hosts say, unless several issuers are wanted to
/// issue for the same hosts.
pub(in crate::acme) fn places(wanted: &BTreeMap<String, Wanted>) -> BTreeMap<&str, String> {
    let mut issuers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for wanted in wanted.values() {
        let here = issuers.entry(place(&wanted.hosts)).or_default();
        here.insert(&wanted.issuer);
    }
    let place = |wanted: &Wanted| {
        let plain = place(&wanted.hosts);
        let is_shared = issuers.get(&plain).is_some_and(|here| here.len() > 1);
        if is_shared {
            key(&format!("{plain}@{}", wanted.issuer)).into_owned()
        } else {
            plain
        }
    };
    let all = wanted.iter();
    all.map(|(name, wanted)| (name.as_str(), place(wanted)))
        .collect()
}

/// Where the certificate for these hosts lies: the same wherever they are wanted, whatever it is called
/// there.
pub(in crate::acme) fn place(hosts: &[String]) -> String {
    let mut sorted: Vec<&str> = hosts.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let Some((first, others)) = sorted.split_first() else {
        return String::new();
    };
    if others.is_empty() {
        return key(first).into_owned();
    }
    let hash = short_hash(&sorted.join(" "));
    key(&format!("{first}+{hash}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_hosts_lie_at_the_same_place() {
        let hosts = |hosts: &[&str]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(place(&hosts(&["a.example"])), "a.example");
        assert_eq!(
            place(&hosts(&["b.example", "a.example"])),
            place(&hosts(&["a.example", "b.example"]))
        );
        assert_ne!(
            place(&hosts(&["a.example", "c.example"])),
            place(&hosts(&["a.example", "b.example"]))
        );
        assert!(place(&hosts(&["b.example", "a.example"])).starts_with("a.example+"));
    }

    #[test]
    fn what_two_issuers_issue_for_one_host_lies_apart() {
        let wanted = |hosts: &[&str], issuer: &str| Wanted {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            issuer: issuer.to_owned(),
        };
        let all = BTreeMap::from([
            ("a".to_owned(), wanted(&["a.example"], "one")),
            ("b".to_owned(), wanted(&["a.example"], "two")),
            ("c".to_owned(), wanted(&["c.example"], "one")),
            ("d".to_owned(), wanted(&["c.example"], "one")),
        ]);
        let places: Vec<String> = places(&all).into_values().collect();
        assert_eq!(
            places,
            ["a.example@one", "a.example@two", "c.example", "c.example"]
        );
    }
}
