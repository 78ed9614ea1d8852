//! Hosts that clients ask for: whether they may have a certificate, and who waits for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::{
    Done, Keeping,
    book::{Entry, Phase, place},
    work::now,
};
use crate::{
    Slot,
    acme::{
        demand::{Denied, Reply, Request},
        issuer::{Issuer, Wanted},
        words::chain,
    },
    storage::{Kind, Storage},
};

/// How long a no is remembered.
const NO: Duration = Duration::from_secs(10);
/// How many are.
const NOS: usize = 1_024;
/// How many names may be kept before no more are on demand.
const ON_DEMAND: usize = 10_000;

/// What was refused, and how much was ordered.
#[derive(Debug, Default)]
pub(super) struct Gate {
    refused: HashMap<String, (Denied, Instant)>,
    orders: HashMap<String, VecDeque<Instant>>,
}

impl Gate {
    /// The no that a host got lately.
    pub(super) fn refused(&self, host: &str) -> Option<Denied> {
        let (denied, at) = self.refused.get(host)?;
        (at.elapsed() < NO).then(|| denied.clone())
    }

    pub(super) fn refuse(&mut self, host: String, denied: Denied) {
        if self.refused.len() >= NOS {
            self.refused.retain(|_, (_, at)| at.elapsed() < NO);
        }
        if self.refused.len() < NOS {
            self.refused.insert(host, (denied, Instant::now()));
        }
    }

    /// Counts an order, if the rate allows it.
    pub(super) fn count(&mut self, issuer: &Issuer) -> Result<(), Denied> {
        let rate = issuer
            .on_demand
            .as_ref()
            .and_then(|on_demand| on_demand.rate);
        let Some((most, time)) = rate else {
            return Ok(());
        };
        let orders = self.orders.entry(issuer.name.clone()).or_default();
        while orders.front().is_some_and(|at| at.elapsed() >= time) {
            orders.pop_front();
        }
        if u32::try_from(orders.len()).map_or(true, |count| count >= most) {
            return Err(Denied::Rate);
        }
        orders.push_back(Instant::now());
        Ok(())
    }
}

impl Keeping {
    /// Has it found out whether a host may have a certificate.
    pub(super) fn admit(&mut self, request: Request) {
        let issuer = self.terms.as_ref().and_then(|terms| {
            let issuer = terms.issuers.get(&request.issuer)?;
            Some((Arc::clone(issuer), Arc::clone(&terms.storage)))
        });
        let Some((issuer, storage)) = issuer else {
            return reply(request.reply, Err(Denied::NotAllowed));
        };
        if self.entries.contains_key(&request.host) {
            return self.wait(request);
        }
        if let Some(denied) = self.gate.refused(&request.host) {
            return reply(request.reply, Err(denied));
        }
        self.jobs.push(Box::pin(async move {
            let admitted = match admit(&issuer, &request.host).await {
                Ok(()) => Ok(is_stored(&*storage, &request.host).await),
                Err(denied) => Err(denied),
            };
            Done::Admitted(request, admitted)
        }));
    }

    /// Keeps a host that was admitted, and lets the handshake wait for it.
    pub(super) fn admitted(&mut self, request: Request, admitted: Result<bool, Denied>) {
        let admitted = admitted.and_then(|is_stored| {
            if self.entries.contains_key(&request.host) {
                return Ok(());
            }
            if self.entries.len() >= ON_DEMAND {
                return Err(Denied::Rate);
            }
            if is_stored {
                return Ok(());
            }
            let issuer = self
                .terms
                .as_ref()
                .and_then(|terms| terms.issuers.get(&request.issuer));
            self.gate.count(issuer.ok_or(Denied::NotAllowed)?)
        });
        if let Err(denied) = admitted {
            self.gate.refuse(request.host, denied.clone());
            return reply(request.reply, Err(denied));
        }
        let wanted = Wanted {
            hosts: vec![request.host.clone()],
            issuer: request.issuer.clone(),
        };
        let slot = Arc::new(Slot::new(&request.host));
        let key = place(&wanted.hosts);
        let entry = self.entries.entry(request.host.clone());
        entry.or_insert_with(|| Entry::new(wanted, key, slot, true));
        self.hold();
        self.wait(request);
    }

