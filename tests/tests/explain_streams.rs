//! `explain` and the live gateway decide alike about raw streams: random routes that end TLS, pass it
//! through or never see any, random clients, the same endpoint or the same refusal.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sluice_certs::testing::{Client as TlsClient, Server};
use sluice_config::model::Mode;
use sluice_gateway::explain::{AskedStream, Hello, StreamAnswer, StreamReport, explain_stream};
use sluice_tests::{
    Front, Gateway, Origin, PATIENCE, eventually::within, gateway::snapshot, tls::Pki,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpSocket,
    time::timeout,
};

/// Configurations.
const CASES: usize = 40;

/// Clients of each.
const CLIENTS: usize = 12;

/// Endpoints of each kind.
const ENDPOINTS: usize = 4;

const HOSTS: &[&str] = &["a.example", "b.a.example", "*.a.example", "*.example", "*"];
const NAMES: &[&str] = &[
    "a.example",
    "b.a.example",
    "c.b.a.example",
    "d.example",
    "e.test",
];
const PROTOCOLS: &[&[&str]] = &[&[], &["x"], &["h2"], &["h2", "x"], &["y"]];

const CONNECTED: &[&str] = &[
    r#"client = "127.0.0.2""#,
    r#"client = ["127.0.0.1", "::1"]"#,
    r#"destination = "127.0.0.0/8""#,
    r#"destination = "10.0.0.0/8""#,
    r#"destination_port = "1-65535""#,
    r#"destination_port = [1, "2-3"]"#,
    r#"listener = "LISTENER""#,
];

const GREETED: &[&str] = &[
    r#"alpn = "x""#,
    r#"alpn = ["h2", "y"]"#,
    r#"sni = "b.a.example""#,
    r#"sni = { starts_with = "a." }"#,
    r#"sni = { regex = "[a-z]+[.]example" }"#,
    "sni = { present = true }",
    "sni = { present = false }",
];

/// Endpoints that say who they are, and the same behind TLS.
struct Endpoints {
    plain: Vec<Origin>,
    hidden: Vec<(Origin, Front)>,
    /// What one says, by its address.
    banners: HashMap<String, String>,
}

impl Endpoints {
    async fn start(pki: &Pki) -> Self {
        let mut endpoints = Self {
            plain: Vec::new(),
            hidden: Vec::new(),
            banners: HashMap::new(),
        };
        let leaf = pki.authority.server(NAMES);
        for number in 0..ENDPOINTS {
            let plain = Self::saying(format!("plain{number}\n")).await;
            let banner = (plain.address().to_string(), format!("plain{number}"));
            endpoints.banners.extend([banner]);
            endpoints.plain.push(plain);

            let inner = Self::saying(format!("hidden{number}\n")).await;
            let server = Server::new(&leaf, &["x", "h2", "y"], None, false);
            let front = Front::before(inner.address(), server).await;
            let banner = (front.address().to_string(), format!("hidden{number}"));
            endpoints.banners.extend([banner]);
            endpoints.hidden.push((inner, front));
        }
        endpoints
    }

    async fn saying(banner: String) -> Origin {
        Origin::start(move |mut peer| {
            let banner = banner.clone();
            async move {
                peer.send(banner).await;
                peer.hold().await;
            }
        })
        .await
    }

    fn some(&self, mode: &str, chance: &mut StdRng) -> SocketAddr {
        let number = chance.random_range(0..ENDPOINTS);
        match mode {
            "passthrough" => self.hidden[number].1.address(),
            _ => self.plain[number].address(),
        }
    }
}

fn configuration(pki: &Pki, endpoints: &Endpoints, chance: &mut StdRng) -> String {
    let mut text = format!(
        "[listeners.raw]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [listeners.tls]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n\
         tls = {{ alpn = [\"x\", \"h2\"] }}\n\
         certificates = {{ names = [\"all\"], default = \"all\" }}\n\
         [certificates.all]\nfiles = {}\n",
        pki.files("all")
    );
    for route in 0..chance.random_range(1..=5) {
        let kinds = [("raw", "tcp"), ("tls", "tcp"), ("tls", "passthrough")];
        let (listener, mode) = *kinds.choose(chance).expect("one");
        let host = match listener {
            "tls" => HOSTS.choose(chance).expect("one"),
            _ => "*",
        };
        let priority = chance.random_range(0..=1);
        text.extend([format!(
            "[routes.r{route}]\nlisteners = \"{listener}\"\nmode = \"{mode}\"\nhosts = \"{host}\"\n\
             priority = {priority}\n"
        )]);
        let rules = chance.random_range(0..=3);
        if rules == 0 || chance.random_ratio(1, 2) {
            text.extend([format!("to = \"{}\"\n", endpoints.some(mode, chance))]);
        }
        for _ in 0..rules {
            let greeted = listener == "tls" && chance.random_ratio(1, 2);
            let conditions = if greeted { GREETED } else { CONNECTED };
            let condition = conditions.choose(chance).expect("one");
            let condition = condition.replace("LISTENER", listener);
            let to = endpoints.some(mode, chance);
            text.extend([format!(
                "[[routes.r{route}.rules]]\nmatch = {{ {condition} }}\nto = \"{to}\"\n"
            )]);
        }
    }
    text
}

