//! What follows when a job of the keeper is done.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Done, Keeping,
    book::{Entry, Record},
    poll::Changes,
    work::{Ordered, now},
};
use crate::{
    acme::{demand::Denied, issuer::Terms, schedule, words::chain},
    storage::StorageError,
};

impl Keeping {
    pub(super) fn note(&mut self, done: Done) {
        match done {
            Done::Ordered(name, ordered) => self.ordered(&name, ordered),
            Done::Polled(terms, polled) => self.polled(&terms, polled),
            Done::Asked(name, fingerprint, window, again) => {
                let entry = self.entries.get_mut(&name);
                let same = |entry: &&mut Entry| {
                    let held = entry.held.as_ref();
                    held.is_some_and(|held| held.pair.facts().fingerprint == fingerprint)
                };
                if let Some(entry) = entry.filter(same) {
                    entry.window = window.or(entry.window);
                    entry.ask = schedule::ask_again(now(), again);
                }
            }
            Done::Admitted(request, admitted) => self.admitted(request, admitted),
            Done::LookedUp => {}
        }
    }

    pub(super) fn ordered(&mut self, name: &str, ordered: Ordered) {
        self.orders = self.orders.saturating_sub(1);
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.busy = None;
        let answer = match ordered {
            Ordered::Issued(version, bundle) => {
                self.shared.issued.fetch_add(1, Ordering::Relaxed);
                let version = version.or(entry.version);
                entry.take(version.unwrap_or_default(), bundle);
                entry.record = (None, Record::default());
                Some(Ok(()))
            }
            Ordered::Found(version, bundle) => {
                entry.take(version, bundle);
                Some(Ok(()))
            }
            Ordered::Taken => {
                entry.taken = now();
                None
            }
            Ordered::Waiting(record) => {
                if entry.record.1 != record {
                    self.shared.failed.fetch_add(1, Ordering::Relaxed);
                }
                // A renewal that was asked for has had its chance.
                entry.forced = false;
                entry
                    .slot
                    .fail(record.last().map_or("", |(_, tries)| &tries.problem));
                let words = record.last().map(|(_, tries)| tries.problem.clone());
                entry.record.1 = record;
                Some(Err(Denied::Failed(words.unwrap_or_default())))
            }
            Ordered::Away(error) => {
                tracing::warn!(name, error = chain(&error), "an order was given up");
                entry.taken = now();
                None
            }
        };
        if let Some(answer) = answer {
            self.answer(name, &answer);
        }
    }

    pub(super) fn polled(&mut self, terms: &Arc<Terms>, polled: Result<Changes, StorageError>) {
        self.polling = false;
        // What another storage says is no longer of interest.
        if self
            .terms
            .as_ref()
            .is_none_or(|now| !Arc::ptr_eq(now, terms))
        {
            self.polled = None;
            return;
        }
        let changes = match polled {
            Ok(changes) => changes,
            Err(error) => {
                if !std::mem::replace(&mut self.away, true) {
                    let error = chain(&error);
                    tracing::error!(
                        error,
                        "the storage of certificates is away: nothing is ordered"
                    );
                }
                return;
            }
        };
        if std::mem::replace(&mut self.away, false) {
            tracing::info!("the storage of certificates is back");
        }
        self.take(changes);
        self.shared
            .loaded
            .send_if_modified(|loaded| !std::mem::replace(loaded, true));
    }

    /// Takes over what others wrote.
    pub(super) fn take(&mut self, changes: Changes) {
        let mut arrived = Vec::new();
        for (name, entry) in &mut self.entries {
            match changes.certificates.get(&entry.key) {
                Some((version, Ok(bundle))) => {
                    entry.take(*version, bundle.clone());
                    arrived.push(name.clone());
                }
                Some((version, Err(error))) => {
                    let error = chain(error);
                    tracing::error!(name, error, "a stored certificate cannot be used");
                    entry.slot.fail(&error);
                    entry.version = Some(*version);
                }
                None => {}
            }
            if let Some(record) = changes.records.get(&entry.key) {
                entry.record = record.clone();
            }
        }
        for name in arrived {
            self.answer(&name, &Ok(()));
        }
        for (place, challenge) in &self.challenges {
            if !changes.challenges.contains_key(place) {
                challenge.hide(&self.shared.pending);
            }
        }
        for (place, challenge) in &changes.challenges {
            if !self.challenges.contains_key(place)
                && let Err(error) = challenge.show(&self.shared.pending)
            {
                tracing::warn!(error = chain(&error), "showing another's challenge");
            }
        }
        self.challenges = changes.challenges;
    }
}
