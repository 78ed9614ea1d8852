use std::{net::SocketAddr, sync::Arc};

use proptest::prelude::*;

use super::{
    expression,
    subsume::subsumes,
    witness::{Scene, Witness},
    *,
};
use crate::{
    Objects,
    model::{
        Address, Endpoint, Filters, HeaderMatch, HeaderName, HostPattern, HostPort, HttpsRedirect,
        Listener, Match, Method, Mode, Pattern, Scheme, Upstream, ValueMatch,
    },
    names::{ListenerName, RouteName, RuleName},
};

fn listener(name: &str) -> ListenerName {
    ListenerName::new(name).unwrap()
}

fn address() -> Address {
    let host = HostPort::Socket(SocketAddr::from(([10, 0, 0, 1], 80)));
    Address {
        scheme: Scheme::Http,
        host,
    }
}

fn forward(weight: u32) -> Action {
    Action::Forward(vec![Target {
        destination: Destination::Address(address()),
        weight,
    }])
}

fn path(path: PathMatch) -> Match {
    Match {
        path: Some(path),
        ..Match::default()
    }
}

fn prefix(text: &str) -> Match {
    path(PathMatch::Prefix(text.to_owned()))
}

fn exact(text: &str) -> Match {
    path(PathMatch::Exact(text.to_owned()))
}

fn regex(text: &str) -> Match {
    path(PathMatch::Regex(Pattern::new(text).unwrap()))
}

fn with_header(mut condition: Match, name: &str, value: ValueMatch) -> Match {
    condition.headers.push(HeaderMatch {
        name: HeaderName::new(name).unwrap(),
        value,
    });
    condition
}

/// A route on host `a.example` and listener `web`; an empty list of matches is the catch-all.
fn route(name: &str, rules: Vec<Vec<Match>>) -> Route {
    let rules = rules.into_iter().enumerate().map(|(position, matches)| {
        let catch_all = matches.is_empty();
        Arc::new(Rule {
            name: if catch_all {
                RuleName::catch_all()
            } else {
                RuleName::nth(position)
            },
            matches,
            action: forward(1),
            timeout: None,
            filters: Filters::default(),
        })
    });
    Route {
        name: RouteName::new(name).unwrap(),
        listeners: vec![listener("web")],
        mode: Mode::Http,
        hosts: vec![HostPattern::Exact("a.example".to_owned())],
        priority: 0,
        rules: rules.collect(),
        timeout: None,
        filters: Filters::default(),
        client_certificates: None,
    }
}

fn objects(routes: Vec<Route>) -> Objects {
    let web = Listener::new(listener("web"), SocketAddr::from(([0, 0, 0, 0], 80)).into());
    Objects {
        listeners: [(listener("web"), Arc::new(web))].into(),
        routes: routes
            .into_iter()
            .map(|route| (route.name.clone(), Arc::new(route)))
            .collect(),
        ..Objects::default()
    }
}

fn found(routes: Vec<Route>) -> Vec<(&'static str, String, Option<String>)> {
    let problems = lint(&Snapshot::seal(objects(routes)));
    problems
        .into_iter()
        .map(|problem| (problem.code, problem.at, problem.witness))
        .collect()
}

fn one(code: &'static str, at: &str, witness: &str) -> Vec<(&'static str, String, Option<String>)> {
    vec![(code, at.to_owned(), Some(witness.to_owned()))]
}

#[test]
fn a_rule_behind_a_wider_one_is_shadowed_and_a_request_shows_it() {
    let cases: Vec<(Match, Match, &str)> = vec![
        (
            prefix("/api"),
            exact("/api/pets"),
            "GET http://a.example/api/pets",
        ),
        (prefix("/api"), prefix("/api"), "GET http://a.example/api"),
        (regex("/v[0-9]+"), exact("/v2"), "GET http://a.example/v2"),
        (
            regex("/a/.*"),
            regex("/a/b[x-z]+"),
            "GET http://a.example/a/bx",
        ),
        (
            prefix("/"),
            with_header(
                exact("/x"),
                "x-canary",
                ValueMatch::Exact("true".to_owned()),
            ),
            "GET http://a.example/x -H 'x-canary: true'",
        ),
        (
            Match {
                clients: vec!["10.0.0.0/8".parse().unwrap()],
                ..Match::default()
            },
            Match {
                clients: vec!["10.1.0.0/16".parse().unwrap()],
                ..Match::default()
            },
            "GET http://a.example/ --client-ip 10.1.0.0",
        ),
        (
            Match {
                query: vec![("q".to_owned(), ValueMatch::Present(true))],
                ..Match::default()
            },
            Match {
                query: vec![("q".to_owned(), ValueMatch::Exact("a b".to_owned()))],
                cookies: vec![("c".to_owned(), ValueMatch::StartsWith("d".to_owned()))],
                methods: vec![Method::new("PUT").unwrap()],
                ..Match::default()
            },
            "PUT http://a.example/?q=a%20b -H 'cookie: c=d'",
        ),
    ];
    for (wide, narrow, witness) in cases {
        let seen = found(vec![route("app", vec![vec![wide], vec![narrow]])]);
        assert_eq!(seen, one("shadowed_rule", "routes.app.rules[1]", witness));
    }
}

