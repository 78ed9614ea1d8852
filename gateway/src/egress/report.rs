//! Which destinations were asked for, by whom, and what came of it: a bounded table.
//!
//! Clients choose what stands in it, so it never grows beyond its limit: what was seen least recently makes
//! room. What must stay true: an attempt costs one look-up under the lock, and nothing waits under it.

use std::{collections::HashMap, net::IpAddr, time::SystemTime};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use sluice_config::names::EgressName;

use super::{Kind, Target, Why};

/// How many destinations are copied before attempts may go on.
const BATCH: usize = 512;

/// How many are dropped at most with each attempt, where there are more than there may be from now on.
const TRIM: usize = 4;

/// What is counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) source: IpAddr,
    /// None when it could not be read.
    pub(super) target: Option<Target>,
    pub(super) port: u16,
    pub(super) rule: Option<EgressName>,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) why: Option<Why>,
    pub(super) shadow: bool,
    pub(super) spoken: Spoken,
    pub(super) now: SystemTime,
}

/// What was spoken, as far as it was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Requests.
    pub http: bool,
    /// TLS inside tunnels or of redirected streams.
    pub tls: bool,
    /// Anything else there.
    pub tcp: bool,
}

impl Spoken {
    pub(super) fn of(kind: Kind<'_>) -> Self {
        Self {
            http: matches!(kind, Kind::Http { .. }),
            tls: matches!(kind, Kind::Tls { .. }),
            tcp: kind == Kind::Tcp,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            http: self.http || other.http,
            tls: self.tls || other.tls,
            tcp: self.tcp || other.tcp,
        }
    }
}

/// A destination that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Who asked.
    pub source: IpAddr,
    /// For whom; none when that could not be read.
    pub target: Option<Target>,
    /// At which port.
    pub port: u16,
    /// The rule that was nearest.
    pub rule: Option<EgressName>,
    /// Attempts that were allowed.
    pub allowed: u64,
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts that would have been, but for `mode = "shadow"`.
    pub shadow: u64,
    /// Why the last attempt was not allowed, if so.
    pub why: Option<Why>,
    /// Whether that one passed in the shadow.
    pub last_in_shadow: bool,
    /// What was spoken.
    pub spoken: Spoken,
    /// The first attempt that is remembered.
    pub first: SystemTime,
    /// The last one.
    pub last: SystemTime,
}

/// The destinations that were asked for.
#[derive(Debug)]
pub struct Report(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    limit: usize,
    positions: HashMap<Place, usize, RandomState>,
    /// In no order; the links have it.
    entries: Vec<Entry>,
    newest: Option<usize>,
    oldest: Option<usize>,
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    allowed: u64,
    refused: u64,
    shadow: u64,
    why: Option<Why>,
    last_in_shadow: bool,
    spoken: Spoken,
    first: SystemTime,
    last: SystemTime,
    newer: Option<usize>,
    older: Option<usize>,
}

impl Report {
    /// Remembers at most `limit` destinations.
    pub(super) fn new(limit: usize) -> Self {
        Self(Mutex::new(Known {
            limit,
            ..Known::default()
        }))
    }

    /// From now on at most so many; what is too much goes with the next attempts.
    pub(super) fn set_limit(&self, limit: usize) {
        self.0.lock().limit = limit;
    }

    pub(super) fn note(&self, place: Place, sighting: Sighting) {
        self.0.lock().note(place, sighting);
    }

    /// How many destinations are remembered at most.
    pub fn limit(&self) -> usize {
        self.0.lock().limit
    }

    /// How many made room for others so far.
    pub fn forgotten(&self) -> u64 {
        self.0.lock().forgotten
    }

    /// Every destination, by source, target and port. Attempts go on while it is copied: one that takes the
    /// place of another meanwhile may be missing.
    pub fn read(&self) -> Vec<Destination> {
        let mut all = Vec::new();
        let mut from = 0_usize;
        loop {
            let known = self.0.lock();
            let batch = known.entries.iter().skip(from).take(BATCH);
            let before = all.len();
            all.extend(batch.map(Entry::copy));
            drop(known);
            if all.len() == before {
                break;
            }
            from = from.saturating_add(BATCH);
        }
        // What made room and was asked for again meanwhile is there twice.
        all.sort_by(|a, b| a.order().cmp(&b.order()).then(b.last.cmp(&a.last)));
        all.dedup_by(|a, b| a.order() == b.order());
        all
    }
}

