//! The table against a plain scan, and the order of hosts.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*, sample::select};
use sluice_config::{
    Objects,
    model::{
        Action, Filters, HeaderMatch, Listener, Match, Method, Mode, Pattern, Route, Rule,
        ValueMatch, order,
    },
    names::RuleName,
};

use super::*;

fn listener(name: &str) -> ListenerName {
    ListenerName::new(name).expect("a name")
}

fn route(name: &str, hosts: &[&str], rules: Vec<Vec<Match>>) -> Route {
    let rule = |(position, matches)| {
        Arc::new(Rule {
            name: RuleName::nth(position),
            matches,
            action: Action::Refused,
            timeout: None,
            filters: Filters::default(),
        })
    };
    Route {
        name: RouteName::new(name).expect("a name"),
        listeners: vec![listener("web")],
        mode: Mode::Http,
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        priority: 0,
        rules: rules.into_iter().enumerate().map(rule).collect(),
        timeout: None,
        filters: Filters::default(),
        client_certificates: None,
    }
}

fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact(host.to_owned()),
    }
}

fn snapshot(routes: Vec<Route>) -> Snapshot {
    let mut objects = Objects::default();
    for name in ["web", "other"] {
        let address = "127.0.0.1:80".parse().expect("an address");
        let model = Arc::new(Listener::new(listener(name), address));
        objects.listeners.insert(listener(name), model);
    }
    for route in routes {
        objects.routes.insert(route.name.clone(), Arc::new(route));
    }
    Snapshot::seal(objects)
}

fn ask<'a>(host: &'a str, path: &'a str, headers: &'a HeaderMap) -> Question<'a> {
    Question {
        host: Some(host),
        path,
        query: None,
        method: "GET",
        headers,
        client: IpAddr::from([192, 0, 2, 7]),
        opening: opening(),
        mode: Mode::Http,
    }
}

fn opening() -> Opening<'static> {
    Opening::plain("127.0.0.1:80".parse().expect("an address"))
}

fn prefix(path: &str) -> Match {
    Match {
        path: Some(PathMatch::Prefix(path.to_owned())),
        ..Match::default()
    }
}

#[test]
fn chooses_the_exact_host_then_the_longest_wildcard_then_any() {
    let route = |name, hosts: &[&str]| route(name, hosts, vec![vec![]]);
    let table = Table::compile(
        &snapshot(vec![
            route("exact", &["a.b.example"]),
            route("long", &["*.b.example"]),
            route("short", &["*.example"]),
            route("any", &["*"]),
        ]),
        None,
    );
    let headers = HeaderMap::new();
    for (host, expected) in [
        ("a.b.example", "exact"),
        ("x.b.example", "long"),
        ("y.x.b.example", "long"),
        ("b.example", "short"),
        ("example", "any"),
        (".example", "any"),
        ("[::1]", "any"),
    ] {
        let found = table.find(&listener("web"), &ask(host, "/", &headers));
        assert_eq!(found.expect(host).route.name.as_str(), expected, "{host}");
    }
    let absent = Question {
        host: None,
        ..ask("", "/", &headers)
    };
    let found = table.find(&listener("web"), &absent).expect("any");
    assert_eq!(found.route.name.as_str(), "any");
    assert!(table.find(&listener("other"), &absent).is_none());
}

#[test]
fn does_not_fall_back_to_a_wider_host() {
    let table = Table::compile(
        &snapshot(vec![
            route("narrow", &["a.example"], vec![vec![prefix("/only")]]),
            route("wide", &["*"], vec![vec![]]),
        ]),
        None,
    );
    let headers = HeaderMap::new();
    let question = ask("a.example", "/else", &headers);
    assert!(table.find(&listener("web"), &question).is_none());
    let explanation = table.explain(&listener("web"), &question);
    let nearest = explanation.nearest.expect("a nearest rule");
    assert_eq!(nearest.place.route.as_str(), "narrow");
    assert_eq!(nearest.failed[0].wanted, "path is under /only");
    assert_eq!(explanation.host.as_deref(), Some("a.example"));
}

#[test]
fn names_the_nearest_host_where_none_matches() {
    let table = Table::compile(
        &snapshot(vec![
            route("shop", &["shop.example"], vec![vec![]]),
            route("blog", &["blog.example"], vec![vec![]]),
        ]),
        None,
    );
    let headers = HeaderMap::new();
    let explanation = table.explain(&listener("web"), &ask("shopp.example", "/", &headers));
    let nearest = explanation.nearest.expect("a nearest route");
    assert_eq!(nearest.place.route.as_str(), "shop");
    assert_eq!(nearest.failed[0].wanted, "host is shop.example");
    let explanation = table.explain(&listener("other"), &ask("blog.example", "/", &headers));
    let nearest = explanation.nearest.expect("a nearest route");
    assert_eq!(nearest.place.route.as_str(), "blog");
    assert_eq!(nearest.failed[0].wanted, "listener is web");
}