#[test]
fn a_rule_that_some_request_reaches_is_not_shadowed() {
    let cases = [
        (exact("/api/pets"), prefix("/api")),
        (prefix("/api"), exact("/apis")),
        (
            prefix("/api"),
            path(PathMatch::StartsWith("/api".to_owned())),
        ),
        (
            with_header(prefix("/"), "a", ValueMatch::Present(true)),
            prefix("/x"),
        ),
        (regex("/[a-m]"), regex("/[a-z]")),
    ];
    for (first, second) in cases {
        assert_eq!(
            found(vec![route("app", vec![vec![first], vec![second]])]),
            []
        );
    }
}

#[test]
fn one_dead_match_of_a_living_rule_is_named() {
    let rules = vec![vec![prefix("/a")], vec![exact("/a/b"), exact("/c")]];
    let seen = found(vec![route("app", rules)]);
    assert_eq!(
        seen,
        one(
            "shadowed_match",
            "routes.app.rules[1].match[0]",
            "GET http://a.example/a/b"
        )
    );
}

#[test]
fn a_host_that_another_routes_catch_all_covers_is_unreachable() {
    let wide = Route {
        priority: 1,
        ..route("wide", vec![vec![]])
    };
    let seen = found(vec![wide, route("app", vec![vec![exact("/x")], vec![]])]);
    assert_eq!(
        seen,
        one(
            "unreachable_host",
            "routes.app.hosts[0]",
            "GET http://a.example/x"
        )
    );
}

#[test]
fn a_host_that_is_reached_on_another_listener_is_reachable() {
    let wide = Route {
        priority: 1,
        ..route("wide", vec![vec![]])
    };
    let mut app = route("app", vec![vec![]]);
    app.listeners.push(listener("other"));
    let mut all = objects(vec![wide, app]);
    let other = Listener::new(
        listener("other"),
        SocketAddr::from(([0, 0, 0, 0], 81)).into(),
    );
    all.listeners.insert(listener("other"), Arc::new(other));
    assert_eq!(lint(&Snapshot::seal(all)), []);
}

#[test]
fn a_route_behind_a_redirect_to_https_is_unreachable() {
    let mut all = objects(vec![route("app", vec![vec![]])]);
    for listener in all.listeners.values_mut() {
        let listener = Arc::make_mut(listener);
        listener.https_redirect = Some(HttpsRedirect::default());
        listener.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    }
    let problems = lint(&Snapshot::seal(all));
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (problems[0].code, problems[0].at.as_str()),
        ("unreachable_host", "routes.app")
    );
}

#[test]
fn an_order_that_came_from_specificity_is_said_and_a_priority_silences_it() {
    let api = || route("api", vec![vec![prefix("/api")]]);
    let app = route("app", vec![vec![]]);
    assert_eq!(
        found(vec![api(), app.clone()]),
        one(
            "merged_by_specificity",
            "routes.app",
            "GET http://a.example/api"
        )
    );
    assert_eq!(
        found(vec![
            Route {
                priority: 1,
                ..api()
            },
            app
        ]),
        []
    );
    let disjoint = route("web", vec![vec![prefix("/web")]]);
    assert_eq!(found(vec![api(), disjoint]), []);
}

#[test]
fn an_order_that_came_from_a_name_says_so() {
    let header = |name| with_header(prefix("/x"), name, ValueMatch::Present(true));
    let routes = vec![
        route("a", vec![vec![header("x-a")]]),
        route("b", vec![vec![header("x-b")]]),
    ];
    let problems = lint(&Snapshot::seal(objects(routes)));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].what.contains("its name"),
        "{}",
        problems[0].what
    );
    let witness = "GET http://a.example/x -H 'x-a: x' -H 'x-b: x'";
    assert_eq!(problems[0].witness.as_deref(), Some(witness));
}

