//! `[upstreams.NAME]`

pub(super) mod dns;
mod health;

use super::{Draft, decode, listener, tls};
use crate::{
    findings::{Finding, Findings},
    model::{
        Balance, Endpoint, ProxyVersion, Scheme, Startup, Upstream, UpstreamLimits, UpstreamPool,
        UpstreamProtocol, UpstreamTimeouts,
    },
    names::UpstreamName,
    raw::{self, OneOrMany, TextOr},
    scalar::{Scalars, TIMEOUT},
    text,
    tree::{At, Node},
};

/// The largest weight of an endpoint or target.
pub(super) const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn check(
    name: UpstreamName,
    node: &Node,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Draft<Upstream> {
    let raw: raw::Upstream = decode(node, at, findings);
    let mut endpoints = endpoints(raw.endpoints.as_ref(), at, findings);
    let tls = tls::upstream::check(raw.tls.as_ref(), &endpoints, at, findings);
    let protocol = protocol(raw.protocol, &mut endpoints, at, findings);
    let health_check = health::check(raw.health_check.as_ref(), &endpoints, at, findings);
    let panic_threshold = Scalars { at: *at, findings }.number(
        "panic_threshold",
        raw.panic_threshold,
        0..=100,
        Upstream::PANIC_THRESHOLD,
    );
    let upstream = Upstream {
        protocol,
        tls,
        balance: match raw.balance {
            None => Balance::default(),
            Some(raw::Balance::RoundRobin) => Balance::RoundRobin,
            Some(raw::Balance::Random) => Balance::Random,
            Some(raw::Balance::LeastRequest) => Balance::LeastRequest,
            Some(raw::Balance::RingHash) => Balance::RingHash,
        },
        proxy_protocol: raw.proxy_protocol.map(|version| match version {
            raw::ProxyVersion::V1 => ProxyVersion::V1,
            raw::ProxyVersion::V2 => ProxyVersion::V2,
        }),
        startup: raw.startup.map(|raw::Startup::Postgres| Startup::Postgres),
        socket: listener::socket::upstream(raw.socket.as_ref(), &at.key("socket"), findings),
        timeouts: timeouts(
            &raw.timeouts.unwrap_or_default(),
            &at.key("timeouts"),
            findings,
        ),
        pool: pool(&raw.pool.unwrap_or_default(), &at.key("pool"), findings),
        limits: limits(&raw.limits.unwrap_or_default(), &at.key("limits"), findings),
        health_check,
        panic_threshold,
        ..Upstream::new(name, endpoints)
    };
    Draft {
        object: Some(upstream),
        clean: findings.is_clean(at),
    }
}

/// One upstream, one way to speak: what the schemes of its endpoints say has to be the same as what
/// is written. Afterwards the schemes say nothing any more.
fn protocol(
    raw: Option<raw::UpstreamProtocol>,
    endpoints: &mut [Endpoint],
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> UpstreamProtocol {
    let mut count = 0_usize;
    for endpoint in &mut *endpoints {
        let http2 = matches!(endpoint.address.scheme, Scheme::H2c | Scheme::H2);
        count = count.saturating_add(usize::from(http2));
        endpoint.address.scheme = Scheme::Http;
    }
    let mut conflict = |key: &str, what: String| {
        let finding = Finding::new("conflict", what);
        let hint = "write protocol = \"http2\", or addresses without h2c:// and h2://";
        findings.value(&at.key(key), finding.hint(hint));
    };
    match raw {
        Some(raw::UpstreamProtocol::Http2) => UpstreamProtocol::Http2,
        Some(raw) => {
            if count > 0 {
                let what =
                    format!("{at} has endpoints with h2c:// or h2://, which speak HTTP/2 only");
                conflict("protocol", what);
            }
            match raw {
                raw::UpstreamProtocol::Auto => UpstreamProtocol::Auto,
                _ => UpstreamProtocol::Http1,
            }
        }
        None if count == 0 => UpstreamProtocol::default(),
        None => {
            if count < endpoints.len() {
                let what = format!("only some endpoints of {at} are h2c:// or h2://");
                conflict("endpoints", what);
            }
            UpstreamProtocol::Http2
        }
    }
}

fn endpoints(
    raw: Option<&OneOrMany<TextOr<raw::Endpoint>>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Endpoint> {
    let Some(list) = raw else {
        let finding = Finding::new("missing_key", format!("{at} lacks its endpoints"));
        findings.missing(
            at,
            "endpoints",
            finding.hint("write endpoints = [\"10.0.0.1:8080\"]"),
        );
        return Vec::new();
    };
    let key = at.key("endpoints");
    let each = list.as_slice().iter().enumerate();
    each.filter_map(|(index, raw)| endpoint(raw, &key.element(index, list.is_list()), findings))
        .collect()
}

fn endpoint(
    raw: &TextOr<raw::Endpoint>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<Endpoint> {
    match raw {
        TextOr::Text(text) => {
            let address = text::endpoint(text).map_err(|finding| findings.value(at, finding));
            address.ok().map(Endpoint::new)
        }
        TextOr::Table(raw) => {
            let weight =
                Scalars { at: *at, findings }.number("weight", raw.weight, 0..=MAX_WEIGHT, 1);
            let Some(text) = &raw.address else {
                let finding = Finding::new("missing_key", "the endpoint lacks its address");
                findings.missing(at, "address", finding);
                return None;
            };
            let address = text::endpoint(text);
            let address = address
                .map_err(|finding| findings.value(&at.key("address"), finding))
                .ok()?;
            Some(Endpoint { address, weight })
        }
    }
}

fn timeouts(
    raw: &raw::UpstreamTimeouts,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> UpstreamTimeouts {
    let default = UpstreamTimeouts::default();
    let mut scalars = Scalars { at: *at, findings };
    UpstreamTimeouts {
        connect: scalars.time("connect", raw.connect.as_ref(), TIMEOUT, default.connect),
        response_head: scalars.time(
            "response_head",
            raw.response_head.as_ref(),
            TIMEOUT,
            default.response_head,
        ),
        response_body: scalars.time_or_off(
            "response_body",
            raw.response_body.as_ref(),
            default.response_body,
        ),
        write_stall: scalars.time(
            "write_stall",
            raw.write_stall.as_ref(),
            TIMEOUT,
            default.write_stall,
        ),
    }
}

fn pool(raw: &raw::UpstreamPool, at: &At<'_>, findings: &mut Findings<'_>) -> UpstreamPool {
    let default = UpstreamPool::default();
    let mut scalars = Scalars { at: *at, findings };
    UpstreamPool {
        idle_timeout: scalars.time(
            "idle_timeout",
            raw.idle_timeout.as_ref(),
            TIMEOUT,
            default.idle_timeout,
        ),
        idle_connections: scalars.number(
            "idle_connections",
            raw.idle_connections,
            0..=1_000_000,
            default.idle_connections,
        ),
        max_age: scalars.time_or_off("max_age", raw.max_age.as_ref(), default.max_age),
        requests_per_connection: scalars.count(
            "requests_per_connection",
            raw.requests_per_connection.as_ref(),
            1..=1_000_000_000,
            default.requests_per_connection,
        ),
        ping: scalars.time_or_off("ping", raw.ping.as_ref(), default.ping),
    }
}

fn limits(raw: &raw::UpstreamLimits, at: &At<'_>, findings: &mut Findings<'_>) -> UpstreamLimits {
    let default = UpstreamLimits::default();
    let mut scalars = Scalars { at: *at, findings };
    UpstreamLimits {
        connections: scalars.count(
            "connections",
            raw.connections.as_ref(),
            1..=10_000_000,
            default.connections,
        ),
        pending_requests: scalars.number(
            "pending_requests",
            raw.pending_requests,
            0..=1_000_000,
            default.pending_requests,
        ),
        streams: scalars.number("streams", raw.streams, 1..=10_000, default.streams),
    }
}
