//! `explain --egress` and the live forward proxy decide alike: random rules, random clients, the same rule,
//! the same refusal, the same answer from outside or none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::SocketAddr,
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;
use sluice_config::Snapshot;
use sluice_gateway::explain::{AskedEgress, EgressAnswer, EgressReport, Refusal, explain_egress};
use sluice_tests::{
    Client, Origin,
    gateway::snapshot,
    origin::{Peer, ok},
    outside::{Outside, proxy},
    tls::Pki,
};
use tokio::{net::TcpSocket, task::JoinSet};

/// Configurations.
const CASES: usize = 60;

/// Clients of each, all at once.
const CLIENTS: usize = 25;

/// How often each way to end is taken at least.
const OFTEN: u32 = 5;

const NAMES: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "d.test"];
const HOSTS: &[&str] = &[
    "a.test",
    "b.a.test",
    "*.a.test",
    "*.test",
    "*",
    "127.0.0.1",
    "127.0.0.0/8",
];
const TARGETS: &[&str] = &[
    "a.test",
    "a.test",
    "A.test",
    "b.a.test",
    "b.a.test",
    "B.a.test",
    "c.b.a.test",
    "d.test",
    "d.test",
    "127.0.0.1",
    "127.0.0.1",
    "localhost",
];
const UNREADABLE: &[&str] = &["0x7f.0.0.1", "a.test."];
const PATHS: &[&str] = &["/", "/a", "/a/b", "/a/../b", "//a", "/%61"];
const PROTOCOLS: &[&str] = &[
    r#"protocols = "http""#,
    r#"protocols = ["http", "tls"]"#,
    r#"protocols = "tls""#,
    r#"protocols = "tls""#,
    "protocols = \"tls\"\nwithout_sni = true",
    r#"protocols = ["tls", "tcp"]"#,
    r#"protocols = ["http", "tcp"]"#,
    r#"protocols = "tcp""#,
    r#"methods = "GET""#,
    r#"methods = ["PUT", "DELETE"]"#,
    r#"paths = "/a""#,
    r#"paths = [{ prefix = "/a" }, { regex = "/[b-z]*" }]"#,
    "",
];
const SOURCES: &[&str] = &["127.0.0.1", "127.0.0.2", "10.0.0.0/8"];

/// Names in handshakes; an empty one is for a handshake that names nobody.
const SAID: &[&str] = &["a.test", "b.a.test", "d.test", "other.test", ""];

fn one<T: Copy>(of: &[T], chance: &mut StdRng) -> T {
    *of.choose(chance).expect("there is one")
}

/// Rules for these two ports.
fn egress(ports: [u16; 2], chance: &mut StdRng) -> String {
    let mut text = String::from("[egress]\n");
    if chance.random_bool(0.25) {
        text.push_str("default = \"allow\"\n");
    }
    if chance.random_bool(0.25) {
        text.push_str("mode = \"shadow\"\n");
    }
    // What passes by no rule reaches what is listed here.
    if chance.random_bool(0.65) {
        text.push_str("addresses = \"127.0.0.0/8\"\n");
    }
    if chance.random_bool(0.7) {
        writeln!(text, "connect_ports = {ports:?}").expect("a text");
    }
    for number in 0..chance.random_range(1..5) {
        let hosts = [0; 2].map(|_| one(HOSTS, chance));
        let hosts: Vec<_> = BTreeSet::from(hosts).into_iter().collect();
        writeln!(text, "[egress.allow.r{number}]\nhosts = {hosts:?}").expect("a text");
        let [first, second] = ports;
        match chance.random_range(0..10) {
            0..7 => writeln!(text, "ports = [{first}, {second}]").expect("a text"),
            7..9 => writeln!(text, "ports = {first}").expect("a text"),
            _ => {}
        }
        let protocols = one(PROTOCOLS, chance);
        writeln!(text, "{protocols}").expect("a text");
        if chance.random_bool(0.25) {
            let source = one(SOURCES, chance);
            writeln!(text, "from = {{ sources = {source:?} }}").expect("a text");
        }
        // Often another rule is about what is inside of a tunnel than the one that let it open.
        let lists = if protocols.contains("tcp") { 0.5 } else { 0.95 };
        if chance.random_bool(lists) {
            text.push_str("addresses = \"127.0.0.0/8\"\n");
        }
    }
    text
}

/// Somebody who wants to go out.
#[derive(Debug)]
struct Visitor {
    source: [u8; 4],
    target: &'static str,
    port: u16,
    wish: Wish,
}

