//! What goes with the mode of a route: keys about requests where nobody reads any, keys about streams
//! where there are none, and upstreams that speak something else.

use std::collections::BTreeMap;

use super::mode::noun;
use crate::check::{Drafts, references::Known};
use crate::{
    findings::{Finding, Findings},
    model::{
        Action, Destination, HostPort, Match, Mode, ProxyVersion, Route, Rule, Upstream,
        UpstreamProtocol,
    },
    names::{RouteName, RuleName},
    tree::At,
};

/// Reports what a route says that means nothing in its mode.
pub(super) fn check(route: &Route, at: &At<'_>, known: &Known, findings: &mut Findings<'_>) {
    let rules = at.key("rules");
    let place = |position: usize, rule: &Rule| {
        if rule.name == RuleName::catch_all() {
            *at
        } else {
            rules.index(position)
        }
    };
    if route.mode == Mode::Http {
        streamless(route.filters.stream.is_some(), at, findings);
    } else {
        requests(route, at, findings);
    }
    let mut protocols = route.listeners.iter().map(|name| known.protocol(name));
    let asked = protocols.all(|it| it.is_none_or(|it| route.mode.knows_sni(it)));
    for (position, rule) in route.rules.iter().enumerate() {
        let at = place(position, rule);
        let hello = |one: &Match| one.sni.is_some() || !one.alpn.is_empty();
        if !asked && rule.matches.iter().any(hello) {
            let what = "the match is on what a client says in its TLS handshake, which is not at \
                        hand here";
            let hint = "sni and alpn work with mode = \"passthrough\", and on tls listeners; for \
                        requests write `hosts` on the route";
            findings.key(&at.key("match"), Finding::new("no_sni", what).hint(hint));
        }
        if route.mode == Mode::Http {
            streamless(rule.filters.stream.is_some(), &at, findings);
        } else {
            requests_of(rule, route.mode, &at, findings);
        }
    }
}

fn streamless(written: bool, at: &At<'_>, findings: &mut Findings<'_>) {
    if written {
        let what = "stream bounds raw streams, but this route takes requests";
        let hint = "write timeout for requests, `upgrade` for upgraded connections";
        findings.key(
            &at.key("stream"),
            Finding::new("no_stream", what).hint(hint),
        );
    }
}

/// What a raw route says of requests.
fn requests(route: &Route, at: &At<'_>, findings: &mut Findings<'_>) {
    let mode = route.mode;
    if route.filters.change_requests() {
        odd(
            at,
            "the filters of the route change requests",
            mode,
            findings,
        );
    }
    if route.timeout.is_some() {
        let at = at.key("timeout");
        odd(&at, "timeout bounds requests", mode, findings);
    }
    if route.client_certificates.is_some() && mode != Mode::Tcp {
        let what = "client certificates are asked for by whoever ends TLS";
        odd(&at.key("client_certificates"), what, mode, findings);
    }
}

/// What a rule of a raw route says of requests.
fn requests_of(rule: &Rule, mode: Mode, at: &At<'_>, findings: &mut Findings<'_>) {
    if !rule.matches.iter().all(of_connections) {
        odd(
            &at.key("match"),
            "the match is on a request",
            mode,
            findings,
        );
    }
    if rule.filters.change_requests() {
        odd(
            at,
            "the filters of the rule change requests",
            mode,
            findings,
        );
    }
    if rule.timeout.is_some() {
        odd(
            &at.key("timeout"),
            "timeout bounds requests",
            mode,
            findings,
        );
    }
    let answer = match rule.action {
        Action::Redirect(_) => "redirect",
        Action::Respond(_) => "respond",
        Action::Forward(_) | Action::Refused => return,
    };
    odd(&at.key(answer), "this answers a request", mode, findings);
}

fn odd(at: &At<'_>, what: &str, mode: Mode, findings: &mut Findings<'_>) {
    let what = format!("{what}, but the route takes {}", noun(mode));
    let hint = match mode {
        Mode::Tcp | Mode::Http => {
            "only `to`, `stream`, `trace`, and matches on `client`, `listener`, `destination` and \
             `destination_port` (behind TLS also `sni` and `alpn`) work there; requests are read on \
             http and https listeners"
        }
        Mode::Passthrough => {
            "only `to`, `stream`, `trace`, and matches on `sni`, `alpn`, `client`, `listener`, \
             `destination` and `destination_port` work there; requests are read where TLS is ended"
        }
        Mode::Udp => {
            "only `to`, `trace`, and matches on `client`, `listener`, `destination` and \
             `destination_port` work there"
        }
    };
    findings.key(at, Finding::new("raw_stream", what).hint(hint));
}

