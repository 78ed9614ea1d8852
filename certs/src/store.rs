//! Every certificate of the process, by its name in the configuration. Outlives reloads.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::slot::Slot;

/// Every certificate by name. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct Store(Arc<Mutex<BTreeMap<Box<str>, Arc<Slot>>>>);

impl Store {
    /// A store without certificates.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place of the certificate `name`, made when there is none.
    pub fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.0.lock();
        let slot = slots
            .entry(name.into())
            .or_insert_with(|| Arc::new(Slot::new(name)));
        Arc::clone(slot)
    }

    /// The place of the certificate `name`, when there is one.
    pub fn get(&self, name: &str) -> Option<Arc<Slot>> {
        self.0.lock().get(name).map(Arc::clone)
    }

    /// Forgets those that nobody names any more.
    pub fn retain(&self, mut named: impl FnMut(&str) -> bool) {
        self.0.lock().retain(|name, _| named(name));
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Slot>> {
        self.0.lock().values().map(Arc::clone).collect()
    }
}
