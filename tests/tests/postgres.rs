//! Clients of `PostgreSQL`, which ask for TLS in their own protocol before they speak it.

use std::time::Duration;

use sluice_certs::testing::{Client as TlsClient, Connected, Server, Speaks, alert};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Client, Gateway, Origin,
    eventually::within,
    gateway,
    tls::{Pki, connect, secure},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const TLS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];
const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

/// A listener `web` on which clients ask for TLS first.
fn listener(protocol: &str, objects: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\nstartup = \"postgres\"\n\
         timeouts = {{ tls_handshake = \"1s\" }}\n{objects}"
    )
}

fn route(name: &str, mode: &str, hosts: &str, to: impl std::fmt::Display) -> String {
    format!(
        "[routes.{name}]\nlisteners = [\"web\"]\nmode = \"{mode}\"\nhosts = {hosts}\nto = \"{to}\"\n"
    )
}

/// An origin that sends back what comes.
async fn echoes() -> Origin {
    Origin::start(|mut peer| async move {
        peer.read().await;
        peer.echo().await;
    })
    .await
}

/// A connection whose request for TLS was granted.
async fn granted(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(TLS).await.unwrap();
    let mut answer = [0];
    within("an answer", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"S");
    stream
}

/// TLS after it was granted.
async fn asked(client: &TlsClient, gateway: &Gateway, name: &str) -> Client<Connected<TcpStream>> {
    let stream = granted(gateway).await;
    let stream = within("the handshake ends", client.connect(stream, name)).await;
    Client::over(stream.expect("the handshake succeeds"))
}

/// What a client gets that sends this.
async fn answer(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut client = gateway.connect().await;
    client.send(bytes).await;
    String::from_utf8_lossy(&client.rest().await).into_owned()
}

#[tokio::test]
async fn tls_that_was_asked_for_is_ended_and_routed_by_name() {
    let pki = Pki::new();
    let (one, two) = (echoes().await, echoes().await);
    let objects = pki.certificate("one", &["one.example"])
        + &pki.certificate("two", &["two.example"])
        + &route("one", "tcp", "[\"one.example\"]", one.address())
        + &route("two", "tcp", "[\"two.example\"]", two.address());
    let gateway = gateway(&listener("tls", &objects)).await;
    let client = TlsClient::new(&pki.authority, &["postgresql"]);
    for (name, origin) in [("one.example", &one), ("two.example", &two)] {
        let mut client = asked(&client, &gateway, name).await;
        client.send(START).await;
        assert_eq!(client.read_at_least(START.len()).await, START);
        assert_eq!(origin.saw(), [START]);
    }
    // Clients of today may begin with TLS at once; then they insist on its protocol.
    let mut direct = secure(&client, gateway.address(), "one.example").await;
    assert_eq!(direct.stream().protocol().as_deref(), Some("postgresql"));
    direct.send(START).await;
    assert_eq!(direct.read_at_least(START.len()).await, START);
    // A name that nobody has.
    let stream = granted(&gateway).await;
    let error = client.connect(stream, "three.example").await.unwrap_err();
    assert_eq!(alert(&error).as_deref(), Some("unrecognized_name"));
}

