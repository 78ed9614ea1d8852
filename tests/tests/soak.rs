//! Reloads under load: nothing fails, nothing grows.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use sluice_config::{Snapshot, Sources, check};
use sluice_gateway::{
    engine::{Engine, Options},
    telemetry::metrics::Counter,
};
use sluice_tests::{
    Reply,
    eventually::{eventually, within},
    load::{Load, Outcome, forgetful_origin, resident},
    process::Sluice,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// Requests per second.
const RATE: u32 = 1000;

/// Reloads by file and signal, of a process.
const BY_FILE: u64 = 100;

/// Reloads through the channel that every source fills, of an engine in this process.
const BY_CHANNEL: u64 = 900;

/// What the memory of a process may differ by when nothing leaks: allocators keep what they freed.
const TOLERANCE: u64 = 8 << 20;

/// Half of the requests to a host that is forwarded, half to one that is answered at once.
fn ask(number: u64) -> String {
    let (host, path) = match number % 4 {
        0 => ("shop.example", "/cart"),
        1 => ("static.example", "/logo"),
        2 => ("shop.example", "/api/items?page=2"),
        _ => ("static.example", "/"),
    };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n")
}

/// Whatever configuration it ran under, it ran under one: the listener's, the rule's and the
/// answer's parts belong together.
fn judge(number: u64, reply: &Reply) -> Option<String> {
    if reply.status != 200 {
        return Some(format!("status {}", reply.status));
    }
    let (rule, listener) = (reply.header("x-rule"), reply.header("x-version"));
    let wanted = if number.is_multiple_of(2) {
        "origin"
    } else {
        "static"
    };
    if reply.text() != wanted {
        return Some(format!("{wanted} answered {:?}", reply.text()));
    }
    let same = match wanted {
        "static" => rule.is_some() && rule == listener,
        _ => rule.is_some_and(|rule| ["cart", "api", "*"].contains(&rule)) && listener.is_some(),
    };
    (!same).then(|| format!("{wanted} mixed: rule {rule:?}, listener {listener:?}"))
}

/// Variants of one configuration: routes come and go and change their order, the upstream its
/// settings, the listener its filters.
fn variant(number: u64, listener: &str, origins: [&str; 2]) -> String {
    let (even, odd) = (number.is_multiple_of(2), !number.is_multiple_of(2));
    let balance =
        ["round-robin", "random", "least-request"][usize::try_from(number % 3).expect("small")];
    let mut text = format!(
        "[listeners.web]\naddress = \"{listener}\"\n\
         response_headers = {{ set = {{ x-version = \"{number}\", x-rule = \"{{rule}}\" }} }}\n\
         limits = {{ headers = {} }}\n\
         [upstreams.shop]\nbalance = \"{balance}\"\nendpoints = [\"{}\", \"{}\"]\n\
         pool = {{ idle_connections = {} }}\n",
        100 + number % 2,
        origins[0],
        origins[1],
        16 + number % 5,
    );
    text.push_str("[routes.shop]\nhosts = [\"shop.example\"]\nto = \"shop\"\n");
    let cart = "[[routes.shop.rules]]\nname = \"cart\"\nmatch = { path = { prefix = \"/cart\" } }\nto = \"shop\"\n";
    let api = "[[routes.shop.rules]]\nname = \"api\"\nmatch = { path = { prefix = \"/api\" }, query = { page = { regex = \"[0-9]+\" } } }\nto = [{ upstream = \"shop\", weight = 1 }]\n";
    text.push_str(if even { cart } else { api });
    if number.is_multiple_of(3) {
        text.push_str(if even { api } else { cart });
    }
    text.extend([format!(
        "[routes.static]\nhosts = [\"static.example\"]\n\
         response_headers = {{ set = {{ x-version = \"{number}\" }} }}\n\
         respond = {{ body = \"static\", headers = {{ x-rule = \"{number}\" }} }}\n"
    )]);
    if odd {
        for extra in 0..number % 7 {
            text.extend([format!(
                "[routes.extra-{extra}]\nhosts = [\"extra-{extra}.example\"]\nrespond = {{}}\n"
            )]);
        }
    }
    text
}

fn checked(text: &str) -> Arc<Snapshot> {
    let report = check(&Sources::from_text("soak.toml", text), None);
    report
        .snapshot
        .unwrap_or_else(|| panic!("{:?}\n{text}", report.problems))
}

/// Nothing failed, and the load was the load.
fn hold(outcome: &Outcome, taken: Duration, what: &str) {
    println!(
        "{what}: {} good at {:.0}/s, slowest {:?}, {} bad",
        outcome.good,
        outcome.rate(),
        outcome.slowest,
        outcome.bad
    );
    assert_eq!(outcome.bad, 0, "{what}: {:#?}", outcome.failures);
    // A machine whose processors go to its neighbours carries no load; what was carried still counts.
    let since = stolen().saturating_sub(taken);
    let lost = since.as_secs_f64() / outcome.took.as_secs_f64();
    println!("{what}: {lost:.2} processors were taken from this machine");
    assert!(
        outcome.rate() > f64::from(RATE) * 0.9 || lost > 0.1,
        "{what}: only {:.0}/s",
        outcome.rate()
    );
}

/// The time for which this machine wanted a processor that its host gave to another one: proc(5), `/proc/stat`.
fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").expect("the system tells");
    let line = stat.lines().next().expect("a line of all processors");
    let ticks = line.split_whitespace().nth(8).expect("the eighth figure");
    Duration::from_millis(10 * ticks.parse::<u64>().expect("a number"))
}

