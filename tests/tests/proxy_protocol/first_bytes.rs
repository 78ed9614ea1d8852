//! Headers in front of everything whose first bytes are looked at before it is decided what becomes of them:
//! both versions, in one segment with those bytes and in single ones.

use std::net::SocketAddr;

use sluice_certs::testing::{Client as TlsClient, Server};
use sluice_gateway::{drain::Tasks, telemetry::metrics::Counter};
use sluice_tests::{
    Client, Front, Gateway, Origin, eventually::within, gateway, h2::wire, tls::Pki,
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split,
    },
    net::TcpStream,
};

use super::{ADDRESSES, binary};

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 443\r\n";
const GREETING: &[u8] = b"220 mail.example ready\r\n";
const WANTS_TLS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

/// How a client's bytes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The header goes out with what the client says first.
    Together,
    /// Each byte by itself.
    Single,
}

/// What is spoken behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Raw,
    Http1,
    Http2,
    /// TLS for `a.example` with a request inside, or for `p.example`, which is passed through.
    Tls(&'static str),
    /// The client waits.
    Nothing,
    /// `PostgreSQL`, by a client that asks for TLS first.
    Asking,
    /// `PostgreSQL` in TLS from the first byte.
    Direct,
    /// `PostgreSQL` without TLS.
    Plain,
}

/// What each listener is asked, and by which route it answers.
const CASES: &[(&str, Spoken, &str)] = &[
    ("raw", Spoken::Raw, "raw"),
    ("raw", Spoken::Tls("e.example"), "raw"),
    ("auto", Spoken::Raw, "raw"),
    ("auto", Spoken::Http1, "http"),
    ("auto", Spoken::Http2, "http"),
    ("auto", Spoken::Tls("a.example"), "http"),
    ("auto", Spoken::Tls("p.example"), "passed"),
    ("auto", Spoken::Asking, "raw"),
    ("auto", Spoken::Plain, "raw"),
    ("mail", Spoken::Nothing, "mail"),
    ("web", Spoken::Tls("a.example"), "http"),
    ("web", Spoken::Tls("p.example"), "passed"),
    ("db", Spoken::Asking, "raw"),
    ("db", Spoken::Direct, "raw"),
    ("db", Spoken::Tls("p.example"), "passed"),
];

