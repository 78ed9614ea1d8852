//! What is counted of raw streams, for each listener, route and upstream that has had one.

use super::{Readings, histogram};
use crate::{
    plan::Plan,
    telemetry::metrics::{
        Reading,
        text::{Kind, Text},
    },
};

pub(super) fn write(text: &mut Text, plan: &Plan) {
    let all = plan.listeners.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic.read_streams()));
    of_kind(text, "listener", &had(readings));
    let all = plan.routes.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic.read_streams()));
    of_kind(text, "route", &had(readings));
    let all = plan.upstreams.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic().read_streams()));
    of_kind(text, "upstream", &had(readings));
}

/// Those that have had one: most objects carry requests only.
fn had<'a>(readings: impl Iterator<Item = (&'a str, Reading)>) -> Readings<'a> {
    readings
        .filter(|(_, reading)| !reading.is_empty())
        .collect()
}

/// A counter: what it is called, what it counts, and where that is read.
type Told<'a> = (&'a str, &'a str, fn(&Reading) -> u64);

fn of_kind(text: &mut Text, kind: &str, readings: &Readings<'_>) {
    let opened = |it: &Reading| it.requests().saturating_add(it.active);
    let counters: [Told<'_>; 4] = [
        ("streams_opened", "Raw streams that began.", opened),
        (
            "streams_closed",
            "Raw streams that ended.",
            Reading::requests,
        ),
        (
            "stream_received_bytes",
            "Bytes from clients that went on to endpoints.",
            |it| it.bytes_in,
        ),
        (
            "stream_sent_bytes",
            "Bytes from endpoints that went on to clients.",
            |it| it.bytes_out,
        ),
    ];
    for (what, help, read) in counters {
        text.family(&format!("sluice_{kind}_{what}"), Kind::Counter, help);
        for (name, reading) in readings {
            text.sample("_total", &[(kind, name)], read(reading));
        }
    }
    let family = format!("sluice_{kind}_streams_active");
    text.family(&family, Kind::Gauge, "Raw streams that are open.");
    for (name, reading) in readings {
        text.sample("", &[(kind, name)], reading.active);
    }
    let family = format!("sluice_{kind}_stream_failures");
    let help = "Raw streams that failed, by the reason word of their verdict.";
    text.family(&family, Kind::Counter, help);
    for (name, reading) in readings {
        for (reason, count) in &reading.reasons {
            text.sample("_total", &[(kind, name), ("reason", reason)], count);
        }
    }
    let family = format!("sluice_{kind}_stream_duration_seconds");
    let help = "From the beginning of a raw stream to its end.";
    histogram(text, (&family, help), kind, readings);
}