#[test]
fn takes_over_what_did_not_change() {
    let routes = |path| {
        vec![
            route("same", &["a", "b"], vec![vec![prefix("/a")]]),
            route("other", &["c"], vec![vec![prefix(path)]]),
        ]
    };
    let first = Table::compile(&snapshot(routes("/x")), None);
    let second = Table::compile(&snapshot(routes("/y")), Some(&first));
    let rules = |table: &Table, name| {
        Arc::clone(&table.compiled[&vec![RouteName::new(name).expect("a name")]])
    };
    assert!(Arc::ptr_eq(&rules(&first, "same"), &rules(&second, "same")));
    assert!(!Arc::ptr_eq(
        &rules(&first, "other"),
        &rules(&second, "other")
    ));
    assert_eq!(first.compiled.len(), 2);
}

const PATHS: &[&str] = &["/", "/a", "/a/", "/ab", "/a/b", "/a/b/c", "/b", "*", "/b/a"];
const TEXTS: &[&str] = &["", "a", "b", "ab", "a, b", "%61"];
const REGEXES: &[&str] = &[
    "a", "/a.*", "[ab]+", "/(a|b)/b", "a, .*", "", "/b.*|b", "/[^b]*", "b?", "/a/.*", "(?i)/A", ".",
];
/// Compiling them anew for every case would take most of the time.
static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let compiled = REGEXES
        .iter()
        .map(|text| Pattern::new(text).expect("valid"));
    compiled.collect()
});
const NAMES: &[&str] = &["x-a", "x-b", "x-c"];

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        select(TEXTS).prop_map(|text| ValueMatch::Exact(text.to_owned())),
        select(TEXTS).prop_map(|text| ValueMatch::StartsWith(text.to_owned())),
        select(&PATTERNS[..]).prop_map(ValueMatch::Regex),
        any::<bool>().prop_map(ValueMatch::Present),
    ]
}

fn path() -> impl Strategy<Value = PathMatch> {
    let text = || select(PATHS).prop_map(str::to_owned);
    prop_oneof![
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::StartsWith),
        select(&["/", "/a", "/a/b", "/b", "/ab"][..])
            .prop_map(|it| PathMatch::Prefix(it.to_owned())),
        select(&PATTERNS[..]).prop_map(PathMatch::Regex),
    ]
}

fn condition() -> impl Strategy<Value = Match> {
    let named = || vec((select(NAMES).prop_map(str::to_owned), value()), 0..2);
    let method = select(&["GET", "POST", "get"][..]);
    let client = select(&["192.0.2.0/24", "10.0.0.0/8", "::/0", "192.0.2.7/32"][..]);
    let listener = select(&["web", "other"][..]);
    let rare = || prop::bool::weighted(0.2);
    (
        option::of(path()),
        (rare(), vec(method, 1..3)),
        (named(), named(), named()),
        (rare(), vec(client, 1..3)),
        (rare(), listener),
        option::weighted(0.3, on_connection()),
    )
        .prop_map(
            |(path, methods, (headers, query, cookies), clients, listeners, connection)| {
                let header = |(name, value): (String, ValueMatch)| HeaderMatch {
                    name: model::HeaderName::new(&name).expect("a header name"),
                    value,
                };
                let methods = if methods.0 { methods.1 } else { Vec::new() };
                let clients = if clients.0 { clients.1 } else { Vec::new() };
                Match {
                    path,
                    methods: methods
                        .iter()
                        .map(|it| Method::new(it).expect("a method"))
                        .collect(),
                    headers: headers.into_iter().map(header).collect(),
                    query,
                    cookies,
                    clients: clients
                        .iter()
                        .map(|it| it.parse().expect("a network"))
                        .collect(),
                    listeners: listeners
                        .0
                        .then(|| self::listener(listeners.1))
                        .into_iter()
                        .collect(),
                    ..connection.unwrap_or_default()
                }
            },
        )
}

/// What clients offer inside TLS.
const OFFERS: &[&[u8]] = &[b"h2", b"x", b"y"];

