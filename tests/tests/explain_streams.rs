//! `explain` and the live gateway decide alike about raw streams and datagrams: random routes that end TLS,
//! pass it through or never see any, listeners that find out what is spoken, random clients, the same endpoint
//! or the same refusal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sluice_certs::testing::{Client as TlsClient, Server};
use sluice_config::model::Mode;
use sluice_gateway::{
    drain::Tasks,
    explain::{AskedStream, Hello, StreamAnswer, StreamReport, explain_stream},
    telemetry::metrics::Loss,
};
use sluice_tests::{
    Front, Gateway, Origin, PATIENCE,
    eventually::{eventually, within},
    gateway::snapshot,
    tls::Pki,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

/// Configurations.
const CASES: usize = 60;

/// Clients of each.
const CLIENTS: usize = 20;

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
const PROTOCOLS: &[&[&str]] = &[
    &[],
    &["x"],
    &["h2"],
    &["h2", "x"],
    &["y"],
    &["http/1.1"],
    &["postgresql"],
    &["y", "http/1.1"],
];

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
    /// The same, but only who has heard something: where anything may be spoken, whoever speaks first decides.
    patient: Vec<Origin>,
    hidden: Vec<(Origin, Front)>,
    datagrams: Vec<SocketAddr>,
    tasks: Tasks,
    /// What one says, by its address.
    banners: HashMap<String, String>,
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Endpoints {
    async fn start(pki: &Pki) -> Self {
        let mut endpoints = Self {
            plain: Vec::new(),
            patient: Vec::new(),
            hidden: Vec::new(),
            datagrams: Vec::new(),
            tasks: Tasks::new(),
            banners: HashMap::new(),
        };
        let leaf = pki.authority.server(NAMES);
        for number in 0..ENDPOINTS {
            let plain = Self::saying(format!("plain{number}\n")).await;
            let banner = (plain.address().to_string(), format!("plain{number}"));
            endpoints.banners.extend([banner]);
            endpoints.plain.push(plain);

            let banner = format!("patient{number}");
            let patient = Self::patient(format!("{banner}\n")).await;
            let address = patient.address().to_string();
            endpoints.banners.insert(address, banner);
            endpoints.patient.push(patient);

            let inner = Self::saying(format!("hidden{number}\n")).await;
            let server = Server::new(
                &leaf,
                &["x", "h2", "y", "http/1.1", "postgresql"],
                None,
                false,
            );
            let front = Front::before(inner.address(), server).await;
            let banner = (front.address().to_string(), format!("hidden{number}"));
            endpoints.banners.extend([banner]);
            endpoints.hidden.push((inner, front));

            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let address = socket.local_addr().expect("an address");
            let name = format!("datagrams{number}");
            endpoints.banners.insert(address.to_string(), name.clone());
            endpoints.datagrams.push(address);
            endpoints.tasks.spawn(async move {
                let mut said = [0; 16];
                while let Ok((_, from)) = socket.recv_from(&mut said).await {
                    drop(socket.send_to(name.as_bytes(), from).await);
                }
            });
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

    async fn patient(banner: String) -> Origin {
        Origin::start(move |mut peer| {
            let banner = banner.clone();
            async move {
                if peer.read().await > 0 {
                    peer.send(banner).await;
                    peer.hold().await;
                }
            }
        })
        .await
    }

    fn some(&self, (listener, mode): (&str, &str), chance: &mut StdRng) -> SocketAddr {
        let number = chance.random_range(0..ENDPOINTS);
        match (listener, mode) {
            (_, "passthrough") => self.hidden[number].1.address(),
            (_, "udp") => self.datagrams[number],
            ("any", _) => self.patient[number].address(),
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
         [listeners.any]\naddress = \"127.0.0.1:0\"\nprotocol = \"auto\"\n\
         startup = \"postgres\"\ntls = {{ alpn = [\"http/1.1\"] }}\n\
         timeouts = {{ sniff = \"300ms\" }}\n\
         certificates = {{ names = [\"all\"], default = \"all\" }}\n\
         [listeners.dns]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\n\
         [certificates.all]\nfiles = {}\n",
        pki.files("all")
    );
    for route in 0..chance.random_range(3..=9) {
        let kinds = [
            ("raw", "tcp"),
            ("tls", "tcp"),
            ("tls", "passthrough"),
            ("any", "tcp"),
            ("any", "passthrough"),
            ("dns", "udp"),
        ];
        let (listener, mode) = *kinds.choose(chance).expect("one");
        let is_named = listener == "tls" || mode == "passthrough";
        let host = if is_named {
            HOSTS.choose(chance).expect("one")
        } else {
            "*"
        };
        let priority = chance.random_range(0..=1);
        text.extend([format!(
            "[routes.r{route}]\nlisteners = \"{listener}\"\nmode = \"{mode}\"\nhosts = \"{host}\"\n\
             priority = {priority}\n"
        )]);
        let rules = chance.random_range(0..=3);
        if rules == 0 || chance.random_ratio(1, 2) {
            text.extend([format!(
                "to = \"{}\"\n",
                endpoints.some((listener, mode), chance)
            )]);
        }
        for _ in 0..rules {
            let greeted = is_named && chance.random_ratio(1, 2);
            let conditions = if greeted { GREETED } else { CONNECTED };
            let condition = conditions.choose(chance).expect("one");
            let condition = condition.replace("LISTENER", listener);
            let to = endpoints.some((listener, mode), chance);
            text.extend([format!(
                "[[routes.r{route}.rules]]\nmatch = {{ {condition} }}\nto = \"{to}\"\n"
            )]);
        }
    }
    text
}

/// What a gateway says that reads requests.
const REQUESTS: &str = "requests";

/// A client.
#[derive(Debug)]
struct Visitor {
    listener: &'static str,
    address: [u8; 4],
    name: Option<&'static str>,
    alpn: &'static [&'static str],
    /// Speaks no TLS, where it may say anything.
    plain: bool,
}

impl Visitor {
    fn any(chance: &mut StdRng) -> Self {
        Self {
            listener: ["raw", "tls", "tls", "any", "any", "any", "dns"]
                .choose(chance)
                .expect("one"),
            address: [127, 0, 0, chance.random_range(1..=2)],
            name: chance
                .random_ratio(4, 5)
                .then(|| *NAMES.choose(chance).expect("one")),
            alpn: PROTOCOLS.choose(chance).expect("one"),
            plain: chance.random_ratio(1, 3),
        }
    }

    fn speaks_tls(&self) -> bool {
        self.listener == "tls" || (self.listener == "any" && !self.plain)
    }

    fn asked(&self, gateway: &Gateway) -> AskedStream {
        let hello = Hello {
            sni: self.name.map(str::to_owned),
            alpn: self.alpn.iter().map(|it| (*it).to_owned()).collect(),
        };
        AskedStream {
            datagram: self.listener == "dns",
            to: Some(self.listener.to_owned()),
            hello: self.speaks_tls().then_some(hello),
            client: Some(self.address.into()),
            destination: gateway.address_of(self.listener),
        }
    }

    /// What an endpoint says, or that the gateway reads requests; none when the connection is closed without
    /// a word.
    async fn banner(&self, gateway: &Gateway, pki: &Pki) -> Option<String> {
        if self.listener == "dns" {
            return self.answer(gateway).await;
        }
        let to = gateway.address_of(self.listener).expect("it listens");
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::from((self.address, 0));
        socket.bind(from).expect("an address of loopback");
        // Closed at once, it may be gone before the connection is known to stand.
        let stream = socket.connect(to).await.ok()?;
        if !self.speaks_tls() {
            let mut stream = stream;
            drop(stream.write_all(b"?\n").await);
            return line(stream).await;
        }
        let client = TlsClient::new(&pki.authority, self.alpn);
        let (client, name) = match self.name {
            Some(name) => (client, name),
            None => (client.nameless(), NAMES[0]),
        };
        let connecting = Box::pin(client.connect(stream, name));
        let secured = within("the handshake ends", connecting).await;
        Box::pin(asked(secured.ok()?)).await
    }

    /// What an endpoint says to a datagram; none when that is dropped.
    async fn answer(&self, gateway: &Gateway) -> Option<String> {
        let to = gateway.address_of(self.listener).expect("it listens");
        let from = SocketAddr::from((self.address, 0));
        let socket = loop {
            let socket = UdpSocket::bind(from).await.expect("an address of loopback");
            if is_new(socket.local_addr().expect("an address")) {
                break socket;
            }
        };
        socket.connect(to).await.expect("a way");
        let lost = || gateway.datagrams(self.listener).lost(Loss::NoRoute);
        let before = lost();
        socket.send(b"?").await.expect("it goes out");
        let mut heard = [0; 32];
        eventually(
            "an answer, or a datagram that is dropped",
            || match socket.try_recv(&mut heard) {
                Ok(length) => Some(Some(String::from_utf8_lossy(&heard[..length]).into_owned())),
                Err(_) => (lost() > before).then_some(None),
            },
        )
        .await
    }
}

/// The first line of whoever answers something that looks like a request; of a gateway that reads it as one,
/// that it does.
async fn asked(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<String> {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    // Whoever refuses has closed already.
    drop(stream.write_all(request).await);
    let line = line(stream).await?;
    Some(if line.starts_with("HTTP/1.1 ") {
        REQUESTS.to_owned()
    } else {
        line
    })
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

/// Whether no visitor had this address before: sessions of what a reload has changed go on for a while, and
/// who has the address of an earlier client is that client.
fn is_new(address: SocketAddr) -> bool {
    static HAD: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    HAD.lock().insert(address)
}

/// What the endpoint says that was chosen.
fn expected(said: &StreamReport, endpoints: &Endpoints) -> Option<String> {
    match &said.answer {
        StreamAnswer::Forward { targets } => {
            let endpoint = &targets[0].endpoints[0].address;
            Some(endpoints.banners[endpoint].clone())
        }
        StreamAnswer::Requests => Some(REQUESTS.to_owned()),
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
            let seen = Box::pin(visitor.banner(&gateway, &pki)).await;
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
        ("any", Mode::Tcp.as_str()),
        ("any", Mode::Passthrough.as_str()),
        ("any", Mode::Http.as_str()),
        ("any", "refused"),
        ("dns", Mode::Udp.as_str()),
        ("dns", "refused"),
    ];
    for way in ways {
        let count = tally.get(&way).copied().unwrap_or_default();
        assert!(count > 10, "{way:?} is taken {count} times: {tally:?}");
    }
}
