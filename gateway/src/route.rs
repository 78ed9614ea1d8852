//! Step 5: Finds the route and the rule of a request, a raw stream or a datagram.
//!
//! Compiled from the snapshot alone, so that `sluice explain` decides as the running gateway does.
//! What must stay true: [`Table::find`] gives the first rule, in the order of
//! [`sluice_config::model::order`], all of whose conditions hold, however it gets there; and once a
//! host is chosen there is no fall-back to a wider one. Pure.

mod candidates;
mod entry;
mod explain;
mod hosts;
mod keys;
mod opening;
mod predicate;
mod rules;
mod texts;
mod truth;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use http::HeaderMap;
use sluice_config::{
    Snapshot,
    model::{self, HostPattern, Mode, PathMatch},
    names::{ListenerName, RouteName},
};

use self::{hosts::Modes, rules::Rules};

pub use self::explain::{Candidate, Chosen, Explanation, Nearest, Outcome};
pub use self::opening::Opening;
pub use self::predicate::Failure;
pub(crate) use self::predicate::path_holds;

/// Every route, ready to be asked.
#[derive(Default)]
pub struct Table {
    listeners: HashMap<ListenerName, Modes, foldhash::fast::RandomState>,
    /// The rules of every combination of routes that shares a host somewhere.
    compiled: HashMap<Vec<RouteName>, Arc<Rules>>,
}

/// What a route is chosen by.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What looks for a route: only routes of this mode are asked.
    pub mode: Mode,
    /// Normalised: lower case, no port, no trailing dot. Of a raw stream the name that its client asks for
    /// in the TLS handshake.
    pub host: Option<&'a str>,
    /// Normalised.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
    /// As written.
    pub method: &'a str,
    /// All of them.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client: IpAddr,
    /// What is known of its connection.
    pub opening: Opening<'a>,
}

/// The rule that a request belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Found<'t> {
    /// Its route.
    pub route: &'t Arc<model::Route>,
    /// Index into the rules of the route.
    pub rule: usize,
    /// Index into the matches of the rule; none for a rule that admits every request.
    pub matched: Option<usize>,
}

impl<'t> Found<'t> {
    /// The rule itself.
    pub fn rule(&self) -> Option<&'t Arc<model::Rule>> {
        self.route.rules.get(self.rule)
    }

    /// The conditions that held.
    pub fn condition(&self) -> Option<&'t model::Match> {
        self.rule()?.matches.get(self.matched?)
    }

    /// The condition on the path that held, for captures and the replacement of prefixes.
    pub fn path_match(&self) -> Option<&'t PathMatch> {
        self.condition()?.path.as_ref()
    }
}

impl Table {
    /// Compiles the routes of `snapshot`. Takes over from `previous` what is made of the same
    /// routes, so that a small edit of a large configuration costs little.
    pub fn compile(snapshot: &Snapshot, previous: Option<&Self>) -> Self {
        let mut table = Self::default();
        for listener in snapshot.listeners.keys() {
            let mut by_host: BTreeMap<(Mode, &HostPattern), Vec<&Arc<model::Route>>> =
                BTreeMap::new();
            for route in snapshot.routes.values() {
                if !route.listeners.contains(listener) {
                    continue;
                }
                for host in &route.hosts {
                    let routes = by_host.entry((route.mode, host)).or_default();
                    // The same host may be written twice in one route.
                    if routes.last().is_none_or(|last| last.name != route.name) {
                        routes.push(route);
                    }
                }
            }
            let mut modes = Modes::default();
            for ((mode, host), routes) in by_host {
                let hosts = modes.of_mut(mode);
                hosts.insert(host, table.rules(&routes, previous));
            }
            table.listeners.insert(listener.clone(), modes);
        }
        table
    }

    fn rules(&mut self, routes: &[&Arc<model::Route>], previous: Option<&Self>) -> Arc<Rules> {
        let names: Vec<RouteName> = routes.iter().map(|route| route.name.clone()).collect();
        if let Some(rules) = self.compiled.get(&names) {
            return Arc::clone(rules);
        }
        let rules = previous
            .and_then(|previous| previous.compiled.get(&names))
            .filter(|rules| rules.is_of(routes))
            .map_or_else(|| Arc::new(Rules::compile(routes)), Arc::clone);
        self.compiled.insert(names, Arc::clone(&rules));
        rules
    }

    /// Whether `listener` has routes of this mode.
    pub fn has(&self, listener: &ListenerName, mode: Mode) -> bool {
        let modes = self.listeners.get(listener);
        modes.is_some_and(|modes| !modes.of(mode).is_empty())
    }

    /// The rule of what came in by `listener`.
    pub fn find<'t>(
        &'t self,
        listener: &ListenerName,
        question: &Question<'_>,
    ) -> Option<Found<'t>> {
        let hosts = self.listeners.get(listener)?.of(question.mode);
        hosts.find(question.host)?.find(listener, question)
    }

    /// Whether any route of `listener` answers for the host, whatever its rules say.
    pub fn knows(&self, listener: &ListenerName, question: &Question<'_>) -> bool {
        let modes = self.listeners.get(listener);
        let hosts = modes.map(|modes| modes.of(question.mode));
        hosts.is_some_and(|hosts| hosts.find(question.host).is_some())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("listeners", &self.listeners.len())
            .field("compiled", &self.compiled.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