#[tokio::test]
async fn other_encryption_is_declined_and_tls_still_to_be_had() {
    let pki = Pki::new();
    let origin = echoes().await;
    let objects = pki.certificate("one", &["one.example"])
        + &route("one", "tcp", "[\"one.example\"]", origin.address());
    let gateway = gateway(&listener("tls", &objects)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    for (request, expected) in [(GSS, b'N'), (TLS, b'S')] {
        // In the smallest pieces.
        stream.set_nodelay(true).unwrap();
        for byte in request {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(stream.read_u8().await.unwrap(), expected);
    }
    let client = TlsClient::new(&pki.authority, &[]);
    let stream = client.connect(stream, "one.example").await.unwrap();
    let mut client = Client::over(stream);
    client.send(START).await;
    assert_eq!(client.read_at_least(START.len()).await, START);
}

#[tokio::test]
async fn who_wants_no_tls_is_told_in_the_protocol_that_it_has_to_be() {
    let pki = Pki::new();
    let origin = echoes().await;
    let objects = pki.certificate("one", &["one.example"])
        + &route("one", "tcp", "[\"one.example\"]", origin.address());
    let gateway = gateway(&listener("tls", &objects)).await;
    for bytes in [START, CANCEL] {
        let said = answer(&gateway, bytes).await;
        assert!(said.starts_with('E'), "{said:?}");
        assert!(said.contains("FATAL\0"), "{said:?}");
        assert!(said.contains("C28000\0"), "{said:?}");
        assert!(said.contains("requires TLS"), "{said:?}");
    }
    // What comes behind the request came without encryption, and is never taken for anything else.
    let hello = pki.client().first_message("one.example");
    let said = answer(&gateway, &[TLS, &hello].concat()).await;
    assert!(said.starts_with('E'), "{said:?}");
    gateway.handshakes_fail("not_tls", 3).await;
    // Who does not finish the request is not waited for.
    assert_eq!(answer(&gateway, &TLS[..7]).await, "");
    gateway.handshakes_fail("timeout", 1).await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn tls_that_is_passed_through_is_asked_for_at_the_endpoint() {
    let pki = Pki::new();
    let server = Database::start(&pki, b"S").await;
    let stubborn = Database::start(&pki, b"N").await;
    let objects = route("p", "passthrough", "[\"db.example\"]", server.address)
        + &route("n", "passthrough", "[\"n.example\"]", stubborn.address);
    let gateway = gateway(&listener("tls", &objects)).await;
    let client = TlsClient::new(&pki.authority, &["postgresql"]);
    let mut inside = asked(&client, &gateway, "db.example").await;
    inside.send(START).await;
    assert_eq!(inside.read_at_least(START.len()).await, START);
    // Who began with TLS is passed on as it began.
    let mut direct = secure(&client, gateway.address(), "db.example").await;
    direct.send(START).await;
    assert_eq!(direct.read_at_least(START.len()).await, START);

    let stream = granted(&gateway).await;
    assert!(client.connect(stream, "n.example").await.is_err());
    let line = gateway.log().wait_for("verdict", "upstream_startup").await;
    assert_eq!(line["sni"], "n.example");
    let refused = connect(&client, gateway.address(), "other.example").await;
    let error = refused.unwrap_err();
    assert_eq!(alert(&error).as_deref(), Some("unrecognized_name"));
}

#[tokio::test]
async fn an_upstream_of_postgres_is_asked_before_tls() {
    let pki = Pki::new();
    let server = Database::start(&pki, b"S").await;
    let ca = pki.quoted("ca.pem");
    let (address, more) = (server.address, "startup = \"postgres\"");
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.r]\nlisteners = [\"web\"]\nto = \"db\"\n\
         [upstreams.db]\nendpoints = \"{address}\"\n{more}\ntls = {{ ca = {ca}, sni = \"db.example\" }}\n"
    );
    let gateway = gateway(&config).await;
    let mut client = gateway.connect().await;
    client.send(START).await;
    assert_eq!(client.read_at_least(START.len()).await, START);
    assert_eq!(gateway.handshakes_with("db").kinds, [0, 0, 1, 0]);
}

#[tokio::test]
async fn one_port_takes_tls_plain_streams_and_http() {
    let pki = Pki::new();
    let origin = echoes().await;
    let objects = pki.certificate("one", &["one.example"])
        + &route("raw", "tcp", "[\"*\"]", origin.address())
        + "[routes.h]\nlisteners = [\"web\"]\nhosts = [\"one.example\"]\nrespond = { body = \"hello\" }\n";
    let gateway = gateway(&listener("auto", &objects)).await;
    // Without TLS, since here it may be.
    let mut plain = gateway.connect().await;
    plain.send(START).await;
    assert_eq!(plain.read_at_least(START.len()).await, START);
    let mut declined = gateway.connect().await;
    declined.send(GSS).await;
    assert_eq!(declined.read_at_least(1).await, b"N");
    declined.send(START).await;
    assert_eq!(declined.read_at_least(START.len()).await, START);
    // With it, as it was asked for and at once.
    let client = TlsClient::new(&pki.authority, &["postgresql"]);
    let mut inside = asked(&client, &gateway, "one.example").await;
    inside.send(START).await;
    assert_eq!(inside.read_at_least(START.len()).await, START);
    let mut direct = secure(&client, gateway.address(), "one.example").await;
    direct.send(START).await;
    assert_eq!(direct.read_at_least(START.len()).await, START);
    // And requests, with TLS and without.
    assert_eq!(gateway.get("one.example", "/").await.text(), "hello");
    let mut web = secure(&pki.client(), gateway.address(), "one.example").await;
    assert_eq!(web.get("one.example", "/").await.text(), "hello");
    // An endpoint that was not needed got nothing.
    let said = origin.saw().into_iter().filter(|saw| !saw.is_empty());
    assert_eq!(said.collect::<Vec<_>>(), [START; 4]);
}

/// Whether what is said inside TLS comes back.
async fn is_served(stream: std::io::Result<Connected<TcpStream>>) -> bool {
    // In TLS 1.3 a client hears of its refusal only when it reads.
    let Ok(mut stream) = stream else {
        return false;
    };
    let mut heard = vec![0; START.len()];
    let said = stream.write_all(START).await;
    said.is_ok()
        && within("an answer", stream.read_exact(&mut heard))
            .await
            .is_ok()
}

#[tokio::test]
async fn on_one_port_databases_and_requests_ask_for_certificates_of_their_own() {
    let pki = Pki::new();
    let origin = echoes().await;
    let leaf = pki.authority.client(&["spiffe://shop/cart"]);
    let demand = format!(
        "client_certificates = {{ ca = {} }}\n",
        pki.quoted("ca.pem")
    );
    let known = TlsClient::with(&pki.authority, &["postgresql"], Speaks::Any, Some(&leaf));
    let unknown = TlsClient::new(&pki.authority, &["postgresql"]);
    let http = "[routes.h]\nlisteners = [\"web\"]\nhosts = [\"one.example\"]\nrespond = { body = \"hello\" }\n";
    for databases in [true, false] {
        let of = |is_demanded: bool| if is_demanded { demand.as_str() } else { "" };
        let objects = pki.certificate("one", &["one.example"])
            + &route("raw", "tcp", "[\"*\"]", origin.address())
            + of(databases)
            + http
            + of(!databases);
        let gateway = gateway(&listener("auto", &objects)).await;
        for (client, shows) in [(&known, true), (&unknown, false)] {
            let expected = shows || !databases;
            // As it was asked for, and at once.
            let asked = client.connect(granted(&gateway).await, "one.example").await;
            assert_eq!(is_served(asked).await, expected, "{databases} {shows}");
            let direct = connect(client, gateway.address(), "one.example").await;
            assert_eq!(is_served(direct).await, expected, "{databases} {shows}");
        }
        if databases {
            let line = gateway.log().wait_for("route", "raw").await;
            assert_eq!(line["client_certificate"], "spiffe://shop/cart", "{line}");
            // There is nothing to show without TLS.
            assert_eq!(answer(&gateway, START).await, "");
            gateway.log().wait_for("verdict", "misdirected").await;
        }
        for (client, shows) in [(pki.known_client(&leaf), true), (pki.client(), false)] {
            let stream = connect(&client, gateway.address(), "one.example").await;
            let mut web = Client::over(stream.expect("the handshake succeeds, or seems to"));
            web.send("GET / HTTP/1.1\r\nHost: one.example\r\n\r\n")
                .await;
            let reply = web.try_reply("GET").await;
            assert_eq!(reply.is_ok(), shows || databases, "{databases} {shows}");
        }
    }
}

/// An endpoint that gives `word` to whoever asks for TLS, or takes TLS at once, and sends back what comes
/// inside.
struct Database {
    address: std::net::SocketAddr,
    tasks: Tasks,
}

impl Database {
    async fn start(pki: &Pki, word: &'static [u8]) -> Self {
        let leaf = pki.authority.server(&["db.example"]);
        let server = Server::new(&leaf, &["postgresql"], None, false);
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let tasks = Tasks::new();
        let own = tasks.clone();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let server = server.clone();
                own.spawn(async move {
                    let mut first = [0];
                    if stream.peek(&mut first).await.is_err() {
                        return;
                    }
                    if first == [0] {
                        let mut request = [0; 8];
                        stream.read_exact(&mut request).await.unwrap();
                        assert_eq!(request, TLS);
                        // It is awaited: nothing may come before.
                        let early = tokio::time::timeout(
                            Duration::from_millis(20),
                            stream.peek(&mut first),
                        );
                        assert!(early.await.is_err(), "something came too early");
                        stream.write_all(word).await.unwrap();
                    }
                    let Ok((mut stream, _)) = server.accept(stream).await else {
                        return;
                    };
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        stream.write_all(&buffer[..read]).await.unwrap();
                    }
                });
            }
        });
        Self { address, tasks }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}
