//! A look at a running engine from outside.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwapOption;
use sluice_certs::{
    Pairs, Store,
    acme::{Keeper, State},
    slot::Problem,
};
use sluice_config::Snapshot;
use tokio::sync::watch;

use super::{Applied, development::Development};
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

/// A certificate, whether it comes from files or is ordered.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Its name: that of the configuration, else its host.
    pub name: String,
    /// What is served; none before the first is there.
    pub pairs: Option<Arc<Pairs>>,
    /// Why something newer than that is not served, and since when.
    pub problem: Option<Problem>,
    /// How its orders fare, where it is ordered over ACME.
    pub orders: Option<State>,
    /// Whether the development CA makes it.
    pub is_local: bool,
}

/// A look at a running engine. Cheap to clone; outlives the engine.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) live: Arc<ArcSwapOption<Live>>,
    pub(super) certificates: Store,
    pub(super) keeper: Keeper,
    pub(super) development: Development,
    pub(super) metrics: Metrics,
    pub(super) switch: Switch,
    pub(super) applied: watch::Receiver<Applied>,
}

impl View {
    /// What runs at this moment; none before the first snapshot.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Every certificate, by name: those from files, those that are ordered, and those that clients asked
    /// for.
    pub fn certificates(&self) -> Vec<Certificate> {
        let slots = self.certificates.list();
        let mut all: BTreeMap<String, Certificate> = BTreeMap::new();
        for slot in slots {
            let certificate = Certificate {
                name: slot.name().to_owned(),
                pairs: slot.pairs(),
                problem: slot.problem(),
                orders: None,
                is_local: self.development.has(slot.name()),
            };
            all.insert(slot.name().to_owned(), certificate);
        }
        for state in &*self.keeper.states() {
            let entry = all.entry(state.name.clone());
            let certificate = entry.or_insert_with(|| Certificate {
                name: state.name.clone(),
                pairs: self.keeper.held(&state.issuer, &state.name),
                problem: None,
                orders: None,
                is_local: false,
            });
            certificate.orders = Some(state.clone());
        }
        all.into_values().collect()
    }

    /// Has a certificate renewed now; gives whether one of that name is ordered or made here.
    pub fn renew(&self, name: &str) -> bool {
        self.keeper.renew(name) || self.development.renew(name)
    }

    /// What orders certificates.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
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
