//! From snapshot to plan, taking over from the previous plan whatever stayed as it was.
//!
//! Cannot fail: what a user could fix, the check and the load step have refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use sluice_certs::{Pending, Store, client::Client};
use sluice_config::{
    Snapshot, model,
    names::{ListenerName, RouteName, UpstreamName},
};

use super::{
    Action, Destination, Listener, Outlets, Plan, Respond, Route, Rule, Split, Table, Tls,
    heirs::Heirs,
};
use crate::{
    authn::{basic::Basic, users::Lists, verifier::Verifier},
    drain::Tasks,
    egress::Egress,
    filter::Chain,
    telemetry::{access_log::Writer, metrics::Traffic, trace::Tracer},
    upstream::{Registry, Upstream},
};

/// How TLS is spoken to the endpoints of upstreams.
pub type TlsClients = HashMap<UpstreamName, TlsClient>;

/// How TLS is spoken to the endpoints of one upstream.
#[derive(Debug, Clone)]
pub struct TlsClient {
    /// What the configuration says.
    pub model: model::UpstreamTls,
    /// What came of it and of the files that it names.
    pub client: Arc<Client>,
    /// Why the client is of what the files said before, and not of what they say now.
    pub refused: Option<Arc<str>>,
}

/// What a plan is made of besides the snapshot.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Upstreams by name and settings; outlives plans.
    pub registry: &'a Registry,
    /// The root of all connections.
    pub tasks: &'a Tasks,
    /// The contents of the files that the snapshot names.
    pub bodies: HashMap<PathBuf, Bytes>,
    /// How TLS is spoken to the endpoints of upstreams, where it is.
    pub tls_clients: TlsClients,
    /// Who may come in with a password.
    pub users: Lists,
    /// Verifies passwords.
    pub verifier: Verifier,
    /// Where request lines go.
    pub access_log: Writer,
    /// Begins traces.
    pub tracer: Tracer,
    /// How its listeners end TLS, of those that do.
    pub tls: HashMap<ListenerName, Arc<Tls>>,
    /// Every certificate.
    pub certificates: Store,
    /// What validating servers are answered.
    pub pending: Arc<Pending>,
}

impl Plan {
    /// Compiles `snapshot`. An object is the same `Arc` as in `previous` when neither it nor what
    /// it refers to changed.
    pub fn compile(previous: Option<&Self>, snapshot: &Snapshot, parts: Parts<'_>) -> Self {
        let listeners = listeners(previous, snapshot, &parts);
        let upstreams = upstreams(snapshot, parts.registry, &parts.tls_clients);
        let outlets = Outlets::compile(
            previous.map(|plan| &plan.outlets),
            snapshot,
            &upstreams,
            &parts.tls_clients,
            (parts.registry, parts.tasks),
        );
        let compiler = Compiler {
            previous,
            listeners: &listeners,
            upstreams: &upstreams,
            bodies: &parts.bodies,
            tasks: parts.tasks,
            registry: parts.registry,
        };
        let routes = snapshot
            .routes
            .iter()
            .map(|(name, model)| (name.clone(), compiler.route(name, model)))
            .collect();
        Self {
            version: snapshot.version.clone(),
            table: Table::compile(snapshot, previous.map(|plan| &plan.table)),
            egress: Egress::compile(snapshot.egress.as_ref(), previous.map(|plan| &plan.egress)),
            heirs: Heirs::of(previous, &listeners),
            listeners,
            routes,
            upstreams,
            tls_clients: parts.tls_clients,
            users: parts.users,
            access_log: parts.access_log,
            tracer: parts.tracer,
            certificates: parts.certificates,
            pending: parts.pending,
            outlets,
        }
    }
}

