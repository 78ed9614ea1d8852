//! What is counted of the datagrams of each listener that takes any. Its sessions are told of like
//! other streams.

use std::collections::BTreeMap;

use sluice_config::model::Protocol;

use crate::{
    plan::Plan,
    telemetry::metrics::{
        DatagramReading, Loss,
        text::{Kind, Text},
    },
};

/// Its name, what it counts, and where that stands.
type Counter = (&'static str, &'static str, fn(&DatagramReading) -> u64);

pub(super) fn write(text: &mut Text, plan: &Plan) {
    let all = plan.listeners.iter();
    let readings: BTreeMap<_, _> = all
        .filter(|(_, it)| it.model.protocol == Protocol::Udp)
        .map(|(name, it)| (name.as_str(), (it.datagrams.read(), it.model.udp.sessions)))
        .collect();
    let counters: [Counter; 4] = [
        (
            "datagrams_received",
            "Datagrams from clients that went on to endpoints.",
            |it| it.inward.0,
        ),
        (
            "datagrams_sent",
            "Datagrams from endpoints for clients.",
            |it| it.outward.0,
        ),
        ("datagram_received_bytes", "Their bytes.", |it| it.inward.1),
        ("datagram_sent_bytes", "Their bytes.", |it| it.outward.1),
    ];
    for (what, help, read) in counters {
        text.family(&format!("sluice_listener_{what}"), Kind::Counter, help);
        for (name, (reading, _)) in &readings {
            text.sample("_total", &[("listener", name)], read(reading));
        }
    }
    let help = "Datagrams that went nowhere, by the reason.";
    let family = "sluice_listener_datagrams_dropped";
    text.family(family, Kind::Counter, help);
    for (name, (reading, _)) in &readings {
        for loss in Loss::ALL {
            let labels = [("listener", *name), ("reason", loss.word())];
            text.sample("_total", &labels, reading.lost(*loss));
        }
    }
    let help = "Sessions that may be open.";
    text.family("sluice_listener_sessions_max", Kind::Gauge, help);
    for (name, (_, most)) in &readings {
        text.sample("", &[("listener", name)], most);
    }
}
