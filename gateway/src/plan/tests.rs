//! What a reload takes over, and what it tells to finish.

use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

use sluice_config::{Snapshot, Sources, names::ListenerName, names::RouteName};

use super::{Census, Destination, Held, Parts, Plan, Split, reaper};
use crate::{
    authn::verifier::Verifier,
    drain::Tasks,
    error::ProxyError,
    load,
    telemetry::{access_log::Writer, metrics::Metrics, trace::Tracer},
    upstream::{Connector, Registry},
};

/// What plans are made with.
struct Bench {
    registry: Registry,
    tasks: Tasks,
}

impl Bench {
    fn new() -> Self {
        let counters = Metrics::new(1).control();
        Self {
            registry: Registry::new(Connector::Network, Tasks::new(), counters),
            tasks: Tasks::new(),
        }
    }

    fn plan(&self, previous: Option<&Plan>, text: &str) -> Arc<Plan> {
        let snapshot = snapshot(text);
        let loaded = load::files(
            &snapshot,
            &load::CertificateFiles::default(),
            &HashMap::default(),
        )
        .expect("readable");
        let parts = Parts {
            registry: &self.registry,
            tasks: &self.tasks,
            bodies: loaded.bodies,
            tls_clients: loaded.tls_clients,
            users: loaded.users,
            verifier: Verifier::default(),
            tls: HashMap::new(),
            certificates: sluice_certs::Store::new(),
            pending: sluice_certs::Pending::none(),
            access_log: Writer::default(),
            tracer: Tracer::default(),
        };
        Arc::new(Plan::compile(previous, &snapshot, parts))
    }
}

fn snapshot(text: &str) -> Arc<Snapshot> {
    let report = sluice_config::check(&Sources::from_text("test.toml", text), None);
    assert_eq!(report.problems, [], "{text}");
    report.snapshot.expect("good")
}

fn route(name: &str) -> RouteName {
    RouteName::new(name).expect("a name")
}

fn listener(name: &str) -> ListenerName {
    ListenerName::new(name).expect("a name")
}

/// Whether both plans share the route.
fn shared(one: &Plan, other: &Plan, name: &str) -> bool {
    Arc::ptr_eq(&one.routes[&route(name)], &other.routes[&route(name)])
}

const BASE: &str = r#"
[listeners.web]
address = "127.0.0.1:8080"
[listeners.other]
address = "127.0.0.1:8081"
[routes.a]
hosts = ["a.example"]
listeners = ["web"]
to = "u"
[routes.b]
hosts = ["b.example"]
to = "10.0.0.9:80"
[upstreams.u]
endpoints = ["10.0.0.1:80"]
"#;

#[tokio::test]
async fn nothing_is_made_anew_when_nothing_changed() {
    let bench = Bench::new();
    let old = bench.plan(None, BASE);
    let new = bench.plan(Some(&old), &format!("# a comment\n{BASE}"));

    for (name, listener) in &old.listeners {
        assert!(Arc::ptr_eq(listener, &new.listeners[name]), "{name}");
    }
    for (name, upstream) in &old.upstreams {
        assert!(Arc::ptr_eq(upstream, &new.upstreams[name]), "{name}");
    }
    assert_eq!(old.upstreams.len(), 2, "the one of the address as well");
    assert!(shared(&old, &new, "a") && shared(&old, &new, "b"));
    old.retire(&new);
    assert!(!old.routes[&route("a")].streams.is_draining());
}

#[tokio::test]
async fn only_what_changed_and_what_refers_to_it_is_made_anew() {
    // The change, and whether routes a and b are still those of before.
    let cases = [
        (("to = \"u\"", "to = \"u\"\npriority = 1"), false, true),
        (
            ("hosts = [\"b.example\"]", "hosts = [\"c.example\"]"),
            true,
            false,
        ),
        (
            ("10.0.0.1:80\"]", "10.0.0.2:80\"]\nbalance = \"random\""),
            false,
            true,
        ),
        (
            ("8081\"", "8081\"\nrequest_headers = { remove = [\"x\"] }"),
            true,
            false,
        ),
        (
            ("8081\"", "8081\"\nlimits = { connections = 5 }"),
            true,
            true,
        ),
        (("8081\"", "8082\""), true, true),
    ];
    for ((from, to), a, b) in cases {
        let bench = Bench::new();
        let old = bench.plan(None, BASE);
        let new = bench.plan(Some(&old), &BASE.replace(from, to));
        assert_eq!(
            (shared(&old, &new, "a"), shared(&old, &new, "b")),
            (a, b),
            "{to}"
        );

        old.retire(&new);
        let drains = |name| old.routes[&route(name)].streams.is_draining();
        assert_eq!((drains("a"), drains("b")), (!a, !b), "{to}");
    }
}

