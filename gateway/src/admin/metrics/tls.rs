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

/// By listener.
type Readings<'a> = BTreeMap<&'a str, HandshakeReading>;

pub(super) fn write(text: &mut Text, plan: &Plan) {
    let all = plan.listeners.iter();
    let readings: Readings<'_> = all
        .filter_map(|(name, it)| Some((name.as_str(), it.tls.as_ref()?.handshakes.read())))
        .collect();
    handshakes(text, &readings);
    durations(text, &readings);
    certificates(text, plan);
}

fn handshakes(text: &mut Text, readings: &Readings<'_>) {
    let help = "TLS handshakes that succeeded.";
    text.family("sluice_tls_handshakes", Kind::Counter, help);
    for (listener, reading) in readings {
        for ((version, resumed), count) in HANDSHAKE_KINDS.iter().zip(reading.kinds) {
            let resumed = if *resumed { "true" } else { "false" };
            let labels = [
                ("listener", *listener),
                ("version", *version),
                ("resumed", resumed),
            ];
            text.sample("_total", &labels, count);
        }
    }
    let help = "TLS handshakes that came to nothing, by reason.";
    text.family("sluice_tls_handshake_failures", Kind::Counter, help);
    for (listener, reading) in readings {
        for (reason, count) in &reading.failures {
            text.sample(
                "_total",
                &[("listener", listener), ("reason", reason)],
                count,
            );
        }
    }
}

fn durations(text: &mut Text, readings: &Readings<'_>) {
    let family = "sluice_tls_handshake_duration_seconds";
    let help = "From the first moment of a connection to the end of its TLS handshake.";
    text.family(family, Kind::Histogram, help);
    for (listener, reading) in readings {
        let [.., all] = reading.durations;
        if all == 0 {
            continue;
        }
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, count) in bounds.zip(reading.durations) {
            text.sample("_bucket", &[("listener", listener), ("le", bound)], count);
        }
        let seconds = reading.nanoseconds / PER_SECOND;
        let rest = reading.nanoseconds % PER_SECOND;
        let sum = format_args!("{seconds}.{rest:09}").to_string();
        text.sample("_sum", &[("listener", listener)], sum);
        text.sample("_count", &[("listener", listener)], all);
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
