//! Sets of sockets for datagrams, one per address.
//!
//! A set lives as long as a worker uses it, which may be longer than the configuration names its address:
//! sessions finish. Until then the set is the one that whoever names the address again gets.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use sluice_config::{
    Problem, Snapshot,
    model::{Bind, Listener, Protocol},
};

use super::sockets::{SocketKey, Unbound, problem};
use crate::l4::udp::DatagramSet;

/// The sets that a snapshot needs.
pub type DatagramSets = BTreeMap<SocketKey, Arc<DatagramSet>>;

/// Every set of the process.
#[derive(Debug, Default)]
pub struct Datagrams {
    known: BTreeMap<SocketKey, Weak<DatagramSet>>,
}

impl Datagrams {
    /// The sets that `snapshot` needs: those that are there, and the rest bound now. Nothing stays bound
    /// when something fails.
    pub fn bind(&self, snapshot: &Snapshot, workers: usize) -> Result<DatagramSets, Vec<Problem>> {
        let mut sets = DatagramSets::new();
        let mut problems = Vec::new();
        for (name, listener) in &snapshot.listeners {
            let key = SocketKey::of(listener);
            let Some(address) = wanted(listener).filter(|_| !sets.contains_key(&key)) else {
                continue;
            };
            if let Some(set) = self.known.get(&key).and_then(Weak::upgrade) {
                sets.insert(key, set);
                continue;
            }
            let ours = self.holds_port(address.port(), &sets);
            match bound(listener, address, workers, ours) {
                Ok(set) => drop(sets.insert(key, Arc::new(set))),
                Err(error) => problems.push(problem(name, &listener.address, &error)),
            }
        }
        if problems.is_empty() {
            Ok(sets)
        } else {
            Err(problems)
        }
    }

    /// Remembers `sets`, and those of before that are still used.
    pub fn keep(&mut self, snapshot: &Snapshot, sets: &DatagramSets) {
        for (name, listener) in &snapshot.listeners {
            let set = sets.get(&SocketKey::of(listener));
            if let Some(Err(error)) = set.map(|set| set.settle(&listener.socket)) {
                tracing::error!(listener = %name, %error, "a setting of its sockets is not in effect");
            }
        }
        self.known.retain(|_, set| set.strong_count() > 0);
        for (key, set) in sets {
            self.known.insert(key.clone(), Arc::downgrade(set));
        }
    }

    /// Where a listener receives.
    pub fn address(&self, listener: &Listener) -> Option<SocketAddr> {
        wanted(listener)?;
        let set = self.known.get(&SocketKey::of(listener))?.upgrade()?;
        Some(set.address())
    }

    fn holds_port(&self, port: u16, fresh: &DatagramSets) -> bool {
        let known = self.known.values().filter_map(Weak::upgrade);
        known
            .chain(fresh.values().map(Arc::clone))
            .any(|set| set.address().port() == port)
    }
}

fn bound(
    listener: &Listener,
    address: SocketAddr,
    workers: usize,
    ours: bool,
) -> Result<DatagramSet, Unbound> {
    let set = DatagramSet::bind(address, listener.socket.ipv6_only, workers, ours)?;
    set.settle(&listener.socket)?;
    Ok(set)
}

/// Where a listener is to receive datagrams, if it takes any.
fn wanted(listener: &Listener) -> Option<SocketAddr> {
    match &listener.address {
        Bind::Socket(address) if listener.protocol == Protocol::Udp => Some(*address),
        Bind::Socket(_) | Bind::Unix(_) => None,
    }
}