fn flat(what: &str, warm: u64, end: u64) {
    println!(
        "{what}: {} KiB after the first third, {} KiB at the end",
        warm >> 10,
        end >> 10
    );
    assert!(
        end <= warm + TOLERANCE,
        "{what}: grew from {warm} to {end} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_a_thousand_requests_a_second_fail_none_and_leak_nothing() {
    let (one, _first) = forgetful_origin("origin").await;
    let (two, _second) = forgetful_origin("origin").await;
    let (one, two) = (one.to_string(), two.to_string());
    let origins = [one.as_str(), two.as_str()];
    by_channel(origins, BY_CHANNEL).await;
    by_file(origins, BY_FILE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes; `make soak` runs it"]
async fn twenty_thousand_reloads_fail_none_and_leak_nothing() {
    let (one, _first) = forgetful_origin("origin").await;
    let (two, _second) = forgetful_origin("origin").await;
    let (one, two) = (one.to_string(), two.to_string());
    let origins = [one.as_str(), two.as_str()];
    by_channel(origins, 20 * BY_CHANNEL).await;
    by_file(origins, 20 * BY_FILE).await;
}

async fn by_channel(origins: [&str; 2], reloads: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.jsonl").display().to_string();
    let text = |number| {
        let rest = variant(number, "127.0.0.1:0", origins);
        format!("[access_log]\noutput = {{ file = {log:?} }}\n{rest}")
    };
    let first = checked(&text(0));
    let (publish, snapshots) = watch::channel(first);
    let workers = NonZeroUsize::new(2).expect("not 0");
    let engine = Engine::start(Options::new(workers), snapshots).expect("it starts");
    let address = engine.address("web").expect("it listens");
    let mut applied = engine.applied();

    let taken = stolen();
    let load = Load::start(address, RATE, ask, judge);
    let beat = Duration::from_millis(25);
    let mut due = Instant::now();
    let mut warm = 0;
    for number in 1..=reloads {
        due += beat;
        sleep_until(due).await;
        let snapshot = checked(&text(number));
        let version = snapshot.version.clone();
        publish.send_replace(snapshot);
        let taken =
            applied.wait_for(|now| now.version.as_ref() == Some(&version) || now.refused.is_some());
        let now = within("a reload", taken).await.expect("the engine runs");
        assert!(now.refused.is_none(), "{:?}", now.refused);
        drop(now);
        if number == reloads / 3 {
            warm = resident("self");
        }
    }
    let end = resident("self");
    let outcome = load.stop().await;

    assert_eq!(engine.metrics().sum(Counter::ReloadsApplied), reloads + 1);
    assert!(engine.drain(Duration::from_secs(5)).await, "nothing hangs");
    hold(&outcome, taken, "by channel");
    flat("by channel", warm, end);
}

async fn by_file(origins: [&str; 2], reloads: u64) {
    let text = |number| {
        format!(
            "[process]\nworkers = 2\nstate_directory = \"state\"\n\
             [access_log]\noutput = {{ file = \"access.jsonl\" }}\n{}",
            variant(number, "{address}", origins)
        )
    };
    let gateway = Sluice::run(&text(0)).await;
    let id = gateway.id().to_string();
    let applied = || gateway.output().matches("configuration applied").count() as u64;
    let before = applied();

    let taken = stolen();
    let load = Load::start(gateway.address(), RATE, ask, judge);
    let mut warm = 0;
    for number in 1..=reloads {
        gateway.write_config(&text(number));
        gateway.signal("HUP");
        let wanted = before + number;
        eventually("a reload", || (applied() >= wanted).then_some(())).await;
        if number == reloads / 3 {
            warm = resident(&id);
        }
    }
    sleep(Duration::from_millis(100)).await;
    let end = resident(&id);
    let outcome = load.stop().await;

    assert!(
        !gateway.output().contains("refused"),
        "{}",
        gateway.output()
    );
    hold(&outcome, taken, "by file");
    flat("by file", warm, end);
}