fn listeners(
    previous: Option<&Plan>,
    snapshot: &Snapshot,
    parts: &Parts<'_>,
) -> HashMap<ListenerName, Arc<Listener>> {
    let compile = |(name, model): (&ListenerName, &Arc<model::Listener>)| {
        let old = previous.and_then(|plan| plan.listeners.get(name));
        let tls = parts.tls.get(name);
        let same_tls = |old: &Listener| match (&old.tls, tls) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let listener = match old {
            Some(old) if old.model == *model && same_tls(old) => Arc::clone(old),
            old => {
                let tasks = parts.tasks.child();
                Arc::new(Listener {
                    model: Arc::clone(model),
                    streams: tasks.child(),
                    tasks,
                    census: old.map(|old| Arc::clone(&old.census)).unwrap_or_default(),
                    filters: Chain::of_listener(model),
                    traffic: traffic(old.map(|old| &old.traffic), parts.registry),
                    datagrams: old.map_or_else(
                        || parts.registry.datagrams(),
                        |old| Arc::clone(&old.datagrams),
                    ),
                    tls: tls.map(Arc::clone),
                    basic: model.basic.as_ref().map(|basic| {
                        let previous = old.and_then(|old| old.basic.as_ref());
                        Basic::new(&basic.realm, parts.verifier.clone(), previous)
                    }),
                    replaced: AtomicBool::new(false),
                })
            }
        };
        (name.clone(), listener)
    };
    snapshot.listeners.iter().map(compile).collect()
}

/// What is counted goes on under the same name, whatever else changed.
fn traffic(old: Option<&Arc<Traffic>>, registry: &Registry) -> Arc<Traffic> {
    old.map_or_else(|| registry.traffic(), Arc::clone)
}

/// The upstreams of the snapshot and of the addresses in its rules.
fn upstreams(
    snapshot: &Snapshot,
    registry: &Registry,
    clients: &TlsClients,
) -> HashMap<UpstreamName, Arc<Upstream>> {
    let upstream = |name: &UpstreamName, model: &Arc<model::Upstream>| {
        let tls = clients.get(name).map(|tls| &tls.client);
        registry.upstream(model, &snapshot.dns, tls)
    };
    let mut upstreams: HashMap<_, _> = snapshot
        .upstreams
        .iter()
        .map(|(name, model)| (name.clone(), upstream(name, model)))
        .collect();
    let rules = snapshot.routes.values().flat_map(|route| &route.rules);
    let targets = rules.flat_map(|rule| match &rule.action {
        model::Action::Forward(targets) => targets.as_slice(),
        model::Action::Redirect(_) | model::Action::Respond(_) | model::Action::Refused => &[],
    });
    for target in targets {
        if let model::Destination::Address(address) = &target.destination {
            let name = UpstreamName::of_address(address);
            if let Entry::Vacant(entry) = upstreams.entry(name) {
                let model = Arc::new(model::Upstream::of_address(address));
                let upstream = upstream(entry.key(), &model);
                entry.insert(upstream);
            }
        }
    }
    upstreams
}

/// What compiling a route needs.
struct Compiler<'a> {
    previous: Option<&'a Plan>,
    listeners: &'a HashMap<ListenerName, Arc<Listener>>,
    upstreams: &'a HashMap<UpstreamName, Arc<Upstream>>,
    bodies: &'a HashMap<PathBuf, Bytes>,
    tasks: &'a Tasks,
    registry: &'a Registry,
}

