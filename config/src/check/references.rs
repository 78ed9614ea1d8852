//! Which names there are, and what objects of one kind may not share.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv6Addr, SocketAddr},
};

use super::{Draft, Drafts, entries, filter::Set, nearest};
use crate::{
    findings::{Finding, Findings},
    model::{Bind, Listener, Protocol},
    names::{IssuerName, ListenerName},
    tree::{At, Node},
};

/// Every name that may be referred to; a refused object still has its name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In the order written.
    pub(super) listeners: Vec<String>,
    /// Of the listeners that can be read.
    pub(super) protocols: BTreeMap<ListenerName, Protocol>,
    /// By name.
    pub(super) certificates: BTreeSet<String>,
    /// By name, without the development CA.
    pub(super) issuers: BTreeSet<String>,
    /// By name.
    pub(super) upstreams: BTreeSet<String>,
    /// None: the set is refused.
    pub(super) sets: BTreeMap<String, Option<Set>>,
}

impl Known {
    /// The names of a configuration; filter sets are added when they have been checked.
    pub(super) fn of(root: &Node) -> Self {
        let names = |kind| entries(root, kind).iter().map(|(name, _)| name.clone());
        Self {
            listeners: names("listeners").collect(),
            protocols: BTreeMap::new(),
            certificates: names("certificates").collect(),
            issuers: names("acme").collect(),
            upstreams: names("upstreams").collect(),
            sets: BTreeMap::new(),
        }
    }

    /// What is spoken on a listener; none where it cannot be read.
    pub(super) fn protocol(&self, listener: &ListenerName) -> Option<Protocol> {
        self.protocols.get(listener).copied()
    }

    /// The issuer of that name, which must exist.
    pub(super) fn issuer(
        &self,
        name: &str,
        at: &At<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<IssuerName> {
        if name == IssuerName::LOCAL || self.issuers.contains(name) {
            return IssuerName::new(name).ok();
        }
        let mut known: Vec<&str> = self.issuers.iter().map(String::as_str).collect();
        known.push(IssuerName::LOCAL);
        let finding = unknown(
            "unknown_issuer",
            "issuer",
            name,
            known.into_iter(),
            findings,
        );
        findings.value(at, finding);
        None
    }

    /// The listener of that name, which must exist.
    pub(super) fn listener(
        &self,
        name: &str,
        at: &At<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<ListenerName> {
        if self.listeners.iter().any(|known| known == name) {
            return ListenerName::new(name).ok();
        }
        let known = self.listeners.iter().map(String::as_str);
        let finding = unknown("unknown_listener", "listener", name, known, findings);
        findings.value(at, finding);
        None
    }
}

/// There is nothing of that name.
pub(super) fn unknown<'k>(
    code: &'static str,
    kind: &str,
    name: &str,
    known: impl ExactSizeIterator<Item = &'k str>,
    findings: &mut Findings<'_>,
) -> Finding {
    let finding = Finding::new(code, format!("there is no {kind} named {name:?}"));
    let few = known.len() <= 8;
    if !findings.may_search(known.len()) {
        return finding;
    }
    let known: BTreeSet<&str> = known.collect();
    let hint = nearest(known.iter().copied(), name).or_else(|| {
        let all: Vec<&str> = known.into_iter().collect();
        match all.as_slice() {
            [] => Some(format!("there is no {kind} at all")),
            all => few.then(|| format!("there is: {}", all.join(", "))),
        }
    });
    finding.maybe(hint)
}

/// Without any listener there is one.
pub(super) fn imply_listener(drafts: &mut Drafts, known: &mut Known) {
    if !known.listeners.is_empty() {
        return;
    }
    let name = ListenerName::implied();
    known.listeners.push(name.to_string());
    known.protocols.insert(name.clone(), Protocol::Http);
    let mut listener = Listener::new(
        name.clone(),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)).into(),
    );
    listener.implied = true;
    drafts.listeners.insert(
        name,
        Draft {
            object: Some(listener),
            clean: true,
        },
    );
}

/// What a listener occupies: streams and datagrams do not stand in each other's way.
pub(super) fn place(listener: &Listener) -> (bool, &Bind) {
    (listener.protocol == Protocol::Udp, &listener.address)
}

/// Two listeners cannot accept on the same address: the one that is written later is wrong.
pub(super) fn check_addresses(drafts: &Drafts, known: &Known, findings: &mut Findings<'_>) {
    let mut taken: HashMap<(bool, &Bind), &ListenerName> = HashMap::new();
    let written = known.listeners.iter();
    let written = written.filter_map(|name| ListenerName::new(name).ok());
    for listener in written.filter_map(|name| drafts.listeners.get(&name)?.object.as_ref()) {
        // Port 0 is another one each time.
        if listener.address.port() == Some(0) {
            continue;
        }
        match taken.get(&place(listener)) {
            None => {
                taken.insert(place(listener), &listener.name);
            }
            Some(first) => {
                let what = format!(
                    "{} is also the address of listener {first}",
                    listener.address
                );
                let at = At::Root.key("listeners");
                let at = at.key(listener.name.as_str());
                findings.value(&at.key("address"), Finding::new("duplicate_address", what));
            }
        }
    }
}
