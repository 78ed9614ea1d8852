//! Who takes the place of a listener that is gone: the one that has its address now.
//!
//! Connections are told to finish once every worker has the next plan, and their last request may be on its
//! way for longer. It is one for whoever has the address, whatever the name.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use sluice_config::{
    model::{self, Protocol},
    names::ListenerName,
};

use super::{Listener, Plan};

/// By the name of who is gone.
#[derive(Debug, Default)]
pub(super) struct Heirs(HashMap<ListenerName, Heir>);

#[derive(Debug)]
struct Heir {
    name: ListenerName,
    /// While it has connections, somebody may ask.
    gone: Weak<Listener>,
}

impl Heirs {
    /// Those of the listeners that `previous` has, or had, and `listeners` has not.
    pub(super) fn of(
        previous: Option<&Plan>,
        listeners: &HashMap<ListenerName, Arc<Listener>>,
    ) -> Self {
        let Some(previous) = previous else {
            return Self::default();
        };
        let of_address = |gone: &Listener| {
            let mut all = listeners.values().map(|listener| &listener.model);
            let heir = all.find(|heir| has_address_of(heir, &gone.model))?;
            Some(heir.name.clone())
        };
        let before = previous.heirs.0.iter();
        let before = before.filter_map(|(name, heir)| Some((name, heir.gone.upgrade()?)));
        let just_now = previous.listeners.iter();
        let just_now = just_now.map(|(name, listener)| (name, Arc::clone(listener)));
        let gone = before
            .chain(just_now)
            .filter(|(name, _)| !listeners.contains_key(*name));
        let heirs = gone.filter_map(|(name, gone)| {
            let heir = Heir {
                name: of_address(&gone)?,
                gone: Arc::downgrade(&gone),
            };
            Some((name.clone(), heir))
        });
        Self(heirs.collect())
    }

    /// The name to ask for instead of `name`.
    pub(super) fn standing<'a>(&'a self, name: &'a ListenerName) -> &'a ListenerName {
        self.0.get(name).map_or(name, |heir| &heir.name)
    }
}

/// Whether what was bound for `gone` is what `heir` is bound to. Port 0 is another port for each.
fn has_address_of(heir: &model::Listener, gone: &model::Listener) -> bool {
    let is_of_datagrams = |listener: &model::Listener| listener.protocol == Protocol::Udp;
    heir.address == gone.address
        && heir.address.port() != Some(0)
        && is_of_datagrams(heir) == is_of_datagrams(gone)
}