/// What destinations are told apart and listed by.
type Order<'d> = (IpAddr, Option<Whom<'d>>, u16, Option<&'d EgressName>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom<'d> {
    Name(&'d str),
    Address(IpAddr),
}

impl Destination {
    fn order(&self) -> Order<'_> {
        let whom = self.target.as_ref().map(|target| match target {
            Target::Name(name) => Whom::Name(name),
            Target::Address(address) => Whom::Address(*address),
        });
        (self.source, whom, self.port, self.rule.as_ref())
    }
}

impl Known {
    fn note(&mut self, place: Place, sighting: Sighting) {
        for _ in 0..TRIM {
            if self.entries.len() <= self.limit {
                break;
            }
            self.forget();
        }
        if self.limit == 0 {
            return;
        }
        let position = if let Some(position) = self.positions.get(&place).copied() {
            self.unlink(position);
            position
        } else {
            if self.entries.len() >= self.limit {
                self.forget();
            }
            let position = self.entries.len();
            self.positions.insert(place.clone(), position);
            self.entries.push(Entry::new(place, sighting.now));
            position
        };
        if let Some(entry) = self.entries.get_mut(position) {
            entry.count(sighting);
        }
        self.link(position);
    }

    /// Puts an entry that is nowhere in the order at its new end.
    fn link(&mut self, position: usize) {
        let newest = self.newest.replace(position);
        if let Some(entry) = self.entries.get_mut(position) {
            entry.newer = None;
            entry.older = newest;
        }
        match newest.and_then(|newest| self.entries.get_mut(newest)) {
            Some(before) => before.newer = Some(position),
            None => self.oldest = Some(position),
        }
    }

    /// Takes an entry out of the order.
    fn unlink(&mut self, position: usize) {
        let Some(entry) = self.entries.get_mut(position) else {
            return;
        };
        let (newer, older) = (entry.newer.take(), entry.older.take());
        self.join(older, newer);
    }

    /// Lets `older` and `newer` follow each other; none is an end.
    fn join(&mut self, older: Option<usize>, newer: Option<usize>) {
        match older.and_then(|older| self.entries.get_mut(older)) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.entries.get_mut(newer)) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Drops the one that was seen least recently.
    fn forget(&mut self) {
        let Some(position) = self.oldest else {
            return;
        };
        self.unlink(position);
        if position >= self.entries.len() {
            return;
        }
        let gone = self.entries.swap_remove(position);
        self.positions.remove(&gone.place);
        self.forgotten = self.forgotten.saturating_add(1);
        // The last one lies in its place now.
        if let Some(moved) = self.entries.get(position) {
            if let Some(known) = self.positions.get_mut(&moved.place) {
                *known = position;
            }
            let (newer, older) = (moved.newer, moved.older);
            match older.and_then(|older| self.entries.get_mut(older)) {
                Some(entry) => entry.newer = Some(position),
                None => self.oldest = Some(position),
            }
            match newer.and_then(|newer| self.entries.get_mut(newer)) {
                Some(entry) => entry.older = Some(position),
                None => self.newest = Some(position),
            }
        }
    }
}

impl Entry {
    fn new(place: Place, now: SystemTime) -> Self {
        Self {
            place,
            allowed: 0,
            refused: 0,
            shadow: 0,
            why: None,
            last_in_shadow: false,
            spoken: Spoken::default(),
            first: now,
            last: now,
            newer: None,
            older: None,
        }
    }

    fn count(&mut self, sighting: Sighting) {
        let Sighting {
            why,
            shadow,
            spoken,
            now,
        } = sighting;
        let cell = match (why, shadow) {
            (None, _) => &mut self.allowed,
            (Some(_), false) => &mut self.refused,
            (Some(_), true) => &mut self.shadow,
        };
        *cell = cell.saturating_add(1);
        self.why = why;
        self.last_in_shadow = shadow;
        self.spoken = self.spoken.and(spoken);
        self.last = now;
    }

    fn copy(&self) -> Destination {
        Destination {
            source: self.place.source,
            target: self.place.target.clone(),
            port: self.place.port,
            rule: self.place.rule.clone(),
            allowed: self.allowed,
            refused: self.refused,
            shadow: self.shadow,
            why: self.why,
            last_in_shadow: self.last_in_shadow,
            spoken: self.spoken,
            first: self.first,
            last: self.last,
        }
    }
}
