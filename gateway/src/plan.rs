//! The plan: what runs. Compiled from a snapshot, immutable, one per request.
//!
//! Everything in it is an `Arc` that the next plan takes over when neither the object nor what it
//! refers to changed ([`Plan::compile`]). Each listener and route owns the cancellation of its
//! streams, so that a reload ends a stream only if its own objects changed ([`Plan::retire`]).
//! A request reads the plan through [`Local::plan`] and keeps no more of it than the `Arc`s of its
//! rule and upstream.

mod census;
mod compile;
mod heirs;
mod held;
mod local;
mod outlets;
mod split;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use sluice_certs::{Pending, Store};
use sluice_config::{
    Version,
    model::{self, Mode, Template},
    names::{ListenerName, RouteName, UpstreamName},
};

use crate::{
    authn::{basic::Basic, users::Lists},
    downstream::Connection,
    drain::Tasks,
    egress::Egress,
    error::ProxyError,
    filter::Chain,
    telemetry::{
        access_log::Writer,
        metrics::{Datagrams, Traffic},
        trace::Tracer,
    },
    upstream::Upstream,
};

use heirs::Heirs;

pub use crate::route::{Opening, Question, Table};
pub use census::{Census, Seat};
pub use compile::{Parts, TlsClient, TlsClients};
pub use held::{Held, Reaper, reaper};
pub use local::Local;
pub use outlets::{Outlet, Outlets};
pub use split::{Destination, Split};
pub use tls::{ClientPolicies, POSTGRES, Tls};

/// What runs.
#[derive(Debug)]
pub struct Plan {
    /// That of the snapshot it was compiled from.
    pub version: Version,
    /// By name.
    pub listeners: HashMap<ListenerName, Arc<Listener>>,
    /// Finds the rule of a request.
    pub table: Table,
    /// By name.
    pub routes: HashMap<RouteName, Arc<Route>>,
    /// Who may reach what outside, and what came of it.
    pub egress: Arc<Egress>,
    /// Every upstream that a rule can choose, those of addresses in `to` included.
    pub upstreams: HashMap<UpstreamName, Arc<Upstream>>,
    /// How TLS is spoken to those of them that speak it.
    pub tls_clients: TlsClients,
    /// Who may come in with a password, by listener.
    pub users: Lists,
    /// Where request lines go.
    pub access_log: Writer,
    /// Begins traces.
    pub tracer: Tracer,
    /// Every certificate, for whoever looks at them.
    pub certificates: Store,
    /// What validating servers are answered.
    pub pending: Arc<Pending>,
    /// The ways outside.
    pub outlets: Outlets,
    heirs: Heirs,
}

/// A listener as it runs. Another version of it is another value; they share the [`Census`].
#[derive(Debug)]
pub struct Listener {
    /// Its settings.
    pub model: Arc<model::Listener>,
    /// Owns its connections; drained when the listener is gone or the gateway stops.
    pub tasks: Tasks,
    /// Counts its connections over all workers and all its versions.
    pub census: Arc<Census>,
    /// The filters of requests that find no rule.
    pub filters: Chain,
    /// Its requests and connections; of all its versions.
    pub traffic: Arc<Traffic>,
    /// Its datagrams, if it takes any; of all its versions.
    pub datagrams: Arc<Datagrams>,
    /// How it ends TLS, if it does.
    pub tls: Option<Arc<Tls>>,
    /// Who may come in with a password, where that is asked for.
    pub basic: Option<Basic>,
    /// Owns its upgraded streams; drained when it has other settings, too.
    pub streams: Tasks,
    replaced: AtomicBool,
}

impl Listener {
    /// Whether a connection should end with the response under way: the gateway stops, the
    /// listener is gone, or it has other settings now.
    pub fn is_ending(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) || self.tasks.is_draining()
    }
}

/// A route as it runs.
#[derive(Debug)]
pub struct Route {
    /// Its settings.
    pub model: Arc<model::Route>,
    /// In the order of `model.rules`.
    pub rules: Vec<Arc<Rule>>,
    /// Owns its long-lived streams; drained when the route changed or is gone.
    pub streams: Tasks,
    /// Its requests; of all its versions.
    pub traffic: Arc<Traffic>,
}

/// A rule as it runs.
#[derive(Debug)]
pub struct Rule {
    /// Its settings.
    pub model: Arc<model::Rule>,
    /// What happens to its requests.
    pub action: Action,
    /// How long a request may take as a whole.
    pub timeout: Option<Duration>,
    /// The effective filters for each listener that its route is bound to.
    chains: Vec<(ListenerName, Arc<Chain>)>,
}

