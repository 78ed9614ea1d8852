//! What one worker has at hand.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{Held, Plan, Reaper};
use crate::{pressure::Pressure, telemetry::metrics::Shard, turns::Turns, upstream::Pools};

/// What one worker has at hand. Shared by its tasks, never leaves its thread.
#[derive(Debug)]
pub struct Local {
    /// Which worker, from 0.
    pub worker: usize,
    /// Its connections to endpoints.
    pub pools: Pools,
    /// Its counters.
    pub counters: Shard,
    /// Whether the process can take more.
    pub pressure: Arc<Pressure>,
    /// Who waits to go on with what it has begun.
    pub(crate) turns: Rc<Turns>,
    plan: RefCell<Rc<Held>>,
    reaper: Reaper,
    random: Cell<u64>,
}

impl Local {
    /// A worker that runs `plan`. `seed` makes its choices by chance repeatable.
    pub fn new(
        worker: usize,
        plan: Arc<Plan>,
        pools: Pools,
        counters: Shard,
        reaper: Reaper,
        (seed, pressure): (u64, Arc<Pressure>),
    ) -> Self {
        Self {
            worker,
            pools,
            counters,
            pressure,
            turns: Rc::default(),
            plan: RefCell::new(Rc::new(Held::new(plan, reaper.clone()))),
            reaper,
            random: Cell::new(seed),
        }
    }

    /// The plan of a request that begins now.
    pub fn plan(&self) -> Rc<Held> {
        Rc::clone(&self.plan.borrow())
    }

    /// From now on requests begin under `plan`.
    pub fn replace(&self, plan: Arc<Plan>) {
        let next = Rc::new(Held::new(plan, self.reaper.clone()));
        let previous = self.plan.replace(next);
        drop(previous);
    }

    /// A number by chance, for weights and spreading. Not for secrets.
    pub fn random(&self) -> u64 {
        // SplitMix64: one addition per step, then two rounds of mixing.
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
