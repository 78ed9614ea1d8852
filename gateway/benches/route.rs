//! How long it takes to find the rule of a request, to compile the table, and to normalise.
//!
//! Targets: 2 µs among 10,000 hosts and among 1,000 rules of one host that differ by exact or
//! prefix path; 20 µs among 1,000 rules of any other kind. The request always belongs to the last
//! rule, so every earlier one has to be ruled out.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a measurement, and macros that generate undocumented items"
)]

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Request};
use sluice_config::{
    Objects, Snapshot,
    model::{
        Action, Filters, HeaderMatch, HeaderName, HostPattern, Listener, Match, Method, Mode,
        PathMatch, Pattern, Route, Rule, ValueMatch,
    },
    names::{ListenerName, RouteName, RuleName},
};
use sluice_gateway::{
    http::normalize::normalize,
    route::{Opening, Question, Table},
};

fn web() -> ListenerName {
    ListenerName::new("web").expect("a name")
}

fn listener() -> Listener {
    Listener::new(web(), "127.0.0.1:80".parse().expect("an address"))
}

fn route(name: &str, hosts: Vec<HostPattern>, matches: Vec<Match>) -> Route {
    let rule = |(position, condition)| {
        Arc::new(Rule {
            name: RuleName::nth(position),
            matches: vec![condition],
            action: Action::Refused,
            timeout: None,
            filters: Filters::default(),
        })
    };
    Route {
        name: RouteName::new(name).expect("a name"),
        listeners: vec![web()],
        mode: Mode::Http,
        hosts,
        priority: 0,
        rules: matches.into_iter().enumerate().map(rule).collect(),
        timeout: None,
        filters: Filters::default(),
        client_certificates: None,
    }
}

fn snapshot(routes: impl IntoIterator<Item = Route>) -> Snapshot {
    let mut objects = Objects::default();
    objects.listeners.insert(web(), Arc::new(listener()));
    for route in routes {
        objects.routes.insert(route.name.clone(), Arc::new(route));
    }
    Snapshot::seal(objects)
}

fn hosts(count: usize) -> Snapshot {
    snapshot((0..count).map(|number| {
        let host = HostPattern::Exact(format!("host-{number}.example.com"));
        route(&format!("r{number}"), vec![host], vec![Match::default()])
    }))
}

/// One host whose rules differ by `condition`.
fn rules(condition: impl Fn(usize) -> Match) -> Snapshot {
    let matches = (0..RULES).map(condition).collect();
    snapshot([route("app", vec![HostPattern::Any], matches)])
}

const RULES: usize = 1_000;

/// What a browser sends, roughly.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "host-9999.example.com"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://host-9999.example.com/"),
        (
            "cookie",
            "theme=dark; session=0123456789abcdef; tenant=tenant-999-x",
        ),
        ("cache-control", "no-cache"),
        ("x-tenant", "tenant-999-x"),
        ("x-name-999", "yes"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("valid")
}

fn path(path: PathMatch) -> Match {
    Match {
        path: Some(path),
        ..Match::default()
    }
}

fn header(name: &str, value: ValueMatch) -> Match {
    let name = HeaderName::new(name).expect("a header name");
    Match {
        headers: vec![HeaderMatch { name, value }],
        ..Match::default()
    }
}

fn query(value: ValueMatch) -> Match {
    Match {
        query: vec![("tenant".to_owned(), value)],
        ..Match::default()
    }
}

fn cookie(value: ValueMatch) -> Match {
    Match {
        cookies: vec![("tenant".to_owned(), value)],
        ..Match::default()
    }
}

