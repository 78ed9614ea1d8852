//! Renews what the development CA has made, before it ends or when somebody wants it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sluice_certs::Store;
use tokio::sync::Notify;

use crate::load::{Automatic, DevelopmentCa, put};

/// How often to look. They are renewed a month before they end.
const EVERY: Duration = Duration::from_hours(1);

/// What the development CA has made, and what is to be made anew. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Development(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None: there is no place to keep it.
    ca: Option<DevelopmentCa>,
    store: Store,
    /// Each name with its hosts.
    wanted: ArcSwap<BTreeMap<String, Vec<String>>>,
    /// Names that somebody wants renewed.
    forced: Mutex<Vec<String>>,
    wake: Notify,
}

impl Development {
    /// Nothing is wanted yet.
    pub(super) fn new(ca: Option<DevelopmentCa>, store: Store) -> Self {
        Self(Arc::new(Shared {
            ca,
            store,
            wanted: ArcSwap::default(),
            forced: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// From now on this is renewed.
    pub(super) fn set(&self, automatic: &Automatic) {
        let wanted = automatic.local();
        let wanted = wanted.map(|(name, hosts)| (name.to_owned(), hosts));
        self.0.wanted.store(Arc::new(wanted.collect()));
    }

    /// Whether a certificate of this name is made here.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.wanted.load().contains_key(name)
    }

    /// Has a certificate made anew; gives whether one of that name is made here.
    pub(super) fn renew(&self, name: &str) -> bool {
        let known = self.has(name);
        if known {
            self.0.forced.lock().push(name.to_owned());
            self.0.wake.notify_one();
        }
        known
    }

    /// Renews, for as long as it is polled. Tells `renewed` after each look.
    pub(super) async fn run(self, renewed: Arc<Notify>) {
        let Some(ca) = self.0.ca.clone() else {
            return;
        };
        loop {
            // Late or woken makes no difference.
            let _woken_or_late = tokio::time::timeout(EVERY, self.0.wake.notified()).await;
            let forced = std::mem::take(&mut *self.0.forced.lock());
            let (wanted, ca) = (self.0.wanted.load_full(), ca.clone());
            let making = tokio::task::spawn_blocking(move || {
                let wanted = wanted.iter().map(|(name, hosts)| (&**name, hosts.clone()));
                ca.make(wanted, &forced)
            });
            for (name, made) in making.await.unwrap_or_default() {
                // It may have been forgotten meanwhile.
                let Some(slot) = self.0.store.get(&name).filter(|_| self.has(&name)) else {
                    continue;
                };
                let before = slot.pairs();
                if let Some(problem) = put(&slot, made) {
                    tracing::error!(certificate = name, problem, "not renewed");
                } else if slot.pairs() != before {
                    tracing::info!(certificate = name, "renewed by the development CA");
                }
            }
            renewed.notify_one();
        }
    }
}
