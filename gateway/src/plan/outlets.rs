//! The ways outside: what the rules of `[egress]` refer to, and who owns the tunnels that they allow.

use std::{collections::HashMap, sync::Arc};

use sluice_certs::client::Client;
use sluice_config::{
    Snapshot,
    model::{self, EgressDefault, EgressMode, Protocol},
    names::{EgressName, UpstreamName},
};

use super::{Destination, Split, TlsClients};
use crate::{
    drain::Tasks,
    upstream::{Names, Registry, Upstream},
};

/// Every way outside.
#[derive(Debug)]
pub struct Outlets {
    /// None where no listener lets anybody out.
    names: Option<Arc<Names>>,
    rules: HashMap<EgressName, Arc<Outlet>>,
    /// Of what no rule is about.
    unruled: Arc<Outlet>,
}

/// The way of one rule. Another version of the rule has another one.
#[derive(Debug)]
pub struct Outlet {
    said: Said,
    via: Option<(Arc<Upstream>, Split)>,
    client: Option<Arc<Client>>,
    mark: Option<u32>,
    /// Owns its tunnels; drained when the rule changed or is gone.
    pub streams: Tasks,
}

/// What the configuration says.
#[derive(Debug, PartialEq)]
enum Said {
    Rule(Box<model::EgressRule>),
    /// Of everything else: `[egress]` without its rules.
    Rest(Option<Rest>),
}

/// What of `[egress]` is about what no rule is about.
#[derive(Debug, PartialEq)]
struct Rest {
    default: EgressDefault,
    mode: EgressMode,
    ports: Vec<std::ops::RangeInclusive<u16>>,
    addresses: Vec<ipnet::IpNet>,
}

impl Outlet {
    /// The name of the rule; none for what no rule is about.
    pub fn name(&self) -> Option<&str> {
        match &self.said {
            Said::Rule(rule) => Some(rule.name.as_str()),
            Said::Rest(_) => None,
        }
    }

    /// The proxy through which it goes.
    pub fn via(&self) -> Option<&Split> {
        self.via.as_ref().map(|(_, split)| split)
    }

    /// The same, for what is no request.
    pub fn parent(&self) -> Option<&Arc<Upstream>> {
        self.via.as_ref().map(|(upstream, _)| upstream)
    }

    /// The mark of the packets of what leads there without another proxy.
    pub fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// How TLS is spoken for clients that speak none.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }
}

impl Outlets {
    /// The ways of `snapshot`, taking over from `previous` whatever stayed as it was.
    pub(super) fn compile(
        previous: Option<&Self>,
        snapshot: &Snapshot,
        upstreams: &HashMap<UpstreamName, Arc<Upstream>>,
        clients: &TlsClients,
        (registry, tasks): (&Registry, &Tasks),
    ) -> Self {
        let egress = snapshot.egress.as_deref();
        let mark = egress.and_then(|egress| egress.mark);
        let outlet = |said: Said, old: Option<&Arc<Outlet>>| {
            let rule = match &said {
                Said::Rule(rule) => Some(rule),
                Said::Rest(_) => None,
            };
            let via = rule.and_then(|rule| upstreams.get(rule.via.as_ref()?));
            let client = rule.and_then(|rule| clients.get(&UpstreamName::of_egress(&rule.name)));
            let client = client.map(|tls| &tls.client);
            let same = old.filter(|old| {
                let old_via = old.via.as_ref().map(|(upstream, _)| upstream);
                old.said == said
                    && old.mark == mark
                    && old_via.map(Arc::as_ptr) == via.map(Arc::as_ptr)
                    && old.client.as_ref().map(|it| it.identity()) == client.map(|it| it.identity())
            });
            if let Some(old) = same {
                return Arc::clone(old);
            }
            Arc::new(Outlet {
                via: via.map(|upstream| {
                    let destination = Destination::Upstream(Arc::clone(upstream));
                    (Arc::clone(upstream), Split::new([(1, destination)]))
                }),
                client: client.map(Arc::clone),
                mark,
                streams: tasks.child(),
                said,
            })
        };
        let rest = egress.map(|egress| Rest {
            default: egress.default,
            mode: egress.mode,
            ports: egress.connect_ports.clone(),
            addresses: egress.addresses.clone(),
        });
        let rules = egress.map(|egress| &*egress.allow).unwrap_or_default();
        let rules = rules.iter().map(|rule| {
            let old = previous.and_then(|previous| previous.rules.get(&rule.name));
            let said = Said::Rule(Box::new(rule.clone()));
            (rule.name.clone(), outlet(said, old))
        });
        let lets_out = |it: &Arc<model::Listener>| {
            matches!(it.protocol, Protocol::ForwardProxy | Protocol::Transparent)
        };
        let lets_out = snapshot.listeners.values().any(lets_out);
        Self {
            names: lets_out.then(|| registry.names(&snapshot.dns)),
            rules: rules.collect(),
            unruled: outlet(Said::Rest(rest), previous.map(|previous| &previous.unruled)),
        }
    }

    /// Whether a listener lets anybody out.
    pub fn lets_out(&self) -> bool {
        self.names.is_some()
    }

    /// What looks names up; none where no listener lets anybody out.
    pub fn names(&self) -> Option<&Arc<Names>> {
        self.names.as_ref()
    }

    /// The way of a rule, or of what no rule is about.
    pub fn of(&self, rule: Option<&EgressName>) -> &Arc<Outlet> {
        let rule = rule.and_then(|name| self.rules.get(name));
        rule.unwrap_or(&self.unruled)
    }

    /// Tells tunnels to finish whose rule `next` does not take over.
    pub(super) fn retire(&self, next: &Self) {
        if !Arc::ptr_eq(&self.unruled, &next.unruled) {
            self.unruled.streams.drain();
        }
        for (name, outlet) in &self.rules {
            let other = next.rules.get(name);
            if !other.is_some_and(|other| Arc::ptr_eq(outlet, other)) {
                outlet.streams.drain();
            }
        }
    }
}
