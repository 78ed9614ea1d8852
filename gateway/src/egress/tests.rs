//! What is decided.

use std::time::Duration;

use proptest::prelude::*;
use sluice_config::{
    model::{
        EgressDefault, EgressFrom, EgressHost, EgressMode, EgressProtocols, EgressRule,
        HostPattern, IdentityPattern, Method, PathMatch, Rate,
    },
    names::UpstreamName,
};

use super::*;

mod kept;

const TCP: EgressProtocols = EgressProtocols {
    http: false,
    tls: false,
    tcp: true,
};
const TLS: EgressProtocols = EgressProtocols {
    http: false,
    tls: true,
    tcp: false,
};
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7));

fn host(text: &str) -> EgressHost {
    if let Ok(network) = text.parse() {
        return EgressHost::Network(network);
    }
    EgressHost::Name(match text.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact(text.to_owned()),
    })
}

fn name(text: &str) -> EgressName {
    EgressName::new(text).expect("a name")
}

fn rule(own: &str, hosts: &[&str]) -> EgressRule {
    EgressRule::new(name(own), hosts.iter().map(|text| host(text)).collect())
}

/// `[egress]` with these rules; denies everything else.
fn model(mut allow: Vec<EgressRule>) -> model::Egress {
    allow.sort_by(|a, b| a.name.cmp(&b.name));
    model::Egress {
        allow,
        ..model::Egress::default()
    }
}

fn table(allow: Vec<EgressRule>) -> Table {
    Table::compile(Some(&Arc::new(model(allow))))
}

fn asker() -> Asker<'static> {
    Asker {
        source: SOURCE,
        user: None,
        identity: None,
    }
}

const GET: Kind<'static> = Kind::Http {
    method: "GET",
    path: "/v1/charges",
};

fn tls(name: &str) -> Kind<'_> {
    Kind::Tls {
        name: Sni::Name(name),
    }
}

/// The rule, and why not.
type Told = (Option<String>, Option<Why>);

fn told(decision: &Decision) -> Told {
    let rule = decision.rule.as_ref().map(ToString::to_string);
    (rule, decision.why())
}

fn by(rule: &str) -> Told {
    (Some(rule.to_owned()), None)
}

fn not(rule: &str, why: Why) -> Told {
    (Some(rule.to_owned()), Some(why))
}

/// What becomes of `kind` at `HOST:PORT`.
fn asked(table: &Table, at: &str, kind: Kind<'_>) -> Decision {
    asked_by(table, &asker(), at, kind)
}

fn asked_by(table: &Table, asker: &Asker<'_>, at: &str, kind: Kind<'_>) -> Decision {
    let (target, port) = Target::parse(at, None).expect(at);
    let target = &target;
    table.decide(asker, &Ask { target, port, kind })
}

fn decided(table: &Table, at: &str, kind: Kind<'_>) -> Told {
    told(&asked(table, at, kind))
}

fn inside(table: &Table, at: &str, kind: Kind<'_>) -> Told {
    let (target, port) = Target::parse(at, None).expect(at);
    let ask = |kind| Ask {
        target: &target,
        port,
        kind,
    };
    let outer = table.decide(&asker(), &ask(Kind::Tunnel));
    told(&table.inside(&outer, &asker(), &ask(kind)))
}

#[test]
fn without_egress_everything_public_may_be_reached_and_tunnels_go_to_443() {
    let table = Table::compile(None);
    for (at, kind, why) in [
        ("a.example:80", GET, None),
        ("a.example:8080", GET, None),
        ("a.example:443", Kind::Tunnel, None),
        ("a.example:22", Kind::Tunnel, Some(Why::Port)),
        ("a.example:8443", tls("a.example"), None),
        ("a.example:25", Kind::Tcp, None),
        ("93.184.216.34:443", Kind::Tunnel, None),
        ("10.0.0.1:80", GET, Some(Why::Address)),
        ("169.254.169.254:80", GET, Some(Why::Address)),
        ("[::1]:443", Kind::Tunnel, Some(Why::Address)),
        ("localhost:443", Kind::Tunnel, Some(Why::Address)),
        ("a.localhost:80", GET, Some(Why::Address)),
    ] {
        let decision = asked(&table, at, kind);
        assert_eq!(told(&decision), (None, why), "{at}");
        assert!(!decision.shadow);
    }
    assert_eq!(
        inside(&table, "a.example:443", tls("b.example")),
        (None, None)
    );
}