impl Compiler<'_> {
    fn route(&self, name: &RouteName, model: &Arc<model::Route>) -> Arc<Route> {
        let old = self.previous.and_then(|plan| plan.routes.get(name));
        if let Some(old) = old
            && old.model == *model
            && self.filters_stand(model)
            && old.rules.iter().all(|rule| self.stands(rule))
        {
            return Arc::clone(old);
        }
        Arc::new(Route {
            model: Arc::clone(model),
            rules: model
                .rules
                .iter()
                .map(|rule| Arc::new(self.rule(model, rule)))
                .collect(),
            streams: self.tasks.child(),
            traffic: traffic(old.map(|old| &old.traffic), self.registry),
        })
    }

    /// Whether the listeners of a route have the filters they had.
    fn filters_stand(&self, route: &model::Route) -> bool {
        route.listeners.iter().all(|name| {
            let old = self.previous.and_then(|plan| plan.listeners.get(name));
            match (old, self.listeners.get(name)) {
                (Some(old), Some(new)) => {
                    Arc::ptr_eq(old, new) || old.model.filters == new.model.filters
                }
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
        })
    }

    /// Whether what the action of an unchanged rule refers to is as it was.
    fn stands(&self, rule: &Rule) -> bool {
        match (&rule.action, &rule.model.action) {
            (Action::Forward(split), _) => split.destinations().all(|target| match target {
                Destination::Upstream(old) => self
                    .upstreams
                    .get(old.name())
                    .is_some_and(|new| Arc::ptr_eq(old, new)),
                Destination::UnknownService(_) => true,
            }),
            (Action::Respond(respond), model::Action::Respond(model)) => {
                respond.body == self.body(model)
            }
            _ => true,
        }
    }

    fn rule(&self, route: &model::Route, model: &Arc<model::Rule>) -> Rule {
        let timeout = model.timeout.or(route.timeout);
        Rule {
            model: Arc::clone(model),
            action: self.action(&model.action),
            timeout: timeout.and_then(model::Limit::get),
            chains: self.chains(route, model),
        }
    }

    /// One chain per listener of the route; listeners with equal filters share theirs.
    fn chains(&self, route: &model::Route, rule: &model::Rule) -> Vec<(ListenerName, Arc<Chain>)> {
        let mut distinct: Vec<(&model::Filters, Arc<Chain>)> = Vec::new();
        let bound = route.listeners.iter();
        let bound = bound.filter_map(|name| self.listeners.get(name));
        bound
            .map(|listener| {
                let filters = &listener.model.filters;
                let known = distinct.iter().find(|(known, _)| *known == filters);
                let chain = if let Some((_, chain)) = known {
                    Arc::clone(chain)
                } else {
                    let chain = Arc::new(Chain::compile(&listener.model, route, rule));
                    distinct.push((filters, Arc::clone(&chain)));
                    chain
                };
                (listener.model.name.clone(), chain)
            })
            .collect()
    }

    fn action(&self, model: &model::Action) -> Action {
        match model {
            model::Action::Forward(targets) => Action::Forward(Split::new(
                targets
                    .iter()
                    .filter_map(|target| Some((target.weight, self.destination(target)?))),
            )),
            model::Action::Redirect(redirect) => Action::Redirect(redirect.clone()),
            model::Action::Respond(respond) => self.respond(respond),
            model::Action::Refused => Action::Refused,
        }
    }

    /// None cannot be: the check refuses references to nothing.
    fn destination(&self, target: &model::Target) -> Option<Destination> {
        let named = |name: &UpstreamName| {
            let upstream = self.upstreams.get(name)?;
            Some(Destination::Upstream(Arc::clone(upstream)))
        };
        match &target.destination {
            model::Destination::Upstream(name) => named(name),
            model::Destination::Address(address) => named(&UpstreamName::of_address(address)),
            model::Destination::Service { name, .. } => {
                Some(Destination::UnknownService(name.clone()))
            }
        }
    }

    fn respond(&self, model: &model::Respond) -> Action {
        let Ok(status) = StatusCode::from_u16(model.status) else {
            return Action::Refused;
        };
        let headers = model.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            Some((name, value.clone()))
        });
        Action::Respond(Respond {
            status,
            headers: headers.collect(),
            body: self.body(model),
        })
    }

    fn body(&self, model: &model::Respond) -> Bytes {
        match &model.body {
            None => Bytes::new(),
            Some(model::RespondBody::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(model::RespondBody::File(path)) => {
                self.bodies.get(path).cloned().unwrap_or_default()
            }
        }
    }
}