#[test]
fn weights_of_nothing_but_zero_and_unused_upstreams_are_named() {
    let mut app = route("app", vec![vec![exact("/")]]);
    Arc::make_mut(&mut app.rules[0]).action = forward(0);
    let mut all = objects(vec![app]);
    let name = UpstreamName::new("idle").unwrap();
    let endpoint = Endpoint {
        weight: 0,
        ..Endpoint::new(address())
    };
    let idle = Upstream::new(name.clone(), vec![endpoint]);
    all.upstreams.insert(name, Arc::new(idle));
    let problems = lint(&Snapshot::seal(all));
    let seen: Vec<_> = problems.iter().map(|p| (p.code, p.at.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("no_weight", "routes.app.rules[0].to"),
            ("unused_upstream", "upstreams.idle"),
            ("no_weight", "upstreams.idle.endpoints"),
        ]
    );
}

#[test]
fn an_expression_that_admits_no_path_is_named() {
    let dead = [
        "api/.*",
        "",
        "[a-z]+",
        r"\w+/x",
        "(a|b)?c",
        "/[^\\s\\S]",
        "$x",
    ];
    for text in dead {
        let pattern = Pattern::new(text).unwrap();
        assert!(expression::never_begins_with_slash(&pattern), "{text}");
        let seen = found(vec![route("app", vec![vec![regex(text)]])]);
        assert_eq!(seen[0].0, "unmatchable_regex");
        assert_eq!(seen[0].1, "routes.app.rules[0].match[0].path.regex");
    }
    for text in [
        "/api", ".*", "(a|/b)", "a?/x", "[^a]x", "(?i)^/x$", "x*(/|y)",
    ] {
        let pattern = Pattern::new(text).unwrap();
        assert!(!expression::never_begins_with_slash(&pattern), "{text}");
    }
}

#[test]
fn ten_thousand_hosts_and_a_thousand_rules_are_looked_through_quickly() {
    let many = (0..1_000)
        .map(|n| vec![prefix(&format!("/service/{n}"))])
        .collect();
    let mut routes = vec![route("many", many)];
    routes.extend((0..10_000).map(|n| {
        let mut one = route(&format!("r{n}"), vec![vec![]]);
        one.hosts = vec![HostPattern::Exact(format!("h{n}.example"))];
        one
    }));
    assert_eq!(found(routes), []);
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "ab", "abc", "b", "x-y"]).prop_map(str::to_owned)
}

fn some_path() -> impl Strategy<Value = PathMatch> {
    let text = prop::sample::select(vec!["/", "/a", "/ab", "/a/b", "/a/b/c", "/b"]);
    let regexes = [
        "/.*", ".*", "/a", "/a/.*", "/a(/.*)?", "/[ab]", "/[ab]/b", "/a/b|/a", "/a.+",
    ];
    prop_oneof![
        text.clone()
            .prop_map(|text| PathMatch::Exact(text.to_owned())),
        text.clone()
            .prop_map(|text| PathMatch::Prefix(text.to_owned())),
        text.prop_map(|text| PathMatch::StartsWith(text.to_owned())),
        prop::sample::select(regexes.to_vec())
            .prop_map(|text| PathMatch::Regex(Pattern::new(text).unwrap())),
    ]
}

fn some_value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        word().prop_map(ValueMatch::Exact),
        word().prop_map(ValueMatch::StartsWith),
        prop::sample::select(vec!["a.*", "[ab]+", ".*", "abc"])
            .prop_map(|text| ValueMatch::Regex(Pattern::new(text).unwrap())),
        any::<bool>().prop_map(ValueMatch::Present),
    ]
}

fn some_match() -> impl Strategy<Value = Match> {
    let methods = prop::sample::subsequence(vec!["GET", "PUT", "POST"], 0..=2);
    let nets = vec!["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "fd00::/8"];
    let named =
        || prop::collection::vec((prop::sample::select(vec!["a", "b"]), some_value()), 0..2);
    (
        prop::option::of(some_path()),
        methods,
        named(),
        named(),
        named(),
        prop::sample::subsequence(nets, 0..=2),
        prop::sample::subsequence(vec!["web", "other"], 0..=1),
    )
        .prop_map(
            |(path, methods, headers, query, cookies, clients, listeners)| Match {
                path,
                methods: methods
                    .into_iter()
                    .map(|text| Method::new(text).unwrap())
                    .collect(),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| HeaderMatch {
                        name: HeaderName::new(name).unwrap(),
                        value,
                    })
                    .collect(),
                query: query
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                cookies: cookies
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                clients: clients
                    .into_iter()
                    .map(|text| text.parse().unwrap())
                    .collect(),
                listeners: listeners.into_iter().map(listener).collect(),
                ..Match::default()
            },
        )
        .prop_flat_map(on_connection)
}