    /// Lets a handshake wait for a host that is kept, unless there is nothing to wait for.
    pub(super) fn wait(&mut self, request: Request) {
        let Some((entry, terms)) = self.entries.get(&request.host).zip(self.terms.as_ref()) else {
            return reply(request.reply, Err(Denied::NotAllowed));
        };
        if entry.held.is_some() {
            return reply(request.reply, Ok(()));
        }
        let state = entry.state(&request.host, terms, now());
        if let (Phase::Waiting { .. }, Some((_, tries))) = (&state.phase, &state.problem) {
            return reply(request.reply, Err(Denied::Failed(tries.problem.clone())));
        }
        self.waiting
            .entry(request.host)
            .or_default()
            .push(request.reply);
    }

    /// Tells the handshakes that wait for a name.
    pub(super) fn answer(&mut self, name: &str, answer: &Result<(), Denied>) {
        for waiting in self.waiting.remove(name).unwrap_or_default() {
            reply(waiting, answer.clone());
        }
    }

    /// Shows handshakes what was ordered on demand.
    pub(super) fn hold(&self) {
        let on_demand = self.entries.iter().filter(|(_, entry)| entry.on_demand);
        let slots = on_demand.map(|(name, entry)| {
            let issuer = entry.wanted.issuer.as_str().into();
            (name.as_str().into(), (issuer, Arc::clone(&entry.slot)))
        });
        self.shared.desk.hold(slots);
    }
}

/// The handshake may have gone.
fn reply(to: Reply, answer: Result<(), Denied>) {
    to.send(answer).unwrap_or_default();
}

/// Whether there is a certificate already, from before a restart or by another replica: that is no order,
/// and does not count as one.
async fn is_stored(storage: &dyn Storage, host: &str) -> bool {
    let place = place(&[host.to_owned()]);
    let stored = storage.read(Kind::Certificate, &place, None).await;
    // Where nobody knows, the order will find it.
    stored.is_ok_and(|stored| stored.is_some())
}

/// Asks the list, then who is to be asked. Both have to agree.
async fn admit(issuer: &Issuer, host: &str) -> Result<(), Denied> {
    let on_demand = issuer.on_demand.as_ref().ok_or(Denied::NotAllowed)?;
    if !on_demand.allows(host) {
        return Err(Denied::NotAllowed);
    }
    let Some((ask, client)) = &on_demand.ask else {
        return Ok(());
    };
    // A host is of letters, digits, dots and dashes here: nothing to escape.
    let mark = if ask.contains('?') { '&' } else { '?' };
    let request = http::Request::get(format!("{ask}{mark}domain={host}")).body(Bytes::new());
    let request = request.map_err(|_| Denied::NoOpinion)?;
    match client.send(request).await {
        Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
        Ok(answer) if answer.status().is_server_error() => Err(Denied::NoOpinion),
        Ok(_) => Err(Denied::NotAllowed),
        Err(error) => {
            tracing::warn!(host, error = chain(&error), "asking for a host");
            Err(Denied::NoOpinion)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_no_is_remembered_for_a_while_and_not_for_everybody() {
        let mut gate = Gate::default();
        gate.refuse("a.example".to_owned(), Denied::NotAllowed);
        assert_eq!(gate.refused("a.example"), Some(Denied::NotAllowed));
        assert_eq!(gate.refused("b.example"), None);
        tokio::time::advance(NO).await;
        assert_eq!(gate.refused("a.example"), None);
        for host in 0..2 * NOS {
            gate.refuse(format!("{host}.example"), Denied::NotAllowed);
        }
        assert!(gate.refused.len() <= NOS);
    }
}
