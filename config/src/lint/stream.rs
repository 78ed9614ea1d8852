//! Streams and datagrams: conditions that cannot hold, sessions that are kept for nothing, settings that
//! nobody looks at.

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
    problems.extend(snapshot.listeners.values().flat_map(|it| unused(it)));
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

/// What somebody has set of requests where none are read, or of connections where there are only datagrams.
/// Nobody ever looks at it.
fn unused(listener: &Listener) -> Vec<Problem> {
    if listener.protocol.has_requests() || listener.protocol.is_egress() {
        return Vec::new();
    }
    let none = Listener::new(listener.name.clone(), listener.address.clone());
    let (limits, no_limits) = (&listener.limits, &none.limits);
    let (times, no_times) = (&listener.timeouts, &none.timeouts);
    let of_requests = [
        ("normalize", listener.normalize != none.normalize),
        ("http2", listener.http2 != none.http2),
        ("trusted_hops", listener.trusted_hops != none.trusted_hops),
        ("limits.head", limits.head != no_limits.head),
        ("limits.uri", limits.uri != no_limits.uri),
        ("limits.headers", limits.headers != no_limits.headers),
        ("limits.streams", limits.streams != no_limits.streams),
        ("limits.resets", limits.resets != no_limits.resets),
        ("limits.body_rate", limits.body_rate != no_limits.body_rate),
        (
            "timeouts.request_head",
            times.request_head != no_times.request_head,
        ),
        (
            "timeouts.request_body",
            times.request_body != no_times.request_body,
        ),
        ("timeouts.idle", times.idle != no_times.idle),
    ];
    let per_client = limits.connections_per_client != no_limits.connections_per_client;
    let of_connections = [
        (
            "trusted_proxies",
            listener.trusted_proxies != none.trusted_proxies,
        ),
        (
            "limits.connections",
            limits.connections != no_limits.connections,
        ),
        ("limits.connections_per_client", per_client),
        (
            "timeouts.tls_handshake",
            times.tls_handshake != no_times.tls_handshake,
        ),
        (
            "timeouts.write_stall",
            times.write_stall != no_times.write_stall,
        ),
        (
            "timeouts.proxy_header",
            times.proxy_header != no_times.proxy_header,
        ),
        ("timeouts.sniff", times.sniff != no_times.sniff),
    ];
    let is_udp = listener.protocol == Protocol::Udp;
    let of_requests = of_requests.map(|it| (it, "requests, and none are read here"));
    let of_connections =
        of_connections.map(|it| (it, "connections, and there are only datagrams here"));
    let all = of_requests
        .into_iter()
        .chain(of_connections.into_iter().filter(|_| is_udp));
    let set = all.filter(|((_, is_set), _)| *is_set);
    let hint = if is_udp {
        "take it away; sessions are bounded by `udp` and `stream`"
    } else {
        "take it away; raw streams are bounded by `stream`"
    };
    let problems = set.map(|((key, _), about)| {
        let at = format!("listeners.{}.{key}", listener.name);
        problem("unused_setting", at, format!("this is about {about}"), hint)
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