/// The same with conditions on the connection.
fn on_connection(condition: Match) -> impl Strategy<Value = Match> {
    let nets = vec!["127.0.0.0/8", "127.0.0.1/32", "::/0"];
    let ports = vec![80..=80, 5000..=5999, 5432..=5432];
    let sni = vec![
        None,
        None,
        Some(ValueMatch::Present(true)),
        Some(ValueMatch::Present(false)),
        Some(ValueMatch::Exact("a.example".to_owned())),
        Some(ValueMatch::StartsWith("a.".to_owned())),
        Some(ValueMatch::Regex(Pattern::new("[ab].example").unwrap())),
    ];
    (
        prop::sample::subsequence(nets, 0..=1),
        prop::sample::subsequence(ports, 0..=2),
        prop::sample::subsequence(vec!["h2", "x"], 0..=1),
        prop::sample::select(sni),
        prop::bool::weighted(0.5),
    )
        .prop_map(move |(nets, ports, alpn, sni, plain)| {
            if plain {
                return condition.clone();
            }
            Match {
                destination: nets.into_iter().map(|it| it.parse().unwrap()).collect(),
                destination_port: ports,
                alpn: alpn.into_iter().map(str::to_owned).collect(),
                sni,
                ..condition.clone()
            }
        })
}

fn some_request() -> impl Strategy<Value = Witness> {
    let values = || {
        let pair = (
            prop::sample::select(vec!["a".to_owned(), "b".to_owned()]),
            word(),
        );
        prop::collection::vec(pair, 0..3)
    };
    let paths = vec![
        "/", "/a", "/ab", "/a/b", "/a/b/c", "/a/b/cd", "/a/", "/b", "/b/b", "/abc/x",
    ];
    let clients = vec![
        "10.1.2.3",
        "10.2.3.4",
        "192.0.2.1",
        "fd00::1",
        "2001:db8::1",
    ];
    (
        prop::sample::select(vec!["GET", "PUT", "POST", "PATCH"]),
        prop::sample::select(paths),
        values(),
        values(),
        values(),
        prop::sample::select(clients),
        prop::sample::select(vec!["web", "other"]),
    )
        .prop_map(
            |(method, path, query, headers, cookies, client, name)| Witness {
                method: method.to_owned(),
                host: "a.example".to_owned(),
                path: path.to_owned(),
                query,
                headers,
                cookies,
                client: Some(client.parse().unwrap()),
                listener: Some(listener(name)),
                ..Witness::default()
            },
        )
        .prop_flat_map(connected)
}

/// The same over some connection.
fn connected(request: Witness) -> impl Strategy<Value = Witness> {
    let destinations = vec![
        "127.0.0.1:80",
        "127.0.0.2:5432",
        "[::1]:5001",
        "10.0.0.1:5432",
    ];
    (
        prop::sample::select(destinations),
        prop::sample::subsequence(vec!["h2", "x", "y"], 0..=2),
        prop::option::of(prop::sample::select(vec!["a.example", "b.example", "c"])),
    )
        .prop_map(move |(destination, alpn, sni)| Witness {
            destination: Some(destination.parse().unwrap()),
            alpn: alpn.into_iter().map(str::to_owned).collect(),
            sni: sni.map(str::to_owned),
            ..request.clone()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_subsumes_admits_every_request_that_the_narrower_one_admits(
        wide in some_match(),
        narrow in some_match(),
        requests in prop::collection::vec(some_request(), 32),
    ) {
        if subsumes(&wide, &narrow) {
            for request in requests.iter().filter(|request| request.is_admitted_by(&narrow)) {
                prop_assert!(request.is_admitted_by(&wide), "{request}");
            }
        }
    }

    #[test]
    fn a_narrower_copy_is_seen_as_narrower(wide in some_match(), narrow in some_match()) {
        prop_assert!(subsumes(&wide, &wide));
        let mut both = wide.clone();
        both.headers.extend(narrow.headers.iter().cloned());
        both.query.extend(narrow.query.iter().cloned());
        prop_assert!(subsumes(&wide, &both));
        prop_assert!(subsumes(&Match::default(), &narrow));
    }

    #[test]
    fn a_witness_is_admitted_by_what_it_was_made_for(condition in some_match()) {
        let scene = Scene {
            listener: condition.listeners.first(),
            mode: Mode::Http,
            hello: false,
            offered: &[],
            home: SocketAddr::from(([0, 0, 0, 0], 80)),
        };
        if let Some(witness) = Witness::new(&[&condition], "a.example".to_owned(), scene) {
            prop_assert!(witness.is_admitted_by(&condition), "{witness}");
        }
    }
}
