//! How many connections a listener has, as a whole and per client address.
//!
//! Every [`Seat`] that was given is given back when it is dropped; counts never drift.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use sluice_config::model::ListenerLimits;

/// The connections of a listener, over all workers.
#[derive(Debug, Default)]
pub struct Census {
    connections: AtomicUsize,
    clients: DashMap<IpAddr, usize, foldhash::fast::RandomState>,
}

/// A connection's place among those of its listener; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    census: Arc<Census>,
    /// None while it is not clear who that is.
    client: Option<IpAddr>,
}

impl Census {
    /// A place for a connection from `client`, unless a limit is reached.
    pub fn admit(self: &Arc<Self>, client: IpAddr, limits: &ListenerLimits) -> Option<Seat> {
        let seat = self.admit_somebody(limits)?;
        seat.take(client, limits)
    }

    /// A place for a connection from whomever it will turn out to be; [`Seat::take`] follows.
    pub fn admit_somebody(self: &Arc<Self>, limits: &ListenerLimits) -> Option<Seat> {
        self.enter(limits.connections.get().unwrap_or(usize::MAX))
    }

    /// A place for `client`, unless there are that many, or that many of this client.
    pub fn admit_within(
        self: &Arc<Self>,
        client: IpAddr,
        (all, own): (usize, usize),
    ) -> Option<Seat> {
        self.enter(all)?.of(client, own)
    }

    fn enter(self: &Arc<Self>, all: usize) -> Option<Seat> {
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < all).then_some(open.saturating_add(1))
            })
            .ok()?;
        Some(Seat {
            census: Arc::clone(self),
            client: None,
        })
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Seat {
    /// The same place for a connection that is known to come from `client`, unless a limit is reached.
    pub fn take(self, client: IpAddr, limits: &ListenerLimits) -> Option<Self> {
        let own = limits.connections_per_client.get();
        self.of(client, own.unwrap_or(usize::MAX))
    }

    fn of(mut self, client: IpAddr, own: usize) -> Option<Self> {
        let admitted = match self.census.clients.entry(client) {
            Entry::Occupied(mut entry) => {
                let open = entry.get_mut();
                let free = *open < own;
                *open = open.saturating_add(usize::from(free));
                free
            }
            Entry::Vacant(entry) => {
                let free = own > 0;
                if free {
                    entry.insert(1);
                }
                free
            }
        };
        self.client = admitted.then_some(client);
        admitted.then_some(self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.census.clients.entry(client) {
            let left = entry.get().saturating_sub(1);
            if left == 0 {
                entry.remove();
            } else {
                *entry.get_mut() = left;
            }
        }
    }
}