/// Every kind of condition, 1,000 of each.
fn kinds() -> Vec<(&'static str, Snapshot)> {
    let exact = |n: usize| ValueMatch::Exact(format!("tenant-{n}-x"));
    let starts = |n: usize| ValueMatch::StartsWith(format!("tenant-{n}-"));
    let regex = |n: usize| ValueMatch::Regex(pattern(&format!("tenant-{n}-[a-z]+")));
    vec![
        (
            "path_exact",
            rules(|n| path(PathMatch::Exact(format!("/shop/area-{n}/cart")))),
        ),
        (
            "path_prefix",
            rules(|n| path(PathMatch::Prefix(format!("/shop/area-{n}")))),
        ),
        (
            "path_starts_with",
            rules(|n| path(PathMatch::StartsWith(format!("/shop/area-{n}/c")))),
        ),
        (
            "path_regex",
            rules(|n| path(PathMatch::Regex(pattern(&format!("/shop/area-{n}/[a-z]+"))))),
        ),
        (
            "path_regex_open",
            rules(|n| path(PathMatch::Regex(pattern(&format!(".*/area-{n}/.*"))))),
        ),
        ("header_exact", rules(|n| header("x-tenant", exact(n)))),
        (
            "header_starts_with",
            rules(|n| header("x-tenant", starts(n))),
        ),
        ("header_regex", rules(|n| header("x-tenant", regex(n)))),
        (
            "header_names",
            rules(|n| header(&format!("x-name-{n}"), ValueMatch::Present(true))),
        ),
        (
            "header_absent",
            rules(|n| match n {
                999 => Match::default(),
                _ => header(
                    if n % 2 == 0 { "accept" } else { "cookie" },
                    ValueMatch::Present(false),
                ),
            }),
        ),
        ("query_exact", rules(|n| query(exact(n)))),
        ("query_regex", rules(|n| query(regex(n)))),
        ("cookie_exact", rules(|n| cookie(exact(n)))),
        ("cookie_regex", rules(|n| cookie(regex(n)))),
        (
            "method",
            rules(|n| Match {
                methods: vec![Method::new(&format!("M{n}")).expect("a method")],
                ..Match::default()
            }),
        ),
        (
            "client",
            rules(|n| Match {
                clients: vec![
                    format!("10.{}.{}.0/24", n / 250, n % 250)
                        .parse()
                        .expect("a network"),
                ],
                ..Match::default()
            }),
        ),
        (
            "listener",
            rules(|n| Match {
                listeners: match n {
                    999 => Vec::new(),
                    _ => vec![ListenerName::new(&format!("web{n}")).expect("a name")],
                },
                ..Match::default()
            }),
        ),
    ]
}

fn question<'a>(host: &'a str, headers: &'a HeaderMap) -> Question<'a> {
    Question {
        host: Some(host),
        path: "/shop/area-999/cart",
        query: Some("page=2&tenant=tenant-999-x"),
        method: "M999",
        headers,
        client: IpAddr::from([10, 3, 249, 7]),
        mode: Mode::Http,
        opening: Opening::plain(SocketAddr::from(([127, 0, 0, 1], 80))),
    }
}

fn find(criterion: &mut Criterion) {
    let (listener, headers) = (web(), headers());
    let mut group = criterion.benchmark_group("find");
    for count in [10, 1_000, 10_000] {
        let table = Table::compile(&hosts(count), None);
        let host = format!("host-{}.example.com", count - 1);
        let question = question(&host, &headers);
        assert!(table.find(&listener, &question).is_some());
        group.bench_function(format!("hosts_{count}"), |bench| {
            bench.iter(|| {
                table
                    .find(black_box(&listener), black_box(&question))
                    .is_some()
            });
        });
    }
    for (kind, snapshot) in kinds() {
        let table = Table::compile(&snapshot, None);
        let question = question("host-9999.example.com", &headers);
        let found = table.find(&listener, &question).expect("the last rule");
        assert_eq!(found.rule, RULES - 1, "{kind}");
        group.bench_function(format!("rules_{kind}"), |bench| {
            bench.iter(|| {
                table
                    .find(black_box(&listener), black_box(&question))
                    .is_some()
            });
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    let snapshot = hosts(10_000);
    group.bench_function("hosts_10000", |bench| {
        bench.iter(|| Table::compile(black_box(&snapshot), None));
    });
    let previous = Table::compile(&snapshot, None);
    group.bench_function("hosts_10000_unchanged", |bench| {
        bench.iter(|| Table::compile(black_box(&snapshot), Some(&previous)));
    });
    group.finish();
}

fn normalise(criterion: &mut Criterion) {
    let listener = listener();
    let mut group = criterion.benchmark_group("normalize");
    for (name, target) in [
        ("plain", "/shop/area-999/cart?page=2"),
        ("escaped", "/shop/./%61rea-999//x/../cart?page=2"),
    ] {
        let (mut parts, ()) = Request::get(target)
            .body(())
            .expect("a request")
            .into_parts();
        parts.headers = headers();
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || parts.clone(),
                |mut parts| normalize(&mut parts, &listener).is_ok(),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    targets = find, compile, normalise
}
criterion_main!(benches);
