//! `protocol`, `proxy_protocol`, `startup` and `udp` of a listener.

use super::super::nearest;
use crate::{
    findings::{Finding, Findings},
    model::{Bind, Protocol, ProxyProtocolIn, Startup, Udp},
    raw,
    scalar::{Scalars, TIMEOUT},
    tree::At,
};

/// Every protocol.
const PROTOCOLS: [Protocol; 8] = [
    Protocol::Http,
    Protocol::Https,
    Protocol::Tls,
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Auto,
    Protocol::ForwardProxy,
    Protocol::Transparent,
];

pub(super) fn protocol(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> Protocol {
    let Some(word) = raw else {
        return Protocol::Http;
    };
    if let Some(known) = PROTOCOLS.iter().find(|known| known.as_str() == word) {
        return *known;
    }
    if word == "h2c" {
        let finding = Finding::new("unknown_value", "there is no protocol \"h2c\"");
        let hint = "write \"http\": it serves HTTP/2 to clients that begin with it";
        findings.value(at, finding.hint(hint));
    } else {
        let what = format!("there is no protocol {word:?}");
        let words = PROTOCOLS.map(Protocol::as_str);
        let hint =
            nearest(words, word).unwrap_or_else(|| format!("there is: {}", words.join(", ")));
        findings.value(at, Finding::new("unknown_value", what).hint(hint));
    }
    Protocol::Http
}

/// Whether connections begin with a PROXY header. Anybody could say who they are if nobody said who
/// may.
pub(super) fn proxy_protocol(
    raw: &raw::Listener,
    protocol: Protocol,
    address: Option<&Bind>,
    listener: &At<'_>,
    findings: &mut Findings<'_>,
) -> ProxyProtocolIn {
    let at = listener.key("proxy_protocol");
    let proxy_protocol = match &raw.proxy_protocol {
        None | Some(raw::ProxyProtocolIn::Bool(false)) => return ProxyProtocolIn::Off,
        Some(raw::ProxyProtocolIn::Bool(true)) => ProxyProtocolIn::Required,
        Some(raw::ProxyProtocolIn::Text(text)) if text == "optional" => ProxyProtocolIn::Optional,
        Some(raw::ProxyProtocolIn::Text(text)) => {
            let what = format!("{text:?} is neither true, false nor \"optional\"");
            findings.value(&at, Finding::new("wrong_type", what));
            return ProxyProtocolIn::Off;
        }
    };
    if protocol == Protocol::Udp {
        let what = "datagrams have no beginning where a PROXY header could stand";
        let hint = "take proxy_protocol away";
        findings.key(&at, Finding::new("conflict", what).hint(hint));
    }
    let anybody = raw.trusted_proxies.as_ref();
    let nobody = anybody.is_none_or(|list| list.as_slice().is_empty());
    let is_socket = address.is_none_or(|address| address.socket().is_some());
    if nobody && is_socket && findings.is_clean(&listener.key("trusted_proxies")) {
        let what = "nobody says whose PROXY headers are believed";
        let hint = "write trusted_proxies = [\"10.0.0.0/8\"] with the addresses of the proxies";
        findings.key(&at, Finding::new("missing_key", what).hint(hint));
    }
    proxy_protocol
}

pub(super) fn startup(
    raw: Option<raw::Startup>,
    protocol: Protocol,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<Startup> {
    let raw::Startup::Postgres = raw?;
    if !matches!(protocol, Protocol::Tls | Protocol::Auto) {
        let what = "something before TLS is only expected on tls and auto listeners";
        let hint = "write protocol = \"tls\", or take startup away";
        findings.key(at, Finding::new("conflict", what).hint(hint));
    }
    Some(Startup::Postgres)
}

pub(super) fn udp(
    raw: Option<&raw::Udp>,
    protocol: Protocol,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Udp {
    let default = Udp::default();
    let Some(raw) = raw else {
        return default;
    };
    if protocol != Protocol::Udp {
        let finding = Finding::new(
            "conflict",
            "sessions are of datagrams, which come to udp only",
        );
        findings.key(
            at,
            finding.hint("write protocol = \"udp\", or take udp away"),
        );
        return default;
    }
    let mut scalars = Scalars { at: *at, findings };
    Udp {
        idle_timeout: scalars.time(
            "idle_timeout",
            raw.idle_timeout.as_ref(),
            TIMEOUT,
            default.idle_timeout,
        ),
        sessions: scalars.number("sessions", raw.sessions, 1..=10_000_000, default.sessions),
        sessions_per_client: scalars.number(
            "sessions_per_client",
            raw.sessions_per_client,
            1..=10_000_000,
            default.sessions_per_client,
        ),
        one_shot: raw.one_shot.unwrap_or(default.one_shot),
    }
}
