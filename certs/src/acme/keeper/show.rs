//! What the keeper shows to others: how every name fares, and for which it may be asked by validating servers.

use std::sync::Arc;

use super::{Keeping, book::State};
use crate::acme::{
    challenge::{self, ChallengeKind},
    issuer::Terms,
    schedule::Moment,
};

impl Keeping {
    /// Shows what is known to whoever wants to see it.
    pub(super) fn publish(&mut self, terms: &Terms, now: Moment) {
        let entries = self.entries.iter();
        let states: Vec<State> = entries
            .map(|(name, entry)| entry.state(name, terms, now))
            .collect();
        if **self.shared.states.load() != states {
            self.shared.states.store(Arc::new(states));
        }
        let due = self.due(terms, now);
        if due != self.due {
            let set = Arc::new(due.iter().cloned().collect());
            self.shared.pending.change(|answers| answers.due = set);
            self.due = due;
        }
    }

    /// The names under which another replica's challenge may be asked for here.
    fn due(&self, terms: &Terms, now: Moment) -> Vec<String> {
        if !terms.storage.is_shared() {
            return Vec::new();
        }
        let due = self
            .entries
            .values()
            .filter(|entry| entry.is_due(terms, now));
        let hosts = due.flat_map(|entry| {
            let issuer = terms.issuers.get(&entry.wanted.issuer);
            let alpn = issuer.is_some_and(|issuer| issuer.challenge == ChallengeKind::TlsAlpn01);
            entry.wanted.hosts.iter().map(move |host| {
                if alpn {
                    challenge::server_name(host)
                } else {
                    host.clone()
                }
            })
        });
        hosts.collect()
    }
}
