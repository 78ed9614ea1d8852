//! `/metrics`: everything that is counted, summed over the workers at the moment of asking.
//!
//! Values of labels come from the configuration and from closed sets, never from a request. Series of
//! objects that the configuration has no more are gone with them.

mod acme;
mod datagrams;
mod egress;
mod health;
mod streams;
mod tls;

use std::{collections::BTreeMap, time::SystemTime};

use sluice_config::model::{self, Protocol};

use super::{Admin, process::Process};
use crate::{
    engine::View,
    plan::Plan,
    telemetry::metrics::{
        BOUNDS, CLASSES, Counter, Event, Reading, Sniffed,
        text::{Kind, Text},
    },
    upstream::Connections,
};

/// The sum of all durations is counted in nanoseconds.
const PER_SECOND: u64 = 1_000_000_000;

/// All metrics as text.
pub(super) fn write(admin: &Admin) -> String {
    let mut text = Text::default();
    about(&mut text, admin);
    process(&mut text, admin.started);
    counters(&mut text, &admin.view);
    if let Some(live) = admin.view.live() {
        listeners(&mut text, &live.plan);
        routes(&mut text, &live.plan);
        upstreams(&mut text, &live.plan);
        datagrams::write(&mut text, &live.plan);
        egress::write(&mut text, &live.plan);
        health::write(&mut text, &live.plan);
        streams::write(&mut text, &live.plan);
        tls::write(&mut text, &live.plan);
        acme::write(&mut text, &admin.view);
    }
    text.finish()
}

fn about(text: &mut Text, admin: &Admin) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("sluice_build", Kind::Info, "The program that runs.");
    text.sample("_info", &[("version", version)], 1);
    if let Some(live) = admin.view.live() {
        let version = live.snapshot.version.as_str();
        text.family("sluice_config", Kind::Info, "The configuration that runs.");
        text.sample("_info", &[("version", version)], 1);
    }
    let refused = admin.status.borrow().refused.is_some();
    let help = "Whether the files say something else than what runs, because it was refused.";
    text.family("sluice_config_refused", Kind::Gauge, help);
    text.sample("", &[], u8::from(refused));
    let help = "Whether the gateway finishes what is in flight and takes nothing new.";
    text.family("sluice_draining", Kind::Gauge, help);
    text.sample("", &[], u8::from(admin.is_draining()));
    text.family("sluice_workers", Kind::Gauge, "Threads that serve traffic.");
    text.sample("", &[], admin.view.metrics().workers());
}

fn process(text: &mut Text, started: SystemTime) {
    let process = Process::read();
    let started = started.duration_since(SystemTime::UNIX_EPOCH);
    let started = started.unwrap_or_default().as_secs_f64();
    let help = "When the process started, in seconds since 1970.";
    text.family("process_start_time_seconds", Kind::Gauge, help);
    text.sample("", &[], started);
    if let Some(seconds) = process.cpu_seconds {
        let help = "Processor time taken, user and system.";
        text.family("process_cpu_seconds", Kind::Counter, help);
        text.sample("_total", &[], seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        text.family("process_resident_memory_bytes", Kind::Gauge, "Memory held.");
        text.sample("", &[], bytes);
    }
    if let Some(open) = process.open_descriptors {
        text.family("process_open_fds", Kind::Gauge, "File descriptors in use.");
        text.sample("", &[], open);
    }
}

/// What is counted for the whole process.
fn counters(text: &mut Text, view: &View) {
    // Those are told for each upstream.
    let apart = [Counter::UpstreamAttempts, Counter::UpstreamRetries];
    let all = Counter::ALL.iter().copied();
    for counter in all.filter(|counter| !apart.contains(counter)) {
        let name = counter.name();
        let name = format!("sluice_{}", name.strip_suffix("_total").unwrap_or(name));
        text.family(&name, Kind::Counter, counter.help().trim());
        text.sample("_total", &[], view.metrics().sum(counter));
    }
}

fn listeners(text: &mut Text, plan: &Plan) {
    let all = plan.listeners.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic.read()));
    let readings = readings.collect();
    traffic(text, "listener", &readings);
    let all = plan.listeners.iter();
    let open: BTreeMap<_, _> = all
        .map(|(name, it)| (name.as_str(), it.census.len()))
        .collect();
    let help = "Client connections that are open.";
    text.family("sluice_listener_connections_active", Kind::Gauge, help);
    for (name, open) in open {
        text.sample("", &[("listener", name)], open);
    }
    let help = "Client connections that may be open.";
    text.family("sluice_listener_connections_max", Kind::Gauge, help);
    let all = plan.listeners.iter();
    let bounds = all.map(|(name, it)| (name.as_str(), it.model.limits.connections.get()));
    bound(text, "listener", bounds.collect());
    let label = ("listener", &readings);
    let served = ("sluice_listener_connections", "Client connections served.");
    events(text, served, label, Event::Connection);
    let refused = (
        "sluice_listener_connections_refused",
        "Client connections closed at once because a limit was reached.",
    );
    events(text, refused, label, Event::Refused);
    let broken = (
        "sluice_listener_streams_broken",
        "HTTP/2 streams reset because their client broke the protocol.",
    );
    events(text, broken, label, Event::Broken);
    sniffed(text, plan);
}

