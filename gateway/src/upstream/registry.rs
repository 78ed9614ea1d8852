//! The upstreams of the process, remembered by name and settings.
//!
//! Plans hold the upstreams; the registry only knows them, so that the next plan finds them again.
//! What no plan holds any more stops by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sluice_certs::client::{Client, Host};
use sluice_config::{
    model::{self, Dns, HostPort},
    names::UpstreamName,
};

use super::{
    Names, Tls, Upstream,
    connect::Connector,
    endpoints::{Goal, Source, Speech, State, Target},
    resolve::Resolved,
};
use crate::{
    drain::Tasks,
    telemetry::metrics::{Datagrams, Shard, Traffic},
};

/// The upstreams of the process. Control side; shared.
#[derive(Debug)]
pub struct Registry {
    connector: Connector,
    control: Tasks,
    counters: Shard,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    upstreams: HashMap<UpstreamName, Weak<Upstream>>,
    names: HashMap<String, Weak<Resolved>>,
    outward: Weak<Names>,
}

impl Registry {
    /// `control` runs the look-ups of names.
    pub fn new(connector: Connector, control: Tasks, counters: Shard) -> Self {
        Self {
            connector,
            control,
            counters,
            known: Mutex::new(Known::default()),
        }
    }

    /// The upstream that `model` describes: the one at work when nothing changed; with the counts,
    /// budget and connections of the one at work when nothing changed that concerns those; else a new one.
    /// What is known of the health of endpoints is kept anyway.
    /// `tls` is what its endpoints are spoken to with; what it remembers is kept, too.
    ///
    /// Has to be called on a runtime, since it may start to resolve names.
    pub fn upstream(
        &self,
        model: &Arc<model::Upstream>,
        dns: &Dns,
        tls: Option<&Arc<Client>>,
    ) -> Arc<Upstream> {
        let mut known = self.known.lock();
        let previous = known.upstreams.get(&model.name).and_then(Weak::upgrade);
        let same_tls = |previous: &Upstream| {
            let previous = previous.tls.as_ref();
            previous.map(|previous| previous.client.identity()) == tls.map(|tls| tls.identity())
        };
        if let Some(previous) = &previous
            && previous.model == *model
            && same_tls(previous)
            && (previous.dns == *dns || !resolves(model))
        {
            previous.watch(&self.connector, &self.control);
            return Arc::clone(previous);
        }
        let traffic = match &previous {
            Some(previous) => Arc::clone(&previous.traffic),
            None => self.traffic(),
        };
        // Counted on under the same name, whatever else changed.
        let handshakes = previous
            .as_ref()
            .and_then(|previous| Some(Arc::clone(&previous.tls.as_ref()?.handshakes)));
        let tls = tls.map(|client| Tls {
            client: Arc::clone(client),
            handshakes: handshakes.unwrap_or_else(|| self.counters.handshakes()),
        });
        let standings = previous
            .as_ref()
            .map(|previous| Arc::clone(&previous.state.standings));
        let previous =
            previous.filter(|previous| same_settings(&previous.model, model) && same_tls(previous));
        let (state, tls) = if let Some(previous) = previous {
            (Arc::clone(&previous.state), previous.tls.clone())
        } else {
            let standings = standings.unwrap_or_default();
            (Arc::new(State::new(&model.limits, standings)), tls)
        };
        let sources = model
            .endpoints
            .iter()
            .map(|endpoint| {
                let speech = match &tls {
                    Some(_) => Speech::Tls(host(&endpoint.address.host)),
                    None => Speech::Plain,
                };
                self.source(&mut known, &state, (endpoint, speech), dns)
            })
            .collect();
        let upstream = Arc::new(Upstream::new(
            Arc::clone(model),
            dns.clone(),
            (state, traffic),
            tls,
            sources,
        ));
        for source in &upstream.sources {
            if let Source::Name { resolved, .. } = source {
                resolved.tell(&upstream);
            }
        }
        // An answer may have come between the first look and the subscription.
        upstream.watch(&self.connector, &self.control);
        upstream.refresh();
        known
            .upstreams
            .insert(model.name.clone(), Arc::downgrade(&upstream));
        upstream
    }