/// Whether it asks for nothing but what is known of a connection.
fn of_connections(condition: &Match) -> bool {
    let connection = Match {
        clients: condition.clients.clone(),
        listeners: condition.listeners.clone(),
        destination: condition.destination.clone(),
        destination_port: condition.destination_port.clone(),
        alpn: condition.alpn.clone(),
        sni: condition.sni.clone(),
        ..Match::default()
    };
    *condition == connection
}

/// Reports upstreams that cannot be spoken to as a route would have to, and refuses the routes.
pub(in crate::check) fn check_upstreams(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    let mut refused: BTreeMap<RouteName, Vec<(usize, bool, Finding)>> = BTreeMap::new();
    let routes = drafts.routes.values().filter(|draft| draft.clean);
    for route in routes.filter_map(|draft| draft.object.as_ref()) {
        for (position, rule) in route.rules.iter().enumerate() {
            let Action::Forward(targets) = &rule.action else {
                continue;
            };
            let misfit = targets.iter().find_map(|target| match &target.destination {
                Destination::Upstream(name) => {
                    misfit(route.mode, drafts.upstreams.get(name)?.object.as_ref()?)
                }
                Destination::Address(address) => misfit(route.mode, &Upstream::of_address(address)),
                Destination::Service { .. } => None,
            });
            if let Some(finding) = misfit {
                let catch_all = rule.name == RuleName::catch_all();
                let found = refused.entry(route.name.clone()).or_default();
                found.push((position, catch_all, finding));
            }
        }
    }
    for (name, found) in refused {
        let at = At::Root.key("routes");
        let at = at.key(name.as_str());
        let rules = at.key("rules");
        for (position, catch_all, finding) in found {
            let at = if catch_all { at } else { rules.index(position) };
            findings.value(&at.key("to"), finding);
        }
        drafts.refuse_route(&name);
    }
}

/// Why what a route takes cannot go to an upstream.
fn misfit(mode: Mode, upstream: &Upstream) -> Option<Finding> {
    let name = &upstream.name;
    let said = |what: String, hint: &str| Some(Finding::new("wrong_upstream", what).hint(hint));
    if mode == Mode::Http {
        return match upstream.startup {
            Some(_) => said(
                format!("upstream {name} has a startup, which requests have not"),
                "take startup away from the upstream, or send raw streams there",
            ),
            None => None,
        };
    }
    if upstream.protocol != UpstreamProtocol::Http1 {
        let what = format!(
            "upstream {name} is spoken to in HTTP/2, but the route takes {}",
            noun(mode)
        );
        return said(
            what,
            "take `protocol` (or h2://, h2c://) away from the upstream",
        );
    }
    let tls = upstream.tls.is_some();
    match mode {
        Mode::Passthrough if tls => said(
            format!("upstream {name} is reached over TLS, but what passes through is TLS already"),
            "take `tls` (or https://) away from the upstream",
        ),
        Mode::Udp if tls => said(
            format!("upstream {name} is reached over TLS, which datagrams have not"),
            "take `tls` (or https://) away from the upstream",
        ),
        Mode::Udp if upstream.proxy_protocol == Some(ProxyVersion::V1) => said(
            format!(
                "upstream {name} is told of clients in a line of text, which has no word for datagrams"
            ),
            "write proxy_protocol = \"v2\" on the upstream",
        ),
        Mode::Udp if upstream.startup.is_some() => said(
            format!("upstream {name} has a startup, which datagrams have not"),
            "take `startup` away from the upstream",
        ),
        Mode::Udp if upstream.endpoints.iter().any(is_unix) => said(
            format!("upstream {name} has a unix socket, which takes no datagrams from here"),
            "write addresses with ports",
        ),
        Mode::Tcp if upstream.startup.is_some() && !tls => said(
            format!("upstream {name} is asked for TLS (`startup`), which is not spoken then"),
            "write tls = true on the upstream",
        ),
        Mode::Http | Mode::Tcp | Mode::Passthrough | Mode::Udp => None,
    }
}

fn is_unix(endpoint: &crate::model::Endpoint) -> bool {
    matches!(endpoint.address.host, HostPort::Unix(_))
}