#[test]
fn an_empty_egress_allows_nothing() {
    let table = table(Vec::new());
    for (at, kind) in [
        ("a.example:80", GET),
        ("a.example:443", Kind::Tunnel),
        ("a.example:443", tls("a.example")),
        ("93.184.216.34:22", Kind::Tcp),
    ] {
        assert_eq!(decided(&table, at, kind), (None, Some(Why::Host)), "{at}");
    }
}

#[test]
fn the_most_specific_host_is_asked_first_and_names_decide_between_equals() {
    let table = table(vec![
        rule("any", &["*"]),
        rule("b-exact", &["api.example"]),
        rule("a-exact", &["api.example", "two.example"]),
        rule("wide", &["*.example"]),
        rule("long", &["*.eu.example"]),
        rule("net", &["93.184.0.0/16"]),
        rule("one", &["93.184.216.34/32"]),
        rule("six", &["2606:4700::/32"]),
    ]);
    for (at, expected) in [
        ("api.example:443", by("a-exact")),
        ("API.Example:443", by("a-exact")),
        ("two.example:443", by("a-exact")),
        ("x.example:443", by("wide")),
        ("x.y.example:443", by("wide")),
        ("x.eu.example:443", by("long")),
        ("x.y.eu.example:443", by("long")),
        ("eu.example:443", by("wide")),
        ("example:443", by("any")),
        ("other.test:443", by("any")),
        ("93.184.216.34:443", by("one")),
        ("93.184.216.35:443", by("net")),
        ("[2606:4700::1111]:443", by("six")),
        ("93.185.0.1:443", (None, Some(Why::Host))),
    ] {
        assert_eq!(decided(&table, at, Kind::Tunnel), expected, "{at}");
    }
}

#[test]
fn the_next_rule_is_tried_when_a_condition_does_not_hold() {
    let mut exact = rule("exact", &["api.example"]);
    exact.ports = Some(vec![8443..=8443]);
    let mut wild = rule("wild", &["*.example"]);
    wild.from.sources = vec!["10.2.0.0/16".parse().unwrap()];
    let table = table(vec![exact, wild, rule("all", &["*"])]);
    assert_eq!(
        decided(&table, "api.example:8443", Kind::Tunnel),
        by("exact")
    );
    assert_eq!(decided(&table, "api.example:443", Kind::Tunnel), by("all"));
    let other = Asker {
        source: "10.2.0.1".parse().unwrap(),
        ..asker()
    };
    let decision = asked_by(&table, &other, "api.example:443", Kind::Tunnel);
    assert_eq!(told(&decision), by("wild"));
}

#[test]
fn the_rule_that_came_furthest_says_why_not() {
    let mut port = rule("a-port", &["api.example"]);
    port.ports = Some(vec![8443..=8443]);
    let mut user = rule("b-user", &["*.example"]);
    user.from.users = vec!["alice".to_owned()];
    let mut source = rule("c-source", &["*"]);
    source.from.sources = vec!["10.2.0.0/16".parse().unwrap()];
    let table = table(vec![port, user, source]);
    let expected = not("b-user", Why::User);
    assert_eq!(decided(&table, "api.example:443", Kind::Tunnel), expected);
    let expected = not("c-source", Why::Port);
    assert_eq!(decided(&table, "other.test:22", Kind::Tunnel), expected);
}

