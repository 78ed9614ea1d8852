//! Which endpoints of an upstream can take requests, as far as is known.
//!
//! Runs on the control runtime, once per process. What must stay true: nobody who picks an endpoint looks
//! in here; whenever something changes, the upstream gets another set of those that can be picked. And what
//! was found out is kept as long as the endpoint is the same, whatever else is reloaded.

mod checks;
pub(in crate::upstream) mod standing;
mod streak;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio_util::sync::DropGuard;

use super::{Connector, Upstream};
use crate::drain::Tasks;

pub use standing::{Health, HealthState};

/// What watches the endpoints of an upstream.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Watch(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    upstream: Weak<Upstream>,
    connector: Connector,
    control: Tasks,
    /// By the id of the endpoint.
    checks: HashMap<u64, DropGuard>,
}

impl Upstream {
    /// Has its endpoints watched, if its settings say so, and if they are not yet.
    pub(super) fn watch(self: &Arc<Self>, connector: &Connector, control: &Tasks) {
        let mut running = self.watch.0.lock();
        if self.model.health_check.is_none() {
            for endpoint in self.set.load().everyone() {
                endpoint.standing.forget_checks();
            }
            return;
        }
        running.get_or_insert_with(|| Running {
            upstream: Arc::downgrade(self),
            connector: connector.clone(),
            control: control.clone(),
            checks: HashMap::new(),
        });
        drop(running);
        self.follow();
    }

    /// Watches those endpoints that it has now.
    pub(super) fn follow(&self) {
        let mut running = self.watch.0.lock();
        let Some(running) = running.as_mut() else {
            return;
        };
        let set = self.set.load();
        running
            .checks
            .retain(|id, _| set.everyone().any(|endpoint| endpoint.id == *id));
        for endpoint in set.everyone() {
            let start = || {
                let upstream = Weak::clone(&running.upstream);
                let (endpoint, connector) = (Arc::clone(endpoint), running.connector.clone());
                checks::start(upstream, endpoint, connector, &running.control)
            };
            running.checks.entry(endpoint.id).or_insert_with(start);
        }
    }

    /// No plan that runs has it any more: its endpoints are left alone, though streams may go on. `heir`
    /// has its name now, and takes over what was found out at the last moment.
    pub fn retire(&self, heir: Option<&Self>) {
        let running = self.watch.0.lock().take();
        drop(running);
        if let Some(heir) = heir {
            heir.refresh();
        }
    }
}