/// Conditions on the connection alone.
fn on_connection() -> impl Strategy<Value = Match> {
    let net = select(&["127.0.0.0/8", "::/0", "127.0.0.1/32"][..]);
    let ports = prop_oneof![Just(80..=80_u16), Just(5000..=5999)];
    let sni = prop_oneof![
        any::<bool>().prop_map(ValueMatch::Present),
        select(&["a.x", "b"][..]).prop_map(|it| ValueMatch::Exact(it.to_owned())),
        select(&["a", "b."][..]).prop_map(|it| ValueMatch::StartsWith(it.to_owned())),
        Just(ValueMatch::Regex(
            Pattern::new("[ab][.]x").expect("an expression")
        )),
    ];
    let alpn = vec(select(&["h2", "x"][..]), 0..2);
    (vec(net, 0..2), vec(ports, 0..2), alpn, option::of(sni)).prop_map(
        |(nets, ports, alpn, sni)| Match {
            destination: nets
                .iter()
                .map(|it| it.parse().expect("a network"))
                .collect(),
            destination_port: ports,
            alpn: alpn.into_iter().map(str::to_owned).collect(),
            sni,
            ..Match::default()
        },
    )
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let hosts = vec(select(&["a.x", "*.x", "*", "b.a.x", "*.a.x"][..]), 1..3);
    let rules = vec(vec(condition(), 0..3), 0..12);
    let one = (
        hosts,
        -1..2_i32,
        rules,
        vec(select(&["web", "other"][..]), 1..2),
        prop_oneof![3 => Just(Mode::Http), 1 => select(&Mode::ALL[..])],
    );
    vec(one, 0..4).prop_map(|routes| {
        let made = routes.into_iter().enumerate();
        made.map(|(index, (hosts, priority, rules, listeners, mode))| Route {
            mode,
            priority,
            listeners: listeners.iter().map(|name| listener(name)).collect(),
            ..route(&format!("r{index}"), &hosts, rules)
        })
        .collect()
    })
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let plain = vec((select(NAMES), select(TEXTS)), 0..5);
    let cookies = vec(
        select(
            &[
                "x-a=a; x-b=ab",
                "x-a=",
                "x-c = b ;x-b=a, b",
                "junk",
                ";;x-a=a",
            ][..],
        ),
        0..3,
    );
    let bytes = prop::bool::weighted(0.1);
    (plain, cookies, bytes).prop_map(|(plain, cookies, bytes)| {
        let mut headers = HeaderMap::new();
        for (name, value) in plain {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        for value in cookies {
            headers.append(http::header::COOKIE, HeaderValue::from_static(value));
        }
        if bytes {
            let value = HeaderValue::from_bytes(b"x-a=\xff; x-b=a").expect("a value");
            headers.append(http::header::COOKIE, value.clone());
            headers.append("x-a", value);
        }
        headers
    })
}

/// What the documentation says, word for word.
fn plainly(
    snapshot: &Snapshot,
    listener: &ListenerName,
    question: &Question<'_>,
) -> Option<(RouteName, usize, Option<usize>)> {
    let host = question.host.unwrap_or_default();
    let admits = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        HostPattern::Any => true,
    };
    let bound = || {
        snapshot
            .routes
            .values()
            .filter(|route| route.mode == question.mode && route.listeners.contains(listener))
    };
    let best = bound()
        .flat_map(|route| &route.hosts)
        .filter(|pattern| admits(pattern))
        .max_by_key(|pattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Wildcard(suffix) => suffix.len(),
            HostPattern::Any => 0,
        })?;
    let sharing: Vec<Arc<Route>> = bound()
        .filter(|it| it.hosts.contains(best))
        .cloned()
        .collect();
    order::merge(&sharing).into_iter().find_map(|item| {
        let route = &sharing[item.route];
        let found = Found {
            route,
            rule: item.rule,
            matched: item.matched,
        };
        let holds = explain::failing(&found, listener, question).is_empty();
        holds.then(|| (route.name.clone(), item.rule, item.matched))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn finds_what_a_plain_scan_finds(
        routes in routes(),
        before in routes(),
        headers in headers(),
        host in option::of(select(&["a.x", "b.a.x", "c.a.x", "x", "y"][..])),
        path in select(PATHS),
        query in option::of(select(&["x-a=a&x-b", "x-a=%61b&x-a=b", "x%2da=a", "x-c=a,%20b", ""][..])),
        method in select(&["GET", "POST", "PUT"][..]),
        client in select(&["192.0.2.7", "192.0.2.8", "10.1.1.1", "::1"][..]),
        (destination, alpn, sni) in (
            select(&["127.0.0.1:80", "127.0.0.2:5432", "[::1]:5001"][..]),
            vec(select(OFFERS), 0..3),
            option::of(select(&["a.x", "b.x", "b"][..])),
        ),
        mode in prop_oneof![3 => Just(Mode::Http), 1 => select(&Mode::ALL[..])],
    ) {
        let snapshot = snapshot(routes);
        let previous = Table::compile(&self::snapshot(before), None);
        let table = Table::compile(&snapshot, Some(&previous));
        let client = client.parse().expect("an address");
        let destination = destination.parse().expect("an address");
        let opening = Opening { destination, alpn: &alpn, sni };
        let question = Question { mode, host, path, query, method, headers: &headers, client, opening };
        for listener in ["web", "other"].map(listener) {
            let found = table
                .find(&listener, &question)
                .map(|found| (found.route.name.clone(), found.rule, found.matched));
            let explanation = table.explain(&listener, &question);
            let chosen = explanation.candidates.iter().filter(|it| it.outcome == Outcome::Chosen);
            prop_assert_eq!(chosen.count(), usize::from(found.is_some()));
            prop_assert_eq!(found, plainly(&snapshot, &listener, &question));
        }
    }
}