    /// What looks up names that no configuration has, asked as `dns` says.
    ///
    /// Has to be called on the runtime where look-ups shall run.
    pub fn names(&self, dns: &Dns) -> Arc<Names> {
        let mut known = self.known.lock();
        let running = known.outward.upgrade();
        if let Some(names) = running.filter(|names| names.settings() == dns) {
            return names;
        }
        let names = Names::start(dns, &self.control, &self.counters);
        known.outward = Arc::downgrade(&names);
        names
    }

    /// Where the traffic of another object is counted.
    pub fn traffic(&self) -> Arc<Traffic> {
        self.counters.traffic()
    }

    /// Where the datagrams of another listener are counted.
    pub fn datagrams(&self) -> Arc<Datagrams> {
        self.counters.datagrams()
    }

    /// Forgets what nobody holds.
    pub fn sweep(&self) {
        let mut known = self.known.lock();
        known.upstreams.retain(|_, held| held.strong_count() > 0);
        known.names.retain(|_, held| held.strong_count() > 0);
    }

    fn source(
        &self,
        known: &mut Known,
        state: &State,
        (endpoint, speech): (&model::Endpoint, Speech),
        dns: &Dns,
    ) -> Source {
        let weight = endpoint.weight;
        let target = match (&endpoint.address.host, &self.connector) {
            (host, Connector::Memory(_)) => Target::Memory(Box::from(host.to_string())),
            (HostPort::Socket(address), Connector::Network) => Target::Tcp(*address),
            (HostPort::Unix(path), Connector::Network) => Target::Unix(path.clone()),
            (HostPort::Name { name, port }, Connector::Network) => {
                return Source::Name {
                    resolved: self.resolved(known, name, dns),
                    port: *port,
                    speech,
                    weight,
                };
            }
        };
        Source::Fixed {
            endpoint: state.endpoint(Goal { target, speech }),
            weight,
        }
    }

    /// What resolves `name`; one for all upstreams.
    fn resolved(&self, known: &mut Known, name: &str, dns: &Dns) -> Arc<Resolved> {
        let previous = known.names.get(name).and_then(Weak::upgrade);
        if let Some(previous) = &previous
            && previous.settings() == dns
        {
            return Arc::clone(previous);
        }
        // Asked differently from now on, but not forgotten until the first new answer.
        let addresses = previous.and_then(|previous| previous.known().clone());
        let resolved = Resolved::start(name, dns, addresses, &self.control, &self.counters);
        known
            .names
            .insert(name.to_owned(), Arc::downgrade(&resolved));
        resolved
    }
}

/// Whether any endpoint is a name.
fn resolves(model: &model::Upstream) -> bool {
    model
        .endpoints
        .iter()
        .any(|endpoint| matches!(endpoint.address.host, HostPort::Name { .. }))
}

/// Whom TLS is spoken to at an address. A path says nothing about that, nor does a name that no
/// certificate can have.
fn host(address: &HostPort) -> Option<Host> {
    match address {
        HostPort::Socket(address) => Some(Host::address(address.ip())),
        HostPort::Name { name, .. } => Host::new(name).ok(),
        HostPort::Unix(_) => None,
    }
}

/// Whether nothing that concerns connections differs.
fn same_settings(a: &model::Upstream, b: &model::Upstream) -> bool {
    let model::Upstream {
        name,
        endpoints: _,
        protocol,
        tls,
        balance,
        proxy_protocol,
        startup,
        socket,
        timeouts,
        pool,
        limits,
        // They decide who is asked and picked, and no connection.
        health_check: _,
        panic_threshold: _,
    } = a;
    *name == b.name
        && *protocol == b.protocol
        && *tls == b.tls
        && *balance == b.balance
        && *proxy_protocol == b.proxy_protocol
        && *startup == b.startup
        && *socket == b.socket
        && *timeouts == b.timeouts
        && *pool == b.pool
        && *limits == b.limits
}