/// Behind a header, cut as `cut` says: what is written to the stream goes to the gateway.
async fn behind(header: Vec<u8>, cut: Cut, waits: bool, to: &Way) -> DuplexStream {
    let (ours, theirs) = duplex(1 << 16);
    let mut socket = TcpStream::connect(to.0).await.expect("accepted");
    socket.set_nodelay(true).expect("set");
    let mut first = header;
    to.1.spawn(async move {
        let (mut hears, mut says) = split(theirs);
        let (mut from, mut into) = socket.split();
        let out = async {
            let mut said = vec![0; 1 << 14];
            loop {
                // Who waits says nothing but the header.
                let length = if waits && !first.is_empty() {
                    0
                } else {
                    match hears.read(&mut said).await {
                        Ok(0) | Err(_) => break,
                        Ok(length) => length,
                    }
                };
                let bytes = [&std::mem::take(&mut first), &said[..length]].concat();
                let size = if cut == Cut::Single { 1 } else { bytes.len() };
                for piece in bytes.chunks(size) {
                    if into.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
            drop(into.shutdown().await);
        };
        let back = async {
            drop(tokio::io::copy(&mut from, &mut says).await);
            drop(says.shutdown().await);
        };
        tokio::join!(out, back);
    });
    ours
}

/// Where to connect to, and who owns the tasks that do.
struct Way(SocketAddr, Tasks);

/// A gateway that is told by whoever connects, with a listener for each case.
async fn listening(pki: &Pki, [echo, mail, passed]: [SocketAddr; 3]) -> Gateway {
    let listener = |(name, protocol, keys): (&str, &str, &str)| {
        format!(
            "[listeners.{name}]\naddress = \"127.0.0.1:0\"\nprotocol = {protocol:?}\n\
             trusted_proxies = \"127.0.0.1\"\nproxy_protocol = true\n{keys}\n"
        )
    };
    let listeners = [
        ("raw", "tcp", ""),
        ("auto", "auto", "startup = \"postgres\""),
        ("mail", "auto", ""),
        ("web", "https", ""),
        ("db", "tls", "startup = \"postgres\""),
    ]
    .map(listener)
    .concat();
    let certificate = pki.certificate("a", &["a.example"]);
    let client = "match = { client = \"198.51.100.7\", destination = \"203.0.113.9\" }";
    let routes = format!(
        "[routes.http]\nlisteners = [\"auto\", \"web\"]\nrespond = {{ body = \"hello\" }}\n\
         [routes.raw]\nmode = \"tcp\"\nlisteners = [\"raw\", \"auto\", \"db\"]\n\
         [[routes.raw.rules]]\n{client}\nto = \"{echo}\"\n\
         [routes.mail]\nmode = \"tcp\"\nlisteners = [\"mail\"]\n\
         [[routes.mail.rules]]\n{client}\nto = \"{mail}\"\n\
         [routes.passed]\nmode = \"passthrough\"\nlisteners = [\"auto\", \"web\", \"db\"]\n\
         hosts = [\"p.example\"]\n\
         [[routes.passed.rules]]\n{client}\nto = \"{passed}\"\n"
    );
    gateway(&[listeners, certificate, routes].concat()).await
}

/// Says what a client says, and hears what it has to hear.
async fn speak(spoken: Spoken, mut stream: DuplexStream, pki: &Pki) {
    match spoken {
        Spoken::Raw => echoed(stream, b"PING\r\n").await,
        Spoken::Plain => echoed(stream, START).await,
        Spoken::Http1 => {
            let text = Client::over(stream).get("a.example", "/").await.text();
            assert_eq!(text, "hello");
        }
        Spoken::Http2 => {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            let request = wire::request(1, &wire::get("/"));
            let said = [&preface[..], &wire::settings(&[]), &request].concat();
            let mut client = Client::over(stream);
            client.send(said).await;
            let mut heard = client.read_at_least(9).await;
            assert_eq!(heard[3], 4, "settings");
            while !heard.windows(5).any(|five| five == b"hello") {
                heard.extend(client.read_at_least(1).await);
            }
        }
        // Nobody here looks at it: it comes back as it was.
        Spoken::Tls("e.example") => {
            let hello = pki.client().first_message("e.example");
            echoed(stream, &hello).await;
        }
        Spoken::Tls(name) => {
            let secured = within("the handshake", pki.client().connect(stream, name)).await;
            let mut client = Client::over(secured.expect("the handshake succeeds"));
            let text = client.get(name, "/").await.text();
            assert_eq!(
                text,
                if name == "p.example" {
                    "passed"
                } else {
                    "hello"
                }
            );
        }
        Spoken::Nothing => {
            let heard = Client::over(stream).read_at_least(GREETING.len()).await;
            assert_eq!(heard, GREETING);
        }
        Spoken::Asking | Spoken::Direct => {
            if spoken == Spoken::Asking {
                stream.write_all(WANTS_TLS).await.expect("taken");
                let answer = within("an answer", stream.read_u8()).await;
                assert_eq!(answer.expect("one byte"), b'S');
            }
            let client = TlsClient::new(&pki.authority, &["postgresql"]);
            let secured = within("the handshake", client.connect(stream, "a.example")).await;
            echoed(secured.expect("the handshake succeeds"), START).await;
        }
    }
}

async fn echoed<S>(stream: S, said: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Client::over(stream);
    client.send(said).await;
    assert_eq!(client.read_at_least(said.len()).await, said);
}

#[tokio::test]
async fn whatever_is_looked_at_begins_behind_the_header() {
    let pki = Pki::new();
    let echo = Origin::start(|mut peer| async move {
        peer.read().await;
        peer.echo().await;
    })
    .await;
    let mail = Origin::start(|mut peer| async move {
        peer.send(GREETING).await;
        peer.echo().await;
    })
    .await;
    let inner = Origin::text("passed").await;
    let leaf = pki.authority.server(&["p.example"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let passed = Front::before(inner.address(), server).await;
    let to = [echo.address(), mail.address(), passed.address()];
    let gateway = listening(&pki, to).await;
    let besides = [
        &ADDRESSES[..],
        b"\x02\0\x09q.example",
        b"\x04\0\x03\x16\x03\x01",
    ]
    .concat();
    let headers = [
        LINE.to_vec(),
        binary(0x21, 0x11, &ADDRESSES),
        binary(0x21, 0x11, &besides),
    ];
    let mut number = 0;
    for (listener, spoken, route) in CASES {
        for header in &headers {
            for cut in [Cut::Together, Cut::Single] {
                number += 1;
                let what = format!("{listener} {spoken:?} {cut:?} {}", header.escape_ascii());
                let address = gateway.address_of(listener).expect("it listens");
                let place = Way(address, Tasks::new());
                let waits = *spoken == Spoken::Nothing;
                let stream = behind(header.clone(), cut, waits, &place).await;
                speak(*spoken, stream, &pki).await;
                let lines = gateway.log().wait(number).await;
                let line = &lines[number - 1];
                assert_eq!(line["route"], *route, "{what}: {line}");
                assert_eq!(line["listener"], *listener, "{what}: {line}");
                assert_eq!(line["peer"], "198.51.100.7:1000", "{what}: {line}");
                place.1.abort();
            }
        }
    }
    assert_eq!(gateway.count(Counter::ProxyHeaders), number as u64);
    assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 0);
}

#[tokio::test]
async fn nothing_is_looked_at_where_the_header_is_not_whole() {
    let pki = Pki::new();
    let origin = Origin::start(|mut peer| async move { peer.echo().await }).await;
    let gateway = listening(&pki, [origin.address(); 3]).await;
    let hello = pki.client().first_message("p.example");
    let broken = binary(0x21, 0x11, &ADDRESSES[..11]);
    let firsts: [&[u8]; 5] = [
        b"PING\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &hello,
        WANTS_TLS,
        START,
    ];
    for listener in ["raw", "auto", "mail", "web", "db"] {
        let address = gateway.address_of(listener).expect("it listens");
        for first in firsts {
            for header in [&b"PROXY TCP4 198.51.100.7\r\n"[..], &broken, b""] {
                let mut client = Client::connect(address).await;
                client.send([header, first].concat()).await;
                assert_eq!(
                    client.rest().await,
                    b"",
                    "{listener}: {}",
                    first.escape_ascii()
                );
            }
        }
    }
    assert_eq!(origin.connections(), 0, "nobody was even asked for");
    assert!(gateway.log().lines().is_empty());
}