#[derive(Debug)]
enum Wish {
    Request {
        method: &'static str,
        path: &'static str,
    },
    /// A tunnel, for TLS with this name or for what is no TLS.
    Tunnel(Option<&'static str>),
}

/// What came of it.
struct Seen {
    status: u16,
    /// Whether what was said in a tunnel was answered from outside.
    inside: Option<bool>,
    /// Where it came from: its line in the log has the same.
    own: SocketAddr,
}

impl Visitor {
    fn any(ports: [u16; 2], chance: &mut StdRng) -> Self {
        let is_readable = chance.random_bool(0.95);
        let target = one(if is_readable { TARGETS } else { UNREADABLE }, chance);
        let wish = match chance.random_range(0..10) {
            0..5 => Wish::Request {
                method: one(&["GET", "GET", "POST"], chance),
                path: one(PATHS, chance),
            },
            5..7 => Wish::Tunnel(None),
            7..9 => {
                let own = SAID.iter().find(|name| name.eq_ignore_ascii_case(target));
                Wish::Tunnel(own.copied().or(Some("")))
            }
            _ => Wish::Tunnel(Some(one(SAID, chance))),
        };
        Self {
            source: one(&[[127, 0, 0, 1], [127, 0, 0, 2]], chance),
            target,
            port: one(&ports, chance),
            wish,
        }
    }

    fn method(&self) -> &'static str {
        match self.wish {
            Wish::Request { method, .. } => method,
            Wish::Tunnel(_) => "CONNECT",
        }
    }

    fn asks(&self) -> String {
        let Self { target, port, .. } = self;
        match self.wish {
            Wish::Request { path, .. } => format!("http://{target}:{port}{path}"),
            Wish::Tunnel(_) => format!("{target}:{port}"),
        }
    }

    /// What `explain` says, of this name in a handshake or of all that could be said in a tunnel.
    fn explained(&self, snapshot: &Snapshot, sni: Option<&str>) -> EgressReport {
        let asked = AskedEgress {
            method: self.method().to_owned(),
            target: self.asks(),
            client: Some(self.source.into()),
            user: None,
            identity: None,
            sni: sni.map(str::to_owned),
            listener: None,
        };
        explain_egress(snapshot, &asked).expect("explained")
    }

    async fn goes(&self, proxy: SocketAddr, hellos: &BTreeMap<&str, Vec<u8>>) -> Seen {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((self.source, 0).into()).expect("bound");
        let stream = socket.connect(proxy).await.expect("the proxy accepts");
        let own = stream.local_addr().expect("an address");
        let mut client = Client::over(stream);
        let host = format!("{}:{}", self.target, self.port);
        let length = match self.wish {
            Wish::Request { method: "POST", .. } => "content-length: 0\r\n",
            _ => "",
        };
        let (method, asks) = (self.method(), self.asks());
        let head = format!("{method} {asks} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n");
        client.send(head).await;
        let Wish::Tunnel(says) = self.wish else {
            let reply = client.reply().await;
            let (status, inside) = (reply.status, None);
            return Seen {
                status,
                inside,
                own,
            };
        };
        // What follows the head of an answer to CONNECT is the tunnel.
        let reply = client.try_reply("HEAD").await;
        let status = reply.unwrap_or_else(|no| panic!("{self:?}: {no:?}")).status;
        let mut inside = None;
        if status == 200 {
            match says {
                None => client.send("GET / HTTP/1.1\r\nhost: inside\r\n\r\n").await,
                Some(name) => client.send(&hellos[name]).await,
            }
            let answer = client.try_reply("GET").await;
            inside = Some(answer.is_ok_and(|reply| reply.text() == "outside"));
        }
        Seen {
            status,
            inside,
            own,
        }
    }
}

/// Answers requests, and handshakes as if they were some: it is enough to know that they have arrived.
async fn outside(mut peer: Peer) {
    let mut said = Vec::new();
    loop {
        while said.first() != Some(&22) && !said.ends_with(b"\r\n\r\n") {
            let more = peer.take(1).await;
            if more.is_empty() {
                return;
            }
            said.extend(more);
        }
        peer.send(ok("outside")).await;
        said.clear();
    }
}

/// Whether the one address that every name stands for may be connected to: it is in each list on loopback.
fn reaches(addresses: &[impl ToString]) -> bool {
    let mut addresses = addresses.iter().map(ToString::to_string);
    addresses.any(|network| network.starts_with("127."))
}

/// The word of the log for a refusal.
fn missing(refusal: &Refusal) -> &str {
    match refusal.reason {
        "egress_address" => "address",
        "egress_target" => "target",
        _ => {
            let (_, rest) = refusal.why.rsplit_once('(').expect("a reason");
            rest.trim_end_matches(')')
        }
    }
}

/// What is to come of an attempt, as far as it is decided in one go.
struct Said {
    rule: Option<String>,
    /// What is missing, if anything is.
    why: Option<String>,
    /// It passes nevertheless.
    shadow: bool,
}

impl Said {
    fn by(report: &EgressReport) -> Self {
        let (why, shadow) = match &report.answer {
            EgressAnswer::Refuse(refusal) => (Some(missing(refusal)), false),
            EgressAnswer::Pass { addresses, .. } if !reaches(addresses) => (Some("address"), false),
            EgressAnswer::Pass { shadow, .. } => (shadow.as_ref().map(missing), shadow.is_some()),
        };
        Self {
            rule: report.rule.as_ref().map(ToString::to_string),
            why: why.map(str::to_owned),
            shadow,
        }
    }

