//! A look at a running engine from outside.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sluice_config::Snapshot;
use tokio::sync::watch;

use super::Applied;
use crate::{
    plan::Plan,
    telemetry::{access_log::Switch, metrics::Metrics},
};

/// What runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// What it was compiled from.
    pub snapshot: Arc<Snapshot>,
    /// What the workers have.
    pub plan: Arc<Plan>,
}

/// A look at a running engine. Cheap to clone; outlives the engine.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) live: Arc<ArcSwapOption<Live>>,
    pub(super) metrics: Metrics,
    pub(super) switch: Switch,
    pub(super) applied: watch::Receiver<Applied>,
}

impl View {
    /// What runs at this moment; none before the first snapshot.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Turns its access log on and off.
    pub fn access_log(&self) -> &Switch {
        &self.switch
    }

    /// What became of the snapshots so far.
    pub fn applied(&self) -> Applied {
        self.applied.borrow().clone()
    }
}