/// A client.
#[derive(Debug)]
struct Visitor {
    listener: &'static str,
    address: [u8; 4],
    name: Option<&'static str>,
    alpn: &'static [&'static str],
}

impl Visitor {
    fn any(chance: &mut StdRng) -> Self {
        Self {
            listener: ["raw", "tls", "tls"].choose(chance).expect("one"),
            address: [127, 0, 0, chance.random_range(1..=2)],
            name: chance
                .random_ratio(4, 5)
                .then(|| *NAMES.choose(chance).expect("one")),
            alpn: PROTOCOLS.choose(chance).expect("one"),
        }
    }

    fn asked(&self, gateway: &Gateway) -> AskedStream {
        let hello = Hello {
            sni: self.name.map(str::to_owned),
            alpn: self.alpn.iter().map(|it| (*it).to_owned()).collect(),
        };
        AskedStream {
            datagram: false,
            to: Some(self.listener.to_owned()),
            hello: (self.listener == "tls").then_some(hello),
            client: Some(self.address.into()),
            destination: gateway.address_of(self.listener),
        }
    }

    /// What an endpoint says; none when the connection is closed without a word.
    async fn banner(&self, gateway: &Gateway, pki: &Pki) -> Option<String> {
        let to = gateway.address_of(self.listener).expect("it listens");
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::from((self.address, 0));
        socket.bind(from).expect("an address of loopback");
        // Closed at once, it may be gone before the connection is known to stand.
        let stream = socket.connect(to).await.ok()?;
        if self.listener != "tls" {
            return line(stream).await;
        }
        let client = TlsClient::new(&pki.authority, self.alpn);
        let (client, name) = match self.name {
            Some(name) => (client, name),
            None => (client.nameless(), NAMES[0]),
        };
        let secured = within("the handshake ends", client.connect(stream, name)).await;
        line(secured.ok()?).await
    }
}

async fn line(mut stream: impl AsyncRead + Unpin) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\n") {
        let more = timeout(PATIENCE, stream.read_buf(&mut read)).await;
        match more.expect("a banner, or the end") {
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
    }
    let text = String::from_utf8(read).expect("text");
    Some(text.trim_end().to_owned())
}

/// What the endpoint says that was chosen.
fn expected(said: &StreamReport, endpoints: &Endpoints) -> Option<String> {
    match &said.answer {
        StreamAnswer::Forward { targets } => {
            let endpoint = &targets[0].endpoints[0].address;
            Some(endpoints.banners[endpoint].clone())
        }
        StreamAnswer::Requests => panic!("there are no requests: {said}"),
        StreamAnswer::Refuse { .. } | StreamAnswer::Egress => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_the_live_gateway_decide_alike_about_streams() {
    let pki = Pki::new();
    let wildcards = ["*.a.example", "*.example"];
    let names: Vec<&str> = NAMES.iter().chain(&wildcards).copied().collect();
    pki.place("all", &pki.authority.server(&names));
    let endpoints = Endpoints::start(&pki).await;
    let mut chance = StdRng::seed_from_u64(7);
    let first = configuration(&pki, &endpoints, &mut chance);
    let gateway = Gateway::start(&first, 1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut tally: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for _ in 0..CASES {
        let text = configuration(&pki, &endpoints, &mut chance);
        gateway.reload(&text).await;
        let snapshot = snapshot(&text, folder.path());
        for _ in 0..CLIENTS {
            let visitor = Visitor::any(&mut chance);
            let said = explain_stream(&snapshot, &visitor.asked(&gateway)).expect("explained");
            let seen = visitor.banner(&gateway, &pki).await;
            assert_eq!(
                seen,
                expected(&said, &endpoints),
                "{visitor:?}\n{said}\n{text}"
            );
            let way = if seen.is_some() {
                said.mode.as_str()
            } else {
                "refused"
            };
            *tally.entry((visitor.listener, way)).or_default() += 1;
        }
    }
    let ways = [
        ("raw", Mode::Tcp.as_str()),
        ("raw", "refused"),
        ("tls", Mode::Tcp.as_str()),
        ("tls", Mode::Passthrough.as_str()),
        ("tls", "refused"),
    ];
    for way in ways {
        let count = tally.get(&way).copied().unwrap_or_default();
        assert!(count > 10, "{way:?} is taken {count} times: {tally:?}");
    }
}
