//! Step 9: picks an endpoint, lends a connection, notes the outcome.
//!
//! Two sides. The control side has one [`Registry`]: it turns the upstreams of a snapshot into
//! [`Upstream`]s, whose state (counts, budget, addresses of names) outlives a reload that does not
//! concern it. Each worker has one [`Pools`]: connections never leave the worker that made them.
//!
//! ```text
//! Pools::lease ─ balance ─► endpoint ─ pool ─► idle connection ─┐
//!                              └─ budget ─ connect ─────────────┴─► Lease::send ─► Response
//!                                                 (its body returns the connection to the pool)
//! ```
//!
//! What must stay true: a connection that could carry a byte that belongs to nobody is never
//! reused; what an upstream may cost (connections, waiting requests, time, memory) is bounded.

mod balance;
mod budget;
mod connect;
mod endpoints;
mod lease;
mod pool;
mod pools;
mod registry;
mod reply;
mod resolve;
#[cfg(test)]
mod tests;
mod upload;
mod wire;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sluice_config::{
    model::{self, Dns},
    names::UpstreamName,
};
use tokio::sync::Notify;

use endpoints::{Set, Source, State};

pub use connect::Connector;
pub use endpoints::{Choice, EndpointKey};
pub use lease::{Failed, Lease, NoLease};
pub use pools::Pools;
pub use registry::Registry;

/// A named group of endpoints at work. Shared by all workers; made by [`Registry::upstream`].
#[derive(Debug)]
pub struct Upstream {
    model: Arc<model::Upstream>,
    dns: Dns,
    /// Kept when only the endpoints change.
    state: Arc<State>,
    sources: Box<[Source]>,
    set: ArcSwap<Set>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Wakes requests that wait for a name's first answer.
    changed: Notify,
}

impl Upstream {
    fn new(
        model: Arc<model::Upstream>,
        dns: Dns,
        state: Arc<State>,
        sources: Box<[Source]>,
    ) -> Self {
        let set = ArcSwap::from_pointee(Set::new(&sources, &state));
        Self {
            model,
            dns,
            state,
            sources,
            set,
            changing: Mutex::new(()),
            changed: Notify::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.model.name
    }

    /// Its settings.
    pub fn model(&self) -> &Arc<model::Upstream> {
        &self.model
    }

    /// The addresses that requests are sent to at this moment.
    pub fn endpoints(&self) -> Vec<EndpointKey> {
        self.set
            .load()
            .iter()
            .map(|endpoint| endpoint.key.clone())
            .collect()
    }

    /// Takes over what names stand for now.
    fn refresh(&self) {
        let _one_at_a_time = self.changing.lock();
        let set = Set::new(&self.sources, &self.state);
        if !self.set.load().same_as(&set) {
            self.set.store(Arc::new(set));
        }
        self.changed.notify_waiters();
    }
}
