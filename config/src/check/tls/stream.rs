//! Routes of listeners that pass raw streams: nobody reads a request there.

use crate::check::references::Known;
use crate::{
    findings::{Finding, Findings},
    model::{Action, Filters, Match, Protocol, Route, Rule},
    names::{ListenerName, RuleName},
    tree::At,
};

/// Reports what a route says about requests though its listeners pass raw streams.
pub(in crate::check) fn check(
    route: &Route,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) {
    let raw = |name: &ListenerName| known.protocol(name) == Some(Protocol::Tls);
    let Some(stream) = route.listeners.iter().find(|name| raw(name)) else {
        return;
    };
    if let Some(other) = route.listeners.iter().find(|name| !raw(name)) {
        let what = format!("listener {stream} passes raw streams, listener {other} requests");
        let hint = "write two routes, one for each";
        findings.value(
            &at.key("listeners"),
            Finding::new("raw_stream", what).hint(hint),
        );
        return;
    }
    let mut odd = |at: &At<'_>, what: &str| {
        let what = format!("{what}, but listener {stream} passes raw streams");
        let hint = "only `to`, and matches on `client` and `listener`, work there; for requests \
                    write protocol = \"https\" on the listener";
        findings.key(at, Finding::new("raw_stream", what).hint(hint));
    };
    if route.filters != Filters::default() {
        odd(at, "the filters of the route change requests");
    }
    for (position, rule) in route.rules.iter().enumerate() {
        let rules = at.key("rules");
        let at = if rule.name == RuleName::catch_all() {
            *at
        } else {
            rules.index(position)
        };
        if !rule.matches.iter().all(of_connections) {
            odd(&at.key("match"), "the match is on a request");
        }
        if rule.filters != Filters::default() {
            odd(&at, "the filters of the rule change requests");
        }
        if let Some(word) = answer(rule) {
            odd(&at.key(word), "this answers a request");
        }
    }
}

fn answer(rule: &Rule) -> Option<&'static str> {
    match rule.action {
        Action::Redirect(_) => Some("redirect"),
        Action::Respond(_) => Some("respond"),
        Action::Forward(_) | Action::Refused => None,
    }
}

/// Whether it asks for nothing but what is known of a connection.
fn of_connections(condition: &Match) -> bool {
    let connection = Match {
        clients: condition.clients.clone(),
        listeners: condition.listeners.clone(),
        ..Match::default()
    };
    *condition == connection
}
