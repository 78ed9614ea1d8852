//! A worker's hold on a plan, and where plans go when nobody holds them.
//!
//! Freeing a plan of ten thousand routes takes longer than a request may wait, so no worker ever
//! does it: the last hold on a worker sends its share to the control runtime.

use std::{ops::Deref, sync::Arc};

use tokio::sync::mpsc;

use super::Plan;

/// Replaced plans that may wait to be freed. Each worker sends one per reload.
const WAITING: usize = 1024;

/// Sends plans to where they are freed.
#[derive(Debug, Clone)]
pub struct Reaper(mpsc::Sender<Arc<Plan>>);

/// A reaper, and the work of freeing: run it on the control runtime. It ends with the last reaper.
pub fn reaper() -> (Reaper, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let work = async move { while receiver.recv().await.is_some() {} };
    (Reaper(sender), work)
}

/// A worker's hold on a plan; shared inside the worker by `Rc`.
#[derive(Debug)]
pub struct Held {
    plan: Option<Arc<Plan>>,
    reaper: Reaper,
}

impl Held {
    /// Holds `plan`.
    pub fn new(plan: Arc<Plan>, reaper: Reaper) -> Self {
        Self {
            plan: Some(plan),
            reaper,
        }
    }
}

impl Deref for Held {
    type Target = Plan;

    #[expect(clippy::expect_used, reason = "taken in `drop` and nowhere else")]
    fn deref(&self) -> &Plan {
        self.plan.as_ref().expect("held until dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take()
            && let Err(refused) = self.reaper.0.try_send(plan)
        {
            // The control runtime is gone or far behind: freeing here is better than waiting.
            drop(refused);
        }
    }
}
