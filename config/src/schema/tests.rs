use std::{fmt::Debug, fs, path::Path, time::Duration};

use serde_json::Value;

use super::{json, markdown, schema};
use crate::model::{
    AccessLog, Basic, Dns, Egress, Filters, Http2, HttpsRedirect, Limit, ListenerLimits,
    ListenerTimeouts, Process, Upgrade, UpstreamLimits, UpstreamPool, UpstreamTimeouts,
};

fn committed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_committed_schema_is_current() {
    assert!(
        committed("sluice.schema.json") == json(),
        "run `cargo xtask schema`"
    );
}

#[test]
fn the_committed_manual_is_current() {
    assert!(
        committed("../docs/config.md") == markdown(),
        "run `cargo xtask schema`"
    );
}

#[test]
fn every_key_has_a_meaning() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions {
        for (key, value) in definition["properties"].as_object().into_iter().flatten() {
            let text = value["description"].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{name}.{key} has no comment");
        }
    }
}

/// What the comment of a key says is its default.
fn said(definition: &str, key: &str) -> String {
    let schema = schema();
    let text = schema["$defs"][definition]["properties"][key]["description"].clone();
    let Value::String(text) = text else {
        panic!("{definition}.{key} has no comment");
    };
    let default = text
        .rsplit_once("Default `")
        .unwrap_or_else(|| panic!("{definition}.{key}"))
        .1;
    default
        .trim_end_matches('.')
        .trim_end_matches('`')
        .to_owned()
}

fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 3600 && seconds.is_multiple_of(3600) => {
            format!("{}h", seconds / 3600)
        }
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit));
    unit.map_or(format!("{bytes}B"), |(unit, name)| {
        format!("{}{name}", bytes / unit)
    })
}

fn limit<T: Copy>(limit: Limit<T>, write: impl Fn(T) -> String) -> String {
    limit.get().map_or("off".to_owned(), write)
}

fn number<T: Debug>(number: T) -> String {
    format!("{number:?}")
}

fn hold(cases: &[(&str, &str, String)]) {
    for (definition, key, expected) in cases {
        assert_eq!(said(definition, key), *expected, "{definition}.{key}");
    }
}

#[test]
fn the_manual_says_the_defaults_that_the_model_has_downstream() {
    let (limits, timeouts) = (ListenerLimits::default(), ListenerTimeouts::default());
    let redirect = HttpsRedirect::default();
    let bytes = |bytes: usize| size(u64::try_from(bytes).unwrap());
    hold(&[
        (
            "Process",
            "drain_timeout",
            duration(Process::default().drain_timeout),
        ),
        ("Process", "admin", Process::ADMIN.to_string()),
        ("Process", "metrics", Process::METRICS.to_string()),
        ("Process", "readiness", Process::READINESS.to_string()),
        (
            "Process",
            "descriptor_reserve",
            number(Process::default().descriptor_reserve),
        ),
        ("HttpsRedirect", "status", number(redirect.status)),
        ("HttpsRedirect", "port", number(redirect.port)),
        (
            "ListenerLimits",
            "connections",
            limit(limits.connections, number),
        ),
        (
            "ListenerLimits",
            "connections_per_client",
            limit(limits.connections_per_client, number),
        ),
        ("ListenerLimits", "head", bytes(limits.head)),
        ("ListenerLimits", "uri", bytes(limits.uri)),
        ("ListenerLimits", "headers", number(limits.headers)),
        ("ListenerLimits", "streams", number(limits.streams)),
        ("ListenerLimits", "resets", number(limits.resets)),
        (
            "ListenerLimits",
            "body_rate",
            limit(limits.body_rate, number),
        ),
        ("Http2", "stream_window", bytes(Http2::STREAM_WINDOW)),
        (
            "Http2",
            "connection_window",
            bytes(Http2::CONNECTION_WINDOW),
        ),
        (
            "ListenerTimeouts",
            "request_head",
            duration(timeouts.request_head),
        ),
        ("ListenerTimeouts", "idle", duration(timeouts.idle)),
        (
            "ListenerTimeouts",
            "request_body",
            duration(timeouts.request_body),
        ),
        (
            "ListenerTimeouts",
            "write_stall",
            duration(timeouts.write_stall),
        ),
        ("Listener", "max_body", limit(Filters::MAX_BODY, size)),
        ("Basic", "realm", Basic::REALM.to_owned()),
        ("Egress", "report", number(Egress::REPORT)),
        ("Egress", "connect_ports", number(443)),
        (
            "Upgrade",
            "idle_timeout",
            limit(Upgrade::default().idle_timeout, duration),
        ),
        (
            "Upgrade",
            "max_duration",
            limit(Upgrade::default().max_duration, duration),
        ),
    ]);
}

#[test]
fn the_manual_says_the_defaults_that_the_model_has_upstream() {
    let (up_timeouts, pool) = (UpstreamTimeouts::default(), UpstreamPool::default());
    let (up_limits, dns) = (UpstreamLimits::default(), Dns::default());
    hold(&[
        ("UpstreamTimeouts", "connect", duration(up_timeouts.connect)),
        (
            "UpstreamTimeouts",
            "response_head",
            duration(up_timeouts.response_head),
        ),
        (
            "UpstreamTimeouts",
            "response_body",
            limit(up_timeouts.response_body, duration),
        ),
        (
            "UpstreamTimeouts",
            "write_stall",
            duration(up_timeouts.write_stall),
        ),
        ("UpstreamPool", "idle_timeout", duration(pool.idle_timeout)),
        (
            "UpstreamPool",
            "idle_connections",
            number(pool.idle_connections),
        ),
        ("UpstreamPool", "max_age", limit(pool.max_age, duration)),
        (
            "UpstreamPool",
            "requests_per_connection",
            limit(pool.requests_per_connection, number),
        ),
        (
            "UpstreamLimits",
            "connections",
            limit(up_limits.connections, number),
        ),
        (
            "UpstreamLimits",
            "pending_requests",
            number(up_limits.pending_requests),
        ),
        ("UpstreamLimits", "streams", number(up_limits.streams)),
        ("UpstreamPool", "ping", limit(pool.ping, duration)),
        ("AccessLog", "queue", number(AccessLog::default().queue)),
        ("Dns", "min_refresh", duration(dns.min_refresh)),
        ("Dns", "max_refresh", duration(dns.max_refresh)),
        ("Dns", "timeout", duration(dns.timeout)),
    ]);
}
