//! `[listeners.NAME]`

mod egress;
pub(super) mod socket;
mod stream;

use ipnet::IpNet;

use super::{Draft, decode, filter, references::Known, tls};
use crate::{
    findings::{Finding, Findings},
    model::{
        Bind, Escapes, Filters, Http2, HttpsRedirect, Limit, Listener, ListenerLimits,
        ListenerTimeouts, Normalize, Protocol, Underscores,
    },
    names::ListenerName,
    raw::{self, OneOrMany, Switch},
    scalar::{Scalars, TIMEOUT},
    text,
    tree::{At, Node},
};

pub(super) fn check(
    name: ListenerName,
    node: &Node,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Draft<Listener> {
    let raw: raw::Listener = decode(node, at, findings);
    let address = address(raw.address.as_deref(), at, findings);
    let protocol = stream::protocol(raw.protocol.as_deref(), &at.key("protocol"), findings);
    let bind = address.as_ref();
    if protocol == Protocol::Udp && bind.is_some_and(|bind| bind.socket().is_none()) {
        let finding = Finding::new("conflict", "a udp listener cannot accept on a unix socket");
        findings.value(&at.key("address"), finding.hint("write ADDRESS:PORT"));
    }
    let proxy_protocol = stream::proxy_protocol(&raw, protocol, bind, at, findings);
    let startup = stream::startup(raw.startup, protocol, &at.key("startup"), findings);
    let udp = stream::udp(raw.udp.as_ref(), protocol, &at.key("udp"), findings);
    let socket = socket::check(
        raw.socket.as_ref(),
        (protocol, bind),
        &at.key("socket"),
        findings,
    );
    let tls = tls::listener::check(&raw, protocol, at, known, findings);
    let (basic, open) = egress::check(&raw, protocol, (bind, tls.as_ref()), at, findings);
    let filters = filter::check(&raw.filters(), at, filter::Level::Wide, known, findings);
    let https_redirect = https_redirect(raw.https_redirect.as_ref(), at, findings);
    if let Some(filters) = &filters {
        misplaced(protocol, https_redirect, filters, at, findings);
    }
    let trusted_proxies = networks(
        raw.trusted_proxies.as_ref(),
        &at.key("trusted_proxies"),
        findings,
    );
    let limits = limits(&raw.limits.unwrap_or_default(), &at.key("limits"), findings);
    let timeouts = timeouts(
        &raw.timeouts.unwrap_or_default(),
        &at.key("timeouts"),
        findings,
    );
    let http2 = http2(&raw.http2.unwrap_or_default(), &at.key("http2"), findings);
    let mut scalars = Scalars { at: *at, findings };
    let trusted_hops = match raw.trusted_hops {
        None => Limit::Off,
        Some(hops) => Limit::At(scalars.number("trusted_hops", Some(hops), 1..=32, 1)),
    };
    let clean = findings.is_clean(at) && filters.is_some();
    let object = address.map(|address| Listener {
        protocol,
        tls,
        basic,
        open,
        https_redirect,
        trusted_proxies,
        trusted_hops,
        proxy_protocol,
        startup,
        udp,
        socket,
        normalize: normalize(&raw.normalize.unwrap_or_default()),
        limits,
        timeouts,
        http2,
        filters: filters.unwrap_or_default(),
        ..Listener::new(name, address)
    });
    Draft { object, clean }
}

fn address(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Bind> {
    let Some(text) = raw else {
        let finding = Finding::new("missing_key", format!("{at} lacks its address"));
        findings.missing(
            at,
            "address",
            finding.hint("write address = \"0.0.0.0:80\""),
        );
        return None;
    };
    let address = text::listener_address(text);
    address
        .map_err(|finding| findings.value(&at.key("address"), finding))
        .ok()
}

/// Reports what means nothing on a listener of this protocol.
fn misplaced(
    protocol: Protocol,
    https_redirect: Option<HttpsRedirect>,
    filters: &Filters,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) {
    if !matches!(protocol, Protocol::Http | Protocol::Auto) && https_redirect.is_some() {
        let (what, hint) = if protocol == Protocol::Https || protocol == Protocol::Tls {
            let hint = "write https_redirect on the http listener";
            (format!("who reaches {at} speaks TLS already"), hint)
        } else {
            let what = format!("{at} answers no requests: it passes on what comes");
            (what, "take https_redirect away")
        };
        let finding = Finding::new("conflict", what).hint(hint);
        findings.key(&at.key("https_redirect"), finding);
    }
    if !protocol.has_requests() && filters.change_requests() {
        let (what, hint) = if protocol.is_egress() {
            let what = format!("filters change requests of routes, and no route is bound to {at}");
            (what, "what may pass is said in [egress]")
        } else {
            let what = format!("filters change requests, but {at} passes raw streams");
            (what, "for requests write protocol = \"https\" or \"http\"")
        };
        findings.key(at, Finding::new("raw_stream", what).hint(hint));
    }
    if protocol == Protocol::Http && filters.stream.is_some() {
        let what = format!("stream bounds raw streams, but {at} serves requests only");
        let hint = "take it away; connections with requests have timeouts of their own, upgraded ones \
                    `upgrade`";
        findings.key(
            &at.key("stream"),
            Finding::new("no_stream", what).hint(hint),
        );
    }
}

fn https_redirect(
    raw: Option<&Switch<raw::HttpsRedirect>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<HttpsRedirect> {
    let default = HttpsRedirect::default();
    match raw {
        None | Some(Switch::Bool(false)) => None,
        Some(Switch::Bool(true)) => Some(default),
        Some(Switch::Table(raw)) => {
            let at = at.key("https_redirect");
            let mut status = default.status;
            match raw.status {
                None => {}
                Some(number @ (301 | 302 | 307 | 308)) => {
                    status = u16::try_from(number).unwrap_or(status);
                }
                Some(number) => {
                    let what = format!("the status is {number}, not 301, 302, 307 or 308");
                    findings.value(&at.key("status"), Finding::new("out_of_range", what));
                }
            }
            let port = Scalars { at, findings }.number("port", raw.port, 1..=65535, default.port);
            Some(HttpsRedirect { status, port })
        }
    }
}

/// Networks and addresses of clients or proxies.
pub(super) fn networks(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    let Some(list) = raw else {
        return networks;
    };
    for (index, network) in list.as_slice().iter().enumerate() {
        match text::network(network) {
            Ok(network) => networks.push(network),
            Err(finding) => findings.value(&at.element(index, list.is_list()), finding),
        }
    }
    networks
}

fn normalize(raw: &raw::Normalize) -> Normalize {
    let default = Normalize::default();
    let escapes = |raw: Option<raw::Escapes>, default| match raw {
        None => default,
        Some(raw::Escapes::Refuse) => Escapes::Refuse,
        Some(raw::Escapes::Keep) => Escapes::Keep,
    };
    Normalize {
        merge_slashes: raw.merge_slashes.unwrap_or(default.merge_slashes),
        escaped_slash: escapes(raw.escaped_slash, default.escaped_slash),
        escaped_backslash: escapes(raw.escaped_backslash, default.escaped_backslash),
        escaped_nul: escapes(raw.escaped_nul, default.escaped_nul),
        backslash: escapes(raw.backslash, default.backslash),
        underscores: match raw.underscores {
            None => default.underscores,
            Some(raw::Underscores::Drop) => Underscores::Drop,
            Some(raw::Underscores::Keep) => Underscores::Keep,
            Some(raw::Underscores::Refuse) => Underscores::Refuse,
        },
    }
}

fn limits(raw: &raw::ListenerLimits, at: &At<'_>, findings: &mut Findings<'_>) -> ListenerLimits {
    const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=10_000_000;

    let default = ListenerLimits::default();
    let mut scalars = Scalars { at: *at, findings };
    ListenerLimits {
        connections: scalars.count(
            "connections",
            raw.connections.as_ref(),
            CONNECTIONS,
            default.connections,
        ),
        connections_per_client: scalars.count(
            "connections_per_client",
            raw.connections_per_client.as_ref(),
            CONNECTIONS,
            default.connections_per_client,
        ),
        head: scalars.size("head", raw.head.as_ref(), 1 << 10..=1 << 20, default.head),
        uri: scalars.size("uri", raw.uri.as_ref(), 256..=512 << 10, default.uri),
        headers: scalars.number("headers", raw.headers, 8..=1000, default.headers),
        streams: scalars.number("streams", raw.streams, 1..=10_000, default.streams),
        resets: scalars.number("resets", raw.resets, 1..=1_000_000, default.resets),
        body_rate: scalars.count(
            "body_rate",
            raw.body_rate.as_ref(),
            1..=1 << 20,
            default.body_rate,
        ),
    }
}

fn http2(raw: &raw::Http2, at: &At<'_>, findings: &mut Findings<'_>) -> Http2 {
    let default = Http2::default();
    let mut scalars = Scalars { at: *at, findings };
    Http2 {
        stream_window: scalars.size(
            "stream_window",
            raw.stream_window.as_ref(),
            16 << 10..=16 << 20,
            default.stream_window,
        ),
        connection_window: scalars.size(
            "connection_window",
            raw.connection_window.as_ref(),
            64 << 10..=256 << 20,
            default.connection_window,
        ),
    }
}

fn timeouts(
    raw: &raw::ListenerTimeouts,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> ListenerTimeouts {
    let default = ListenerTimeouts::default();
    let mut scalars = Scalars { at: *at, findings };
    ListenerTimeouts {
        tls_handshake: scalars.time(
            "tls_handshake",
            raw.tls_handshake.as_ref(),
            TIMEOUT,
            default.tls_handshake,
        ),
        request_head: scalars.time(
            "request_head",
            raw.request_head.as_ref(),
            TIMEOUT,
            default.request_head,
        ),
        idle: scalars.time("idle", raw.idle.as_ref(), TIMEOUT, default.idle),
        request_body: scalars.time(
            "request_body",
            raw.request_body.as_ref(),
            TIMEOUT,
            default.request_body,
        ),
        write_stall: scalars.time(
            "write_stall",
            raw.write_stall.as_ref(),
            TIMEOUT,
            default.write_stall,
        ),
        proxy_header: scalars.time(
            "proxy_header",
            raw.proxy_header.as_ref(),
            TIMEOUT,
            default.proxy_header,
        ),
        sniff: scalars.time("sniff", raw.sniff.as_ref(), TIMEOUT, default.sniff),
    }
}