/// A rule that decides about something.
#[derive(Debug, Clone, Copy)]
pub struct Ruled<'p> {
    /// Its route.
    pub route: &'p Arc<Route>,
    /// The rule.
    pub rule: &'p Arc<Rule>,
    /// Its effective filters where that came in.
    pub filters: &'p Arc<Chain>,
    /// Index into the matches of the rule; none for a rule that admits everything.
    pub matched: Option<usize>,
}

impl Rule {
    /// The effective filters of a request that came in by `listener`.
    pub fn filters(&self, listener: &ListenerName) -> Option<&Arc<Chain>> {
        let found = self.chains.iter().find(|(name, _)| name == listener);
        found.map(|(_, chain)| chain)
    }
}

/// What happens to the requests of a rule.
#[derive(Debug)]
pub enum Action {
    /// Sent to one of several destinations.
    Forward(Split),
    /// Sent elsewhere by a redirect.
    Redirect(model::Redirect),
    /// Answered from the configuration.
    Respond(Respond),
    /// The rule was refused by the check and contained.
    Refused,
}

/// An answer from the configuration, its body at hand.
#[derive(Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// In order.
    pub headers: Vec<(HeaderName, Template)>,
    /// The whole body.
    pub body: Bytes,
}

impl Plan {
    /// A rule by its place: what [`Table`] finds.
    pub fn rule(&self, route: &RouteName, rule: usize) -> Option<(&Arc<Route>, &Arc<Rule>)> {
        let route = self.routes.get(route)?;
        Some((route, route.rules.get(rule)?))
    }

    /// What is decided about something that came in by `listener`, also if that is gone and another one has
    /// its address.
    pub fn find(
        &self,
        listener: &ListenerName,
        question: &Question<'_>,
    ) -> Result<Ruled<'_>, ProxyError> {
        let listener = self.standing(listener);
        let found = self.table.find(listener, question);
        let found = found.ok_or_else(|| self.unrouted(listener))?;
        let rule = self.rule(&found.route.name, found.rule);
        let (route, rule) = rule.ok_or(ProxyError::Internal)?;
        Ok(Ruled {
            route,
            rule,
            filters: rule.filters(listener).ok_or(ProxyError::Internal)?,
            matched: found.matched,
        })
    }

    /// Whether what came in by `listener` may be for routes of this mode.
    pub fn has(&self, listener: &ListenerName, mode: Mode) -> bool {
        self.table.has(self.standing(listener), mode)
    }

    /// The listener whose rules are for a connection that came in by `listener`: mostly that.
    fn standing<'a>(&'a self, listener: &'a ListenerName) -> &'a ListenerName {
        self.heirs.standing(listener)
    }

    /// What it means that nothing was found for a connection that came in by `listener`.
    fn unrouted(&self, listener: &ListenerName) -> ProxyError {
        match self.listeners.get(self.standing(listener)) {
            Some(_) => ProxyError::NoRoute,
            // Its clients are about to be told.
            None => ProxyError::Draining,
        }
    }

    /// Whether the client of a connection, which came in by `held`, has shown what `route` asks for now:
    /// the handshake may have been for another host, or under another configuration, and without one, or
    /// with one in which nobody asked for this route, there was nothing to show.
    pub fn admits(&self, route: &Route, connection: &Connection, held: &Listener) -> bool {
        let is_demanded = route.model.demands_certificate_on(&held.model);
        let is_asked = held.model.hands_from_tls(route.model.mode);
        let session = connection.tls.as_ref();
        let Some(session) = session.filter(|_| is_asked || !is_demanded) else {
            return !is_demanded;
        };
        let listener = self.listeners.get(self.standing(&connection.listener));
        let asks = listener.and_then(|it| it.tls.as_ref()?.policy(&route.model.name));
        asks == session.policy
    }

    /// Tells the objects that `next` does not take over to finish. Called when every worker runs
    /// `next`.
    pub fn retire(&self, next: &Self) {
        for (name, listener) in &self.listeners {
            match next.listeners.get(name) {
                None => listener.tasks.drain(),
                Some(other) if Arc::ptr_eq(listener, other) => {}
                // Open connections go on; each closes after its next response, never in between,
                // so that a change of settings costs no client a request.
                Some(_) => {
                    listener.replaced.store(true, Ordering::Relaxed);
                    listener.streams.drain();
                }
            }
        }
        self.outlets.retire(&next.outlets);
        for (name, upstream) in &self.upstreams {
            let heir = next.upstreams.get(name);
            if !heir.is_some_and(|heir| Arc::ptr_eq(upstream, heir)) {
                upstream.retire(heir.map(Arc::as_ref));
            }
        }
        for (name, route) in &self.routes {
            let taken_over = next
                .routes
                .get(name)
                .is_some_and(|other| Arc::ptr_eq(route, other));
            if !taken_over {
                route.streams.drain();
            }
        }
    }
}