/// What clients spoke where that has to be found out.
fn sniffed(text: &mut Text, plan: &Plan) {
    let help = "Client connections by what was said first on them.";
    text.family("sluice_listener_sniffed", Kind::Counter, help);
    let all = plan.listeners.iter();
    let sniffing = all.filter(|(_, it)| it.model.protocol == Protocol::Auto);
    let readings: Readings<'_> = sniffing
        .map(|(name, it)| (name.as_str(), it.traffic.read()))
        .collect();
    for (name, reading) in &readings {
        for outcome in Sniffed::ALL {
            let labels = [("listener", *name), ("outcome", outcome.word())];
            text.sample("_total", &labels, reading.events(Event::Sniffed(outcome)));
        }
    }
}

fn routes(text: &mut Text, plan: &Plan) {
    let all = plan.routes.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic.read()));
    traffic(text, "route", &readings.collect());
}

fn upstreams(text: &mut Text, plan: &Plan) {
    let all = plan.upstreams.iter();
    let readings = all.map(|(name, it)| (name.as_str(), it.traffic().read()));
    let readings = readings.collect();
    traffic(text, "upstream", &readings);
    let label = ("upstream", &readings);
    let attempts = (
        "sluice_upstream_attempts",
        "Attempts, repeated ones included.",
    );
    events(text, attempts, label, Event::Attempt);
    let repeats = ("sluice_upstream_retries", "Attempts that were repeated.");
    events(text, repeats, label, Event::Retry);

    let all: BTreeMap<_, _> = plan
        .upstreams
        .iter()
        .map(|(name, it)| (name.as_str(), it))
        .collect();
    let pools: Vec<(&str, Connections, usize)> = all
        .iter()
        .map(|(name, it)| (*name, it.connections(), it.report().len()))
        .collect();
    let help = "Connections to endpoints; what requests share over HTTP/2 counts as busy.";
    text.family("sluice_upstream_pool_connections", Kind::Gauge, help);
    for (name, pool, _) in &pools {
        let busy = pool.open.saturating_sub(pool.idle);
        text.sample("", &[("upstream", name), ("state", "busy")], busy);
        text.sample("", &[("upstream", name), ("state", "idle")], pool.idle);
    }
    let limits = |read: fn(&model::UpstreamLimits) -> Option<usize>| {
        let all = all.iter();
        all.map(|(name, it)| (*name, read(&it.model().limits)))
            .collect()
    };
    let help = "Connections to endpoints that may be open.";
    text.family("sluice_upstream_pool_connections_max", Kind::Gauge, help);
    bound(text, "upstream", limits(|limits| limits.connections.get()));
    let help = "Requests that may wait for a connection.";
    text.family("sluice_upstream_requests_waiting_max", Kind::Gauge, help);
    bound(
        text,
        "upstream",
        limits(|limits| Some(limits.pending_requests)),
    );
    let help = "Requests that wait for a connection.";
    text.family("sluice_upstream_requests_waiting", Kind::Gauge, help);
    for (name, pool, _) in &pools {
        text.sample("", &[("upstream", name)], pool.waiting);
    }
    let help = "Addresses of endpoints, available or not.";
    text.family("sluice_upstream_endpoints", Kind::Gauge, help);
    for (name, _, endpoints) in &pools {
        text.sample("", &[("upstream", name)], endpoints);
    }
}