#[test]
fn every_condition_on_who_asks_must_hold_and_any_of_its_kind_will_do() {
    let mut who = rule("who", &["api.example"]);
    who.from = EgressFrom {
        identities: vec![
            IdentityPattern::Exact("spiffe://shop/web".to_owned()),
            IdentityPattern::Below("spiffe://shop/jobs/".to_owned()),
        ],
        users: vec!["alice".to_owned(), "bob".to_owned()],
        sources: vec!["10.1.0.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()],
    };
    let table = table(vec![who]);
    let web = Some("spiffe://shop/web");
    for (source, user, identity, why) in [
        ("10.1.0.7", Some("alice"), web, None),
        ("::ffff:10.1.0.7", Some("bob"), web, None),
        ("fd12::1", Some("bob"), Some("spiffe://shop/jobs/a/b"), None),
        ("10.1.1.7", Some("alice"), web, Some(Why::Source)),
        ("10.1.0.7", Some("carol"), web, Some(Why::User)),
        ("10.1.0.7", Some("Alice"), web, Some(Why::User)),
        ("10.1.0.7", None, web, Some(Why::User)),
        ("10.1.0.7", Some("bob"), None, Some(Why::Identity)),
        (
            "10.1.0.7",
            Some("bob"),
            Some("spiffe://shop/webs"),
            Some(Why::Identity),
        ),
        (
            "10.1.0.7",
            Some("bob"),
            Some("spiffe://shop/jobs"),
            Some(Why::Identity),
        ),
    ] {
        let asker = Asker {
            source: source.parse().unwrap(),
            user,
            identity,
        };
        let decision = asked_by(&table, &asker, "api.example:443", Kind::Tunnel);
        assert_eq!(decision.why(), why, "{source} {user:?} {identity:?}");
    }
}

#[test]
fn ports_are_those_of_the_rule_or_those_of_what_is_spoken() {
    let mut listed = rule("listed", &["listed.example"]);
    listed.ports = Some(vec![8000..=8100, 9000..=9000]);
    listed.protocols.tcp = true;
    let mut table = model(vec![listed, rule("plain", &["plain.example"])]);
    table.connect_ports = vec![443..=443, 8443..=8444];
    let table = Table::compile(Some(&Arc::new(table)));
    for (at, kind, fine) in [
        ("listed.example:8000", Kind::Tunnel, true),
        ("listed.example:8100", Kind::Tcp, true),
        ("listed.example:9000", GET, true),
        ("listed.example:8101", GET, false),
        ("listed.example:443", Kind::Tunnel, false),
        ("plain.example:80", GET, true),
        ("plain.example:443", GET, true),
        ("plain.example:8080", GET, false),
        ("plain.example:443", Kind::Tunnel, true),
        ("plain.example:8444", Kind::Tunnel, true),
        ("plain.example:80", Kind::Tunnel, false),
        ("plain.example:443", tls("plain.example"), true),
        ("plain.example:8444", tls("plain.example"), false),
    ] {
        let why = (!fine).then_some(Why::Port);
        assert_eq!(decided(&table, at, kind).1, why, "{at} {kind:?}");
    }
    // Its port was decided about with the tunnel.
    let at = "plain.example:8444";
    assert_eq!(inside(&table, at, tls("plain.example")), by("plain"));
}

#[test]
fn a_rule_is_for_what_it_says_is_spoken() {
    let with = |own: &str, protocols| EgressRule {
        protocols,
        ports: Some(vec![1..=65535]),
        ..rule(own, &[&format!("{own}.example")])
    };
    let table = table(vec![
        with("http", EgressProtocols::HTTP),
        with("tls", TLS),
        with("tcp", TCP),
    ]);
    for (own, kind, fine) in [
        ("http", GET, true),
        ("http", Kind::Tunnel, false),
        ("http", tls("http.example"), false),
        ("http", Kind::Tcp, false),
        ("tls", GET, false),
        ("tls", Kind::Tunnel, true),
        ("tls", tls("tls.example"), true),
        ("tls", Kind::Tcp, false),
        ("tcp", GET, false),
        ("tcp", Kind::Tunnel, true),
        ("tcp", tls("tcp.example"), true),
        ("tcp", tls("whatever.test"), true),
        ("tcp", Kind::Tls { name: Sni::Absent }, true),
        (
            "tcp",
            Kind::Tls {
                name: Sni::Encrypted,
            },
            true,
        ),
        ("tcp", Kind::Tcp, true),
    ] {
        let why = (!fine).then_some(Why::Protocol);
        let at = format!("{own}.example:443");
        assert_eq!(decided(&table, &at, kind).1, why, "{own} {kind:?}");
    }
}

#[test]
fn methods_and_paths_are_for_requests_that_are_seen_and_allow_no_tunnel() {
    let mut seen = rule("seen", &["api.example"]);
    seen.methods = vec![Method::new("GET").unwrap(), Method::new("HEAD").unwrap()];
    seen.paths = vec![
        PathMatch::Prefix("/v1".to_owned()),
        PathMatch::Exact("/health".to_owned()),
    ];
    let table = table(vec![seen]);
    for (method, path, why) in [
        ("GET", "/v1", None),
        ("HEAD", "/v1/x", None),
        ("GET", "/health", None),
        ("POST", "/v1", Some(Why::Method)),
        ("get", "/v1", Some(Why::Method)),
        ("GET", "/v10", Some(Why::Path)),
        ("GET", "/health/x", Some(Why::Path)),
    ] {
        let told = decided(&table, "api.example:80", Kind::Http { method, path });
        assert_eq!(told.1, why, "{method} {path}");
    }
    for kind in [Kind::Tunnel, tls("api.example"), Kind::Tcp] {
        let expected = not("seen", Why::Protocol);
        assert_eq!(decided(&table, "api.example:443", kind), expected);
    }
}

#[test]
fn the_name_in_the_handshake_is_the_target() {
    let mut quiet = rule("quiet", &["quiet.example"]);
    quiet.without_sni = true;
    let mut hidden = rule("hidden", &["hidden.example"]);
    hidden.encrypted_client_hello = true;
    let table = table(vec![
        rule("plain", &["plain.example", "93.184.216.34/32"]),
        quiet,
        hidden,
    ]);
    let absent = Kind::Tls { name: Sni::Absent };
    let encrypted = Kind::Tls {
        name: Sni::Encrypted,
    };
    for (at, kind, why) in [
        ("plain.example:443", tls("plain.example"), None),
        ("plain.example:443", tls("PLAIN.example"), None),
        (
            "plain.example:443",
            tls("evil.test"),
            Some(Why::SniMismatch),
        ),
        (
            "plain.example:443",
            tls("a.plain.example"),
            Some(Why::SniMismatch),
        ),
        (
            "plain.example:443",
            tls("quiet.example"),
            Some(Why::SniMismatch),
        ),
        ("plain.example:443", absent, Some(Why::SniAbsent)),
        ("plain.example:443", encrypted, Some(Why::SniEncrypted)),
        ("quiet.example:443", absent, None),
        ("quiet.example:443", encrypted, Some(Why::SniEncrypted)),
        (
            "quiet.example:443",
            tls("evil.test"),
            Some(Why::SniMismatch),
        ),
        ("hidden.example:443", encrypted, None),
        ("hidden.example:443", absent, Some(Why::SniAbsent)),
        ("93.184.216.34:443", absent, Some(Why::SniAbsent)),
        (
            "93.184.216.34:443",
            tls("plain.example"),
            Some(Why::SniMismatch),
        ),
    ] {
        assert_eq!(inside(&table, at, kind).1, why, "{at} {kind:?}");
        assert_eq!(decided(&table, at, kind).1, why, "{at} {kind:?}");
    }
}

#[test]
fn what_comes_out_of_a_tunnel_may_be_for_another_rule() {
    let mut raw = rule("raw", &["db.example"]);
    raw.protocols = TCP;
    raw.ports = Some(vec![443..=443]);
    let mut sealed = rule("a-sealed", &["db.example"]);
    sealed.protocols = TLS;
    let egress = running(model(vec![raw, sealed]), None);
    let (target, port) = Target::parse("db.example:443", None).unwrap();
    let ask = |kind| Ask {
        target: &target,
        port,
        kind,
    };
    let now = Instant::now();
    let outer = egress.attempt(&asker(), &ask(Kind::Tunnel), now);
    assert_eq!(told(&outer), by("a-sealed"));
    let sealed = egress.inside(&outer, &asker(), &ask(tls("db.example")), now);
    assert_eq!(told(&sealed), by("a-sealed"));
    let raw = egress.inside(&outer, &asker(), &ask(Kind::Tcp), now);
    assert_eq!(told(&raw), by("raw"));
    // A rule that takes anything takes a handshake for somebody else as well.
    let other = egress.inside(&outer, &asker(), &ask(tls("evil.test")), now);
    assert_eq!(told(&other), by("raw"));
}

#[test]
fn addresses_that_are_not_public_are_refused_unless_the_rule_lists_them() {
    let mut inner = rule("inner", &["inner.example", "10.0.0.0/8", "localhost"]);
    inner.addresses = vec!["10.0.0.0/24".parse().unwrap()];
    let mut own = rule("own", &["db.localhost"]);
    own.addresses = vec!["127.0.0.0/8".parse().unwrap()];
    let egress = running(
        model(vec![inner, own, rule("other", &["other.example"])]),
        None,
    );
    let table = egress.table();
    for (at, expected) in [
        ("10.0.0.7:443", by("inner")),
        ("10.0.1.7:443", not("inner", Why::Address)),
        ("localhost:443", not("inner", Why::Address)),
        ("db.localhost:443", by("own")),
        ("127.0.0.1:443", (None, Some(Why::Host))),
    ] {
        assert_eq!(decided(table, at, Kind::Tunnel), expected, "{at}");
    }
    let answers: Vec<IpAddr> = [
        "10.0.0.7",
        "10.0.1.7",
        "127.0.0.1",
        "1.1.1.1",
        "::ffff:10.0.0.8",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    let dialable = |at: &str| {
        let decision = asked(table, at, Kind::Tunnel);
        let all = egress.dialable(&decision, answers.clone());
        all.map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        dialable("inner.example:443"),
        ["10.0.0.7", "1.1.1.1", "::ffff:10.0.0.8"]
    );
    assert_eq!(dialable("other.example:443"), ["1.1.1.1"]);
}

#[test]
fn by_default_allowed_is_what_no_rule_is_for_and_rules_still_say_how() {
    let mut listed = rule("listed", &["db.example"]);
    listed.ports = Some(vec![5432..=5432]);
    listed.protocols = TCP;
    let mut model = model(vec![listed]);
    model.default = EgressDefault::Allow;
    model.addresses = vec!["10.9.0.0/16".parse().unwrap()];
    let egress = running(model, None);
    for (at, kind, expected) in [
        ("db.example:5432", Kind::Tunnel, by("listed")),
        ("db.example:443", Kind::Tunnel, (None, None)),
        ("db.example:5433", Kind::Tunnel, (None, Some(Why::Port))),
        ("a.example:443", Kind::Tunnel, (None, None)),
        ("a.example:22", Kind::Tunnel, (None, Some(Why::Port))),
        ("a.example:22", Kind::Tcp, (None, None)),
        ("10.9.0.1:80", GET, (None, None)),
        ("10.8.0.1:80", GET, (None, Some(Why::Address))),
    ] {
        assert_eq!(decided(egress.table(), at, kind), expected, "{at}");
    }
    let decision = asked(egress.table(), "a.example:443", Kind::Tunnel);
    let answers = ["10.9.1.1", "10.8.1.1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(egress.dialable(&decision, answers).count(), 1);
}

#[test]
fn in_the_shadow_everything_passes_but_addresses_that_are_not_public() {
    let mut listed = rule("listed", &["db.example", "10.0.0.0/8"]);
    listed.ports = Some(vec![5432..=5432]);
    listed.protocols = TCP;
    let mut model = model(vec![listed]);
    model.mode = EgressMode::Shadow;
    let table = Table::compile(Some(&Arc::new(model)));
    for (at, kind, why, passes) in [
        ("db.example:5432", Kind::Tunnel, None, true),
        ("db.example:443", Kind::Tunnel, Some(Why::Port), true),
        ("other.example:22", Kind::Tunnel, Some(Why::Host), true),
        ("other.example:443", tls("evil.test"), Some(Why::Host), true),
        ("10.0.0.1:443", Kind::Tunnel, Some(Why::Address), false),
        ("127.0.0.1:80", GET, Some(Why::Address), false),
        ("localhost:80", GET, Some(Why::Address), false),
    ] {
        let decision = asked(&table, at, kind);
        assert_eq!(decision.why(), why, "{at}");
        assert_eq!(decision.passes(), passes, "{at}");
        assert_eq!(decision.shadow, passes && why.is_some(), "{at}");
    }
    let mut decision = asked(&table, "other.example:443", Kind::Tunnel);
    decision.refuse_addresses();
    assert!(!decision.passes());
    assert_eq!(decision.why(), Some(Why::Address));
}

#[test]
fn in_the_shadow_nobody_is_led_by_a_rule_that_does_not_allow_it() {
    let own = || vec!["10.1.0.0/16".parse().unwrap()];
    let mut inner = rule("inner", &["inner.example", "10.0.0.0/8"]);
    inner.addresses = vec!["10.0.0.0/8".parse().unwrap()];
    inner.from.sources = own();
    let mut far = rule("far", &["far.example"]);
    far.via = Some(UpstreamName::new("parent").unwrap());
    far.from.sources = own();
    let mut sealed = rule("sealed", &["sealed.example"]);
    sealed.tls = Some(model::UpstreamTls::default());
    sealed.from.sources = own();
    let mut model = model(vec![inner, far, sealed]);
    model.mode = EgressMode::Shadow;
    model.addresses = vec!["10.9.0.0/16".parse().unwrap()];
    let egress = running(model, None);
    let stranger = Asker {
        source: "10.2.0.1".parse().unwrap(),
        ..asker()
    };
    let addresses = ["10.0.0.7", "10.9.0.7", "1.1.1.1"].map(|text| text.parse::<IpAddr>().unwrap());
    let table = egress.table();
    for (at, kind, own) in [
        (
            "inner.example:443",
            Kind::Tunnel,
            vec!["10.0.0.7", "10.9.0.7", "1.1.1.1"],
        ),
        ("far.example:443", Kind::Tunnel, vec!["1.1.1.1"]),
        ("sealed.example:80", GET, vec!["1.1.1.1"]),
    ] {
        for (asker, why, dialable) in [
            (asker(), None, own),
            (stranger, Some(Why::Source), vec!["10.9.0.7", "1.1.1.1"]),
        ] {
            let decision = asked_by(table, &asker, at, kind);
            assert_eq!((decision.why(), decision.passes()), (why, true), "{at}");
            assert_eq!(table.leader(&decision).is_some(), why.is_none(), "{at}");
            let all = egress.dialable(&decision, addresses);
            let all: Vec<_> = all.map(|address| address.to_string()).collect();
            assert_eq!(all, dialable, "{at}");
        }
    }
    // Who asks for an address is told at once.
    for (at, passes) in [("10.0.0.7:443", false), ("10.9.0.7:443", true)] {
        let decision = asked_by(table, &stranger, at, Kind::Tunnel);
        assert_eq!(decision.passes(), passes, "{at}");
    }
}

#[test]
fn in_the_shadow_a_tunnel_through_a_proxy_leads_only_what_its_rule_allows() {
    let mut far = rule("far", &["far.example"]);
    far.via = Some(UpstreamName::new("parent").unwrap());
    let mut model = model(vec![far, rule("near", &["near.example"])]);
    model.mode = EgressMode::Shadow;
    let table = Table::compile(Some(&Arc::new(model)));
    for (host, name, passes) in [
        ("far.example", "far.example", true),
        ("far.example", "evil.test", false),
        ("near.example", "evil.test", true),
    ] {
        let target = Target::host(host).unwrap();
        let ask = |kind| Ask {
            target: &target,
            port: 443,
            kind,
        };
        let outer = table.decide(&asker(), &ask(Kind::Tunnel));
        let inner = table.inside(&outer, &asker(), &ask(tls(name)));
        assert_eq!(inner.passes(), passes, "{name} in {host}");
        let why = (host != name).then_some(Why::SniMismatch);
        assert_eq!(inner.why(), why, "{name} in {host}");
    }
}

#[test]
fn plain_requests_that_go_out_inside_tls_go_to_its_port() {
    let mut sealed = rule("sealed", &["api.example"]);
    sealed.tls = Some(model::UpstreamTls::default());
    sealed.ports = Some(vec![443..=443, 8443..=8443]);
    let table = table(vec![sealed]);
    assert_eq!(decided(&table, "api.example:80", GET), by("sealed"));
    assert_eq!(decided(&table, "api.example:8443", GET), by("sealed"));
    let expected = not("sealed", Why::Port);
    assert_eq!(decided(&table, "api.example:8080", GET), expected);
    let target = Target::host("api.example").unwrap();
    let ask = |port, kind| Ask {
        target: &target,
        port,
        kind,
    };
    let sealed = table.rule(&name("sealed")).unwrap();
    assert_eq!(dialled_port(sealed, &ask(80, GET)), 443);
    assert_eq!(dialled_port(sealed, &ask(8443, GET)), 8443);
    assert_eq!(dialled_port(sealed, &ask(80, Kind::Tunnel)), 80);
}

fn running(model: model::Egress, previous: Option<&Arc<Egress>>) -> Arc<Egress> {
    Egress::compile(Some(&Arc::new(model)), previous)
}

proptest! {
    /// Against a scan of all rules: sorted by how specific their host is, the first that holds.
    #[test]
    fn the_index_finds_what_a_scan_finds(
        rules in prop::collection::vec((0_usize..7, any::<bool>(), any::<bool>()), 0..12),
        at in 0_usize..6,
        from in any::<bool>(),
    ) {
        const HOSTS: [&str; 7] = ["a.x", "*.x", "*", "b.a.x", "*.a.x", "93.184.0.0/16", "93.184.216.34/32"];
        const ASKED: [&str; 6] = ["a.x", "b.a.x", "c.a.x", "y", "93.184.216.34", "93.184.1.1"];
        let rules: Vec<EgressRule> = rules
            .iter()
            .enumerate()
            .map(|(number, (host, port, source))| {
                let mut rule = rule(&format!("r{number:02}"), &[HOSTS[*host]]);
                rule.ports = port.then(|| vec![8443..=8443]);
                if *source {
                    rule.from.sources = vec!["10.1.0.0/16".parse().unwrap()];
                }
                rule
            })
            .collect();
        let asker = Asker {
            source: if from { SOURCE } else { "10.2.0.1".parse().unwrap() },
            ..asker()
        };
        // How specific a host is for what is asked for; none where it is not for that.
        let rank = |host: &EgressHost| match (host, ASKED[at]) {
            (EgressHost::Network(network), text) => {
                let address: IpAddr = text.parse().ok()?;
                network.contains(&address).then_some(usize::from(network.prefix_len()))
            }
            (EgressHost::Name(_), text) if text.parse::<IpAddr>().is_ok() => None,
            (EgressHost::Name(HostPattern::Exact(name)), text) => (name == text).then_some(1000),
            (EgressHost::Name(HostPattern::Wildcard(suffix)), text) => {
                text.ends_with(suffix.as_str()).then_some(suffix.len())
            }
            (EgressHost::Name(HostPattern::Any), _) => Some(0),
        };
        let mut plain: Vec<(usize, &EgressRule)> = rules
            .iter()
            .filter_map(|rule| Some((rank(&rule.hosts[0])?, rule)))
            .collect();
        plain.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let expected = plain
            .iter()
            .map(|(_, rule)| rule)
            .find(|rule| rule.ports.is_none() && (from || rule.from.sources.is_empty()))
            .map(|rule| rule.name.clone());
        let table = Table::compile(Some(&Arc::new(model(rules.clone()))));
        let decision = asked_by(&table, &asker, &format!("{}:443", ASKED[at]), Kind::Tunnel);
        prop_assert_eq!(decision.outcome == Outcome::Allowed, expected.is_some());
        if expected.is_some() {
            prop_assert_eq!(decision.rule, expected);
        }
    }
}
