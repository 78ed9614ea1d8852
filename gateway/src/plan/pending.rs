//! Stand-ins for the nouns that a plan composes, until each lands in its own file.

use std::sync::Arc;

use sluice_config::{Snapshot, model, names::UpstreamName};

use crate::{drain::Tasks, telemetry::metrics::Shard};

/// Stands for `route::Table`.
#[derive(Debug, Default)]
pub struct Table;

impl Table {
    /// Stands for the compiler.
    pub fn compile(_snapshot: &Snapshot, _previous: Option<&Self>) -> Self {
        Self
    }
}

/// Stands for `upstream::Upstream`.
#[derive(Debug)]
pub struct Upstream {
    model: Arc<model::Upstream>,
}

impl Upstream {
    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.model.name
    }
}

/// Stands for `upstream::Registry`.
#[derive(Debug, Default)]
pub struct Registry(parking_lot::Mutex<Vec<Arc<Upstream>>>);

impl Registry {
    /// Knows nothing yet.
    pub fn new(_: Connector, _: Tasks, _: Shard) -> Self {
        Self::default()
    }

    /// Forgets what nobody uses.
    pub fn sweep(&self) {
        self.0.lock().retain(|known| Arc::strong_count(known) > 1);
    }

    /// The upstream of this name and these settings.
    pub fn upstream(&self, model: &Arc<model::Upstream>, _dns: &model::Dns) -> Arc<Upstream> {
        let mut known = self.0.lock();
        if let Some(found) = known.iter().find(|known| known.model == *model) {
            return Arc::clone(found);
        }
        let made = Arc::new(Upstream {
            model: Arc::clone(model),
        });
        known.push(Arc::clone(&made));
        made
    }
}

/// Stands for `upstream::Pools`.
#[derive(Debug, Default)]
pub struct Pools;

impl Pools {
    /// No connection yet.
    pub fn new(_: usize, _: usize, _: Connector, _: Tasks, _: Shard) -> Self {
        Self
    }

    /// Closes the idle connections to the others.
    pub fn retain(&self, _keep: impl Fn(&Upstream) -> bool) {}
}

/// Stands for `upstream::Connector`.
#[derive(Debug, Clone)]
pub enum Connector {
    /// The network.
    Network,
}