/// By name.
type Readings<'a> = BTreeMap<&'a str, Reading>;

/// A limit of each object that has one.
fn bound(text: &mut Text, label: &str, limits: BTreeMap<&str, Option<usize>>) {
    for (name, limit) in limits {
        if let Some(limit) = limit {
            text.sample("", &[(label, name)], limit);
        }
    }
}

fn events(
    text: &mut Text,
    (name, help): (&str, &str),
    (label, readings): (&str, &Readings<'_>),
    event: Event,
) {
    text.family(name, Kind::Counter, help);
    for (object, reading) in readings {
        text.sample("_total", &[(label, object)], reading.events(event));
    }
}

/// What every kind of object has.
fn traffic(text: &mut Text, kind: &str, readings: &Readings<'_>) {
    let help = "Requests that ended, by class of their status.";
    text.family(&format!("sluice_{kind}_requests"), Kind::Counter, help);
    for (name, reading) in readings {
        let classes = CLASSES.iter().zip(reading.classes);
        // From the first scrape on there is something to compare the next one with.
        let told = classes.filter(|(class, count)| *count > 0 || **class == "2xx");
        for (class, count) in told {
            text.sample("_total", &[(kind, name), ("class", class)], count);
        }
    }
    let help = "Requests under way.";
    text.family(&format!("sluice_{kind}_requests_active"), Kind::Gauge, help);
    for (name, reading) in readings {
        text.sample("", &[(kind, name)], reading.active);
    }
    let help = "Requests that failed, by the reason word of their verdict.";
    text.family(&format!("sluice_{kind}_failures"), Kind::Counter, help);
    for (name, reading) in readings {
        for (reason, count) in &reading.reasons {
            text.sample("_total", &[(kind, name), ("reason", reason)], count);
        }
    }
    for (what, is_request) in [("request", true), ("response", false)] {
        let family = format!("sluice_{kind}_{what}_body_bytes");
        text.family(&family, Kind::Counter, "Bytes of bodies.");
        for (name, reading) in readings {
            let bytes = if is_request {
                reading.bytes_in
            } else {
                reading.bytes_out
            };
            text.sample("_total", &[(kind, name)], bytes);
        }
    }
    let family = format!("sluice_{kind}_request_duration_seconds");
    let help = "From the head of a request to the end of its answer.";
    histogram(text, (&family, help), kind, readings);
}

fn histogram(text: &mut Text, (family, help): (&str, &str), kind: &str, readings: &Readings<'_>) {
    text.family(family, Kind::Histogram, help);
    for (name, reading) in readings {
        let requests = reading.requests();
        if requests == 0 {
            continue;
        }
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, count) in bounds.zip(reading.durations) {
            text.sample("_bucket", &[(kind, name), ("le", bound)], count);
        }
        let seconds = reading.nanoseconds / PER_SECOND;
        let rest = reading.nanoseconds % PER_SECOND;
        text.sample("_sum", &[(kind, name)], format_args!("{seconds}.{rest:09}"));
        let [.., all] = reading.durations;
        text.sample("_count", &[(kind, name)], all);
    }
}
