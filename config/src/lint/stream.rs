//! Streams and datagrams: conditions that cannot hold, sessions that are kept for nothing.

use std::{sync::Arc, time::Duration};

use super::{at_rule, problem};
use crate::{
    Problem, Snapshot,
    model::{
        Bind, HostPattern, Listener, Match, Mode, Protocol, ProxyProtocolIn, Route, ValueMatch,
    },
};

/// With one reply a session is over; nobody waits longer than this for one.
const ONE_SHOT: Duration = Duration::from_mins(1);

pub(super) fn check(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = lasting(snapshot);
    for route in snapshot.routes.values() {
        let bound: Vec<&Arc<Listener>> = route
            .listeners
            .iter()
            .filter_map(|name| snapshot.listeners.get(name))
            .collect();
        for (position, rule) in route.rules.iter().enumerate() {
            for (matched, condition) in rule.matches.iter().enumerate() {
                let at = format!("{}.match[{matched}]", at_rule(route, position));
                let listeners: Vec<&Listener> = bound
                    .iter()
                    .filter(|it| {
                        condition.listeners.is_empty() || condition.listeners.contains(&it.name)
                    })
                    .map(|it| &***it)
                    .collect();
                problems.extend(destination(&at, condition, &listeners));
                problems.extend(alpn(&at, condition, route.mode, &listeners));
                problems.extend(sni(&at, condition, route));
            }
        }
    }
    problems
}

fn lasting(snapshot: &Snapshot) -> Vec<Problem> {
    let listeners = snapshot.listeners.values();
    let lasting = listeners.filter(|it| it.udp.one_shot && it.udp.idle_timeout > ONE_SHOT);
    let problems = lasting.map(|listener| {
        problem(
            "one_shot_idle",
            format!("listeners.{}.udp.idle_timeout", listener.name),
            "a session ends with its first reply, and one without a reply is kept for all this time"
                .to_owned(),
            "a few seconds are enough: idle_timeout = \"5s\"",
        )
    });
    problems.collect()
}

/// Behind a proxy that says where its client connected to, anything can be.
fn destination(at: &str, condition: &Match, listeners: &[&Listener]) -> Option<Problem> {
    let (networks, ports) = (&condition.destination, &condition.destination_port);
    let possible = |listener: &&Listener| {
        let Bind::Socket(address) = &listener.address else {
            return true;
        };
        let port = address.port();
        let port_fits = port == 0 || ports.is_empty() || ports.iter().any(|it| it.contains(&port));
        let ip = address.ip();
        let ip_fits = ip.is_unspecified()
            || networks.is_empty()
            || networks.iter().any(|net| net.contains(&ip));
        listener.proxy_protocol != ProxyProtocolIn::Off || (port_fits && ip_fits)
    };
    let never = !listeners.is_empty() && !listeners.iter().any(possible);
    never.then(|| {
        problem(
            "unmatchable_destination",
            at.to_owned(),
            "no listener of this route accepts at such a destination".to_owned(),
            "write the address and port of the listener, or take the condition away",
        )
    })
}

/// Where TLS is ended, nothing is agreed on that is not offered.
fn alpn(at: &str, condition: &Match, mode: Mode, listeners: &[&Listener]) -> Option<Problem> {
    if mode != Mode::Tcp || condition.alpn.is_empty() {
        return None;
    }
    let offers = |listener: &&Listener| {
        let tls = listener.tls.as_ref();
        let mut offered = tls.iter().flat_map(|tls| &tls.terms.alpn);
        listener.protocol != Protocol::Tls
            || offered.any(|it| condition.alpn.iter().any(|wanted| wanted == it.as_str()))
    };
    let never = !listeners.is_empty() && !listeners.iter().any(offers);
    never.then(|| {
        problem(
            "unmatchable_alpn",
            format!("{at}.alpn"),
            "no listener of this route offers such a protocol, so that it is never agreed on"
                .to_owned(),
            "add it to tls = { alpn = [\"…\"] } of the listener",
        )
    })
}

/// The name has found the route by its hosts before.
fn sni(at: &str, condition: &Match, route: &Route) -> Option<Problem> {
    let possible = |host: &HostPattern| match (condition.sni.as_ref(), host) {
        (None | Some(ValueMatch::Present(true)), _)
        | (_, HostPattern::Any)
        | (Some(ValueMatch::StartsWith(_) | ValueMatch::Regex(_)), HostPattern::Wildcard(_)) => {
            true
        }
        (Some(ValueMatch::Present(false)), _) => false,
        (Some(ValueMatch::Exact(name)), HostPattern::Exact(host)) => name == host,
        (Some(ValueMatch::StartsWith(text)), HostPattern::Exact(host)) => {
            host.starts_with(text.as_str())
        }
        (Some(ValueMatch::Regex(pattern)), HostPattern::Exact(host)) => {
            pattern.regex().is_match(host)
        }
        (Some(ValueMatch::Exact(name)), HostPattern::Wildcard(suffix)) => {
            name.len() > suffix.len() && name.ends_with(suffix.as_str())
        }
    };
    let never = !route.hosts.iter().any(possible);
    never.then(|| {
        problem(
            "unmatchable_sni",
            format!("{at}.sni"),
            "the hosts of this route admit no such name".to_owned(),
            "write the name into `hosts`; for clients that ask for none the host is \"*\"",
        )
    })
}
