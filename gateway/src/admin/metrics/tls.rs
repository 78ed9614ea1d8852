//! Handshakes and certificates.

use std::collections::BTreeMap;

use super::PER_SECOND;
use crate::{
    plan::Plan,
    telemetry::metrics::{
        BOUNDS, HANDSHAKE_KINDS, HandshakeReading,
        text::{Kind, Text},
    },
};

/// By listener, or by upstream.
type Readings<'a> = BTreeMap<&'a str, HandshakeReading>;

pub(super) fn write(text: &mut Text, plan: &Plan) {
    let all = plan.listeners.iter();
    let readings: Readings<'_> = all
        .filter_map(|(name, it)| Some((name.as_str(), it.tls.as_ref()?.handshakes.read())))
        .collect();
    let help = "TLS handshakes that succeeded.";
    handshakes(text, ("sluice_tls", "listener"), &readings, help);
    let help = "TLS handshakes that came to nothing, by reason.";
    let family = "sluice_tls_handshake_failures";
    failures(text, (family, "listener", "reason"), &readings, help);
    let help = "From the first moment of a connection to the end of its TLS handshake.";
    durations(text, ("sluice_tls", "listener"), &readings, help);
    certificates(text, plan);
    upstreams(text, plan);
}

fn handshakes(text: &mut Text, (family, kind): (&str, &str), readings: &Readings<'_>, help: &str) {
    text.family(&format!("{family}_handshakes"), Kind::Counter, help);
    for (object, reading) in readings {
        for ((version, resumed), count) in HANDSHAKE_KINDS.iter().zip(reading.kinds) {
            let resumed = if *resumed { "true" } else { "false" };
            let labels = [(kind, *object), ("version", *version), ("resumed", resumed)];
            text.sample("_total", &labels, count);
        }
    }
}

fn failures(
    text: &mut Text,
    (family, kind, why): (&str, &str, &str),
    readings: &Readings<'_>,
    help: &str,
) {
    text.family(family, Kind::Counter, help);
    for (object, reading) in readings {
        for (reason, count) in &reading.failures {
            text.sample("_total", &[(kind, object), (why, reason)], count);
        }
    }
}

fn durations(text: &mut Text, (family, kind): (&str, &str), readings: &Readings<'_>, help: &str) {
    let family = format!("{family}_handshake_duration_seconds");
    text.family(&family, Kind::Histogram, help);
    for (object, reading) in readings {
        let [.., all] = reading.durations;
        if all == 0 {
            continue;
        }
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, count) in bounds.zip(reading.durations) {
            text.sample("_bucket", &[(kind, object), ("le", bound)], count);
        }
        let seconds = reading.nanoseconds / PER_SECOND;
        let rest = reading.nanoseconds % PER_SECOND;
        let sum = format_args!("{seconds}.{rest:09}").to_string();
        text.sample("_sum", &[(kind, object)], sum);
        text.sample("_count", &[(kind, object)], all);
    }
}

fn certificates(text: &mut Text, plan: &Plan) {
    let slots = plan.certificates.list();
    let help = "When a certificate ends, in seconds since 1970; of several, the first that does.";
    text.family("sluice_certificate_not_after_seconds", Kind::Gauge, help);
    for slot in &slots {
        let pairs = slot.pairs();
        let ends = pairs.iter().flat_map(|pairs| pairs.iter());
        let ends = ends.map(|pair| pair.facts().not_after.unix_timestamp());
        if let Some(end) = ends.min() {
            text.sample("", &[("certificate", slot.name())], end);
        }
    }
    let help = "Whether something newer than what is served was refused.";
    text.family("sluice_certificate_refused", Kind::Gauge, help);
    for slot in &slots {
        let refused = u8::from(slot.problem().is_some());
        text.sample("", &[("certificate", slot.name())], refused);
    }
}

/// What is used towards upstreams.
fn upstreams(text: &mut Text, plan: &Plan) {
    let all = plan.upstreams.iter();
    let readings: Readings<'_> = all
        .filter_map(|(name, it)| Some((name.as_str(), it.handshakes()?.read())))
        .collect();
    let help = "TLS handshakes with endpoints that succeeded.";
    handshakes(text, ("sluice_upstream_tls", "upstream"), &readings, help);
    let help =
        "Connections to endpoints that came to nothing because of TLS, by the part that failed.";
    let family = "sluice_upstream_tls_failures";
    failures(text, (family, "upstream", "part"), &readings, help);
    let help = "From the beginning to the end of a TLS handshake with an endpoint.";
    durations(text, ("sluice_upstream_tls", "upstream"), &readings, help);
    let help = "Whether newer files for TLS with an upstream than those in use were refused.";
    text.family("sluice_upstream_tls_refused", Kind::Gauge, help);
    let clients: BTreeMap<_, _> = plan.tls_clients.iter().collect();
    for (upstream, tls) in clients {
        let refused = u8::from(tls.refused.is_some());
        text.sample("", &[("upstream", upstream.as_str())], refused);
    }
}