    /// Of what is no TLS, where nobody has said what a tunnel is for.
    fn of_anything(report: &EgressReport) -> Self {
        let inside = report.inside.iter().find(|it| it.what == "anything else");
        let inside = inside.expect("what is no TLS");
        let reaches = reaches(&inside.addresses);
        let passes = inside.refused.is_none() || inside.shadow;
        let why = if passes && !reaches {
            Some("address")
        } else {
            inside.refused
        };
        Self {
            rule: inside.rule.as_ref().map(ToString::to_string),
            why: why.map(str::to_owned),
            shadow: inside.shadow && reaches,
        }
    }

    fn passes(&self) -> bool {
        self.why.is_none() || self.shadow
    }

    fn is(&self, line: &Value) -> bool {
        line["egress"].as_str() == self.rule.as_deref()
            && line["egress_reason"].as_str() == self.why.as_deref()
            && (line["shadow"] == true) == self.shadow
    }
}

/// Holds what was seen against what was said; gives a word for what it was.
fn agree(visitor: &Visitor, snapshot: &Snapshot, seen: &Seen, line: &Value) -> String {
    let report = visitor.explained(snapshot, None);
    let context = || format!("{visitor:?}\n{report}\n{line}");
    let said = Said::by(&report);
    if !said.passes() {
        let why = said.why.as_deref().unwrap_or_default();
        let (status, verdict) = match why {
            "target" => (400, "egress_target"),
            "address" => (403, "egress_address"),
            _ => (403, "egress_refused"),
        };
        assert_eq!(seen.status, status, "{}", context());
        assert_eq!(line["verdict"], verdict, "{}", context());
        assert!(said.is(line), "{}", context());
        return format!("refused: {why}");
    }
    assert_eq!(seen.status, 200, "{}", context());
    let Wish::Tunnel(says) = visitor.wish else {
        assert!(said.is(line), "{}", context());
        return if said.shadow {
            "a request in the shadow".to_owned()
        } else {
            "a request".to_owned()
        };
    };
    let (said, what) = match says {
        None => (Said::of_anything(&report), "what is no TLS"),
        Some(name) => {
            let report = visitor.explained(snapshot, Some(name));
            (Said::by(&report), "TLS")
        }
    };
    assert_eq!(seen.inside, Some(said.passes()), "{}", context());
    assert!(
        said.is(line),
        "{:?} {:?} {}",
        said.rule,
        said.why,
        context()
    );
    match (said.why, said.shadow) {
        (None, _) => format!("{what} inside"),
        (Some(_), true) => format!("{what} inside in the shadow"),
        (Some(why), false) => format!("{what} refused inside: {why}"),
    }
}

/// The ways that have to be taken.
const WAYS: &[&str] = &[
    "a request",
    "a request in the shadow",
    "refused: target",
    "refused: host",
    "refused: port",
    "refused: protocol",
    "refused: method",
    "refused: path",
    "refused: source",
    "refused: address",
    "TLS inside",
    "TLS inside in the shadow",
    "TLS refused inside: sni_mismatch",
    "TLS refused inside: sni_absent",
    "TLS refused inside: address",
    "what is no TLS inside",
    "what is no TLS inside in the shadow",
    "what is no TLS refused inside: protocol",
    "what is no TLS refused inside: address",
];

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_the_live_gateway_decide_alike_about_egress() {
    let origins = [Origin::start(outside).await, Origin::start(outside).await];
    let ports = origins.each_ref().map(|it| it.address().port());
    let pki = Pki::new();
    let hellos = SAID.iter().map(|name| match *name {
        "" => ("", pki.client().nameless().first_message("a.test")),
        name => (name, pki.client().first_message(name)),
    });
    let hellos: Arc<BTreeMap<&str, Vec<u8>>> = Arc::new(hellos.collect());
    let mut chance = StdRng::seed_from_u64(11);
    let outside = Outside::start(NAMES, "", "").await;
    let address = outside.gateway.address();
    let folder = tempfile::tempdir().expect("a folder");
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    for case in 1..=CASES {
        let rules = egress(ports, &mut chance);
        let text = proxy("", &format!("{rules}\n{}", outside.names.config()));
        outside.gateway.reload(&text).await;
        let snapshot = snapshot(&text, folder.path());
        let mut visits = JoinSet::new();
        for _ in 0..CLIENTS {
            let (visitor, hellos) = (Visitor::any(ports, &mut chance), Arc::clone(&hellos));
            visits.spawn(async move { (visitor.goes(address, &hellos).await, visitor) });
        }
        let seen = visits.join_all().await;
        let lines = outside.gateway.log().wait(case * CLIENTS).await;
        let lines: BTreeMap<&str, &Value> = lines[(case - 1) * CLIENTS..]
            .iter()
            .map(|line| (line["peer"].as_str().expect("a peer"), line))
            .collect();
        for (seen, visitor) in &seen {
            let line = lines[&*seen.own.to_string()];
            let way = agree(visitor, &snapshot, seen, line);
            *tally.entry(way).or_default() += 1;
        }
    }
    for way in WAYS {
        let count = tally.get(*way).copied().unwrap_or_default();
        assert!(count >= OFTEN, "{way}: {count} times of {tally:#?}");
    }
}