#[tokio::test]
async fn a_file_with_another_content_makes_its_rule_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("page");
    let config = |page: &Path| {
        format!("[routes.a]\nrespond = {{ file = {page:?} }}\n[routes.b]\nto = \"10.0.0.1:80\"\n")
    };
    std::fs::write(&page, "one").expect("written");
    let bench = Bench::new();
    let old = bench.plan(None, &config(&page));
    let same = bench.plan(Some(&old), &config(&page));
    std::fs::write(&page, "two").expect("written");
    let new = bench.plan(Some(&same), &config(&page));

    assert!(shared(&old, &same, "a"));
    assert!(!shared(&same, &new, "a"));
    assert!(shared(&same, &new, "b"));
}

#[tokio::test]
async fn a_listener_with_other_settings_keeps_its_count_and_ends_connections_gently() {
    let bench = Bench::new();
    let old = bench.plan(None, BASE);
    let new = bench.plan(
        Some(&old),
        &BASE.replace("8080\"", "8080\"\nlimits = { connections = 5 }"),
    );
    let (before, after) = (
        &old.listeners[&listener("web")],
        &new.listeners[&listener("web")],
    );
    assert!(Arc::ptr_eq(&before.census, &after.census));

    old.retire(&new);
    assert!(before.is_ending() && !before.tasks.is_draining());
    assert!(!after.is_ending());

    let gone = bench.plan(
        Some(&new),
        "[listeners.other]\naddress = \"127.0.0.1:8081\"\n",
    );
    new.retire(&gone);
    assert!(after.tasks.is_draining());
    assert!(!gone.listeners[&listener("other")].is_ending());
}

#[tokio::test]
async fn the_last_hold_sends_a_plan_to_the_reaper() {
    let bench = Bench::new();
    let plan = bench.plan(None, BASE);
    let weak = Arc::downgrade(&plan);
    let (reaper, work) = reaper();
    let held = Held::new(plan, reaper);

    drop(held);
    assert!(weak.upgrade().is_some(), "it waits for the reaper");
    work.await;
    assert!(weak.upgrade().is_none());
}

#[test]
fn weights_are_respected() {
    let service = |name| {
        Destination::UnknownService(sluice_config::names::ServiceName::new(name).expect("a name"))
    };
    let split = Split::new([(90, service("a")), (0, service("none")), (10, service("b"))]);
    let of = |random| match split.pick(random) {
        Some(Destination::UnknownService(name)) => name.to_string(),
        other => panic!("{other:?}"),
    };
    let step = u64::MAX / 1000;
    let to_b = (0..1000).filter(|n| of(n * step) == "b").count();
    assert!((99..=101).contains(&to_b), "{to_b}");
    assert_eq!(of(0), "a");
    assert_eq!(of(u64::MAX), "b");
    assert!(Split::new([(0, service("a"))]).pick(7).is_none());
}

#[test]
fn seats_are_limited_as_a_whole_and_per_client_and_given_back() {
    let web = snapshot(&BASE.replace(
        "8080\"",
        "8080\"\nlimits = { connections = 3, connections_per_client = 2 }",
    ));
    let limits = &web.listeners[&listener("web")].limits;
    let census = Arc::new(Census::default());
    let (one, two): (IpAddr, IpAddr) = (
        "10.0.0.1".parse().expect("ip"),
        "10.0.0.2".parse().expect("ip"),
    );

    let first = census.admit(one, limits);
    let second = census.admit(one, limits);
    assert!(first.is_some() && second.is_some());
    assert!(census.admit(one, limits).is_none(), "the client has enough");
    let third = census.admit(two, limits);
    assert!(third.is_some());
    assert!(census.admit(two, limits).is_none(), "the listener is full");
    drop(first);
    assert!(census.admit(one, limits).is_some(), "and free again");
    drop((second, third));
    assert!(census.is_empty());
}

#[tokio::test]
async fn connections_of_a_listener_that_is_gone_are_for_whoever_has_its_address() {
    let bench = Bench::new();
    let first = bench.plan(None, BASE);
    let renamed = BASE.replace("web", "front");
    let second = bench.plan(Some(&first), &renamed);
    assert_eq!(*second.standing(&listener("web")), listener("front"));
    assert_eq!(*second.standing(&listener("other")), listener("other"));
    assert_eq!(*second.standing(&listener("never")), listener("never"));

    // Of its connections some are still there.
    let held = Arc::clone(&first.listeners[&listener("web")]);
    drop(first);
    let third = bench.plan(Some(&second), &BASE.replace("web", "back"));
    assert_eq!(*third.standing(&listener("web")), listener("back"));
    assert_eq!(*third.standing(&listener("front")), listener("back"));
    drop((held, second));
    let fourth = bench.plan(Some(&third), &renamed);
    assert_eq!(*fourth.standing(&listener("web")), listener("web"));
    assert_eq!(*fourth.standing(&listener("front")), listener("front"));
    assert_eq!(*fourth.standing(&listener("back")), listener("front"));

    // Nobody has the address.
    let moved = bench.plan(Some(&fourth), &BASE.replace("8080", "8090"));
    assert!(matches!(
        moved.unrouted(&listener("front")),
        ProxyError::Draining
    ));
    assert!(matches!(
        moved.unrouted(&listener("web")),
        ProxyError::NoRoute
    ));
}
