//! CONNECT, with a protocol and without, over HTTP/1.1 and HTTP/2 on either side: what is asked of
//! whom, that the bytes are the same, and how a tunnel ends.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use sha1::{Digest as _, Sha1};
use sluice_gateway::{filter::Base64, telemetry::metrics::Counter};
use sluice_tests::{
    Gateway, H2, Origin,
    eventually::within,
    gateway,
    h2::wire::{self, setting},
    origin::Peer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[path = "connect/lasting.rs"]
mod lasting;
#[path = "connect/peers.rs"]
mod peers;

use peers::{Client, Manner, connect, extended};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A WebSocket's opening over HTTP/1.1.
fn opening() -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// What RFC 6455 has a server answer to `key`.
fn proof(key: &str) -> String {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    String::from_utf8(Base64::encode(&digest).to_vec()).expect("base64")
}

/// The answer of an origin that speaks HTTP/1.1 and switches.
fn switch(headers: &[(String, String)]) -> String {
    let key = headers.iter().find(|(name, _)| name == "sec-websocket-key");
    let accept = key.map_or_else(String::new, |(_, key)| proof(key));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// An origin that speaks HTTP/1.1, switches, and sends back what comes.
async fn echoing() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            peer.send(switch(&headers)).await;
            peer.echo().await;
        }
    })
    .await
}

/// An origin that speaks HTTP/1.1 and answers whatever is asked with these bytes.
async fn answering(answer: &'static str) -> Origin {
    Origin::start(move |mut peer: Peer| async move {
        if peer.head().await.is_some() {
            peer.send(answer).await;
            peer.echo().await;
        }
    })
    .await
}

fn to(address: impl std::fmt::Display) -> String {
    format!("[routes.r]\nto = \"{address}\"\n")
}

/// To an origin that speaks HTTP/2. One worker, so that every request finds the same connections.
async fn to_h2(origin: &peers::Origin, more: &str) -> Gateway {
    let address = origin.address;
    let config = format!(
        "[routes.r]\nto = \"u\"\n{more}\n[upstreams.u]\nendpoints = [\"{address}\"]\nprotocol = \"http2\"\n"
    );
    Gateway::start(&config, 1).await
}

const TUNNELS: &str = "upgrade = { protocols = [\"connect\"] }";

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(8).fill_bytes(&mut bytes);
    bytes
}

const LENGTH: usize = 3 << 20;

/// Sends random bytes through a WebSocket over HTTP/1.1 whose far end sends them back. Gives the head of
/// the answer.
async fn echo_h1(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("open");
    let opening = opening();
    stream.write_all(opening.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.expect("a byte"));
    }
    let sent = random(LENGTH);
    let mut got = Vec::new();
    let (mut reading, mut writing) = stream.split();
    let write = async {
        for piece in sent.chunks(70_001) {
            writing.write_all(piece).await.expect("the gateway reads");
        }
        writing.shutdown().await.expect("half-closed");
    };
    let both = async { tokio::join!(write, reading.read_to_end(&mut got)) };
    let ((), read) = within("the echo", both).await;
    read.expect("a clean end");
    assert!(got == sent, "the bytes differ");
    String::from_utf8(head).expect("a head")
}

/// The same over HTTP/2.
async fn echo_h2(gateway: &Gateway) -> http::Response<()> {
    let mut client = Client::connect(gateway.address()).await;
    let mut request = extended("websocket", "/chat?room=1");
    let chat = http::HeaderValue::from_static("chat");
    request.headers_mut().insert("sec-websocket-protocol", chat);
    let (answer, mut tunnel) = client.ask(request).await;
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    let sent = random(LENGTH);
    let got = tunnel.exchange(sent.clone()).await.expect("a clean end");
    assert!(got == sent, "the bytes differ");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(name), "{answer:?}");
    }
    answer
}

/// That the one WebSocket of this gateway was counted and logged.
async fn accounted(gateway: &Gateway, protocol: &str, status: u16) {
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["status"], status, "{line}");
    assert_eq!(line["protocol"], protocol);
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/chat");
    assert_eq!(line["verdict"], serde_json::Value::Null);
    assert_eq!(line["bytes_in"], LENGTH);
    assert_eq!(line["bytes_out"], LENGTH);
    assert_eq!(gateway.count(Counter::UpgradesStarted), 1);
    gateway.counts(Counter::UpgradesEnded, 1).await;
}

#[tokio::test]
async fn the_gateway_announces_that_it_takes_extended_connect() {
    let gateway = gateway("[routes.r]\nrespond = { body = \"x\" }\n").await;
    let mut client = H2::connect(gateway.address()).await;
    assert!(client.lives().await);
    let announced = (setting::ENABLE_CONNECT_PROTOCOL, 1);
    assert!(client.seen.settings.contains(&announced), "{client:?}");
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_http1_origin_byte_for_byte() {
    let origin = echoing().await;
    let gateway = gateway(&to(origin.address())).await;
    echo_h2(&gateway).await;
    let seen = origin.requests().remove(0);
    assert_eq!((seen.first(), seen.second()), ("GET", "/chat?room=1"));
    assert_eq!(seen.header("host"), Some("a.example"));
    assert_eq!(seen.header("connection"), Some("upgrade"));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    assert_eq!(seen.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(seen.header("sec-websocket-key").map(str::len), Some(24));
    assert_eq!(seen.header("content-length"), None);
    accounted(&gateway, "HTTP/2.0", 200).await;
}

#[tokio::test]
async fn a_websocket_over_http1_reaches_an_http2_origin_byte_for_byte() {
    let origin = peers::Origin::start(true, Manner::Echo).await;
    let gateway = to_h2(&origin, "").await;
    let head = echo_h1(&gateway).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let accept = format!("sec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase());
    assert!(head.contains(&accept), "{head}");
    for field in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-protocol: chat",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
    }
    is_extended(&origin.request());
    accounted(&gateway, "HTTP/1.1", 101).await;
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_http2_origin_byte_for_byte() {
    let origin = peers::Origin::start(true, Manner::Echo).await;
    let gateway = to_h2(&origin, "").await;
    echo_h2(&gateway).await;
    is_extended(&origin.request());
    accounted(&gateway, "HTTP/2.0", 200).await;
}

#[tokio::test]
async fn a_websocket_over_http1_reaches_an_http1_origin_byte_for_byte() {
    let origin = echoing().await;
    let gateway = gateway(&to(origin.address())).await;
    let head = echo_h1(&gateway).await;
    assert!(head.contains(ACCEPT), "{head}");
    accounted(&gateway, "HTTP/1.1", 101).await;
}

/// An extended CONNECT as RFC 8441 §5 has it.
fn is_extended(request: &http::Request<()>) {
    let protocol = request.extensions().get::<h2::ext::Protocol>();
    assert_eq!(protocol.map(h2::ext::Protocol::as_str), Some("websocket"));
    assert_eq!(request.method(), "CONNECT");
    assert_eq!(request.uri(), "http://a.example/chat?room=1");
    assert_eq!(request.headers()["sec-websocket-version"], "13");
    assert_eq!(request.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-key", "upgrade", "connection", "host"] {
        assert!(!request.headers().contains_key(name), "{request:?}");
    }
}

#[tokio::test]
async fn a_refused_upgrade_passes_as_an_ordinary_answer() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nx-why: rules\r\n\r\nnot here";
    let one = Origin::raw(refusal).await;
    let two = peers::Origin::start(true, Manner::Refuse).await;
    for gateway in [gateway(&to(one.address())).await, to_h2(&two, "").await] {
        let mut client = Client::connect(gateway.address()).await;
        let (answer, mut tunnel) = client.ask(extended("websocket", "/chat")).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(tunnel.rest().await.expect("an end"), b"not here");

        let mut client = gateway.connect().await;
        client.send(opening()).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, &*reply.text()), (403, "not here"));
        assert_eq!(client.rest().await, b"", "it closes");
        assert_eq!(gateway.count(Counter::UpgradesStarted), 0);
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_refused_with_501() {
    let origin = echoing().await;
    for (more, request) in [
        ("", extended("chat", "/")),
        ("", extended("connect", "/")),
        (TUNNELS, extended("connect", "/")),
        ("upgrade = { protocols = [] }", extended("websocket", "/")),
        ("", connect("a.example:443")),
    ] {
        let gateway = gateway(&format!("{}{more}\n", to(origin.address()))).await;
        let mut client = Client::connect(gateway.address()).await;
        let (answer, _) = client.ask(request).await;
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED, "{more}");
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], "protocol_refused");
        assert!(!client.is_closed());
    }
}

#[tokio::test]
async fn nothing_but_a_tunnel_answers_connect_with_200() {
    let plain = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let body = "[routes.r]\nrespond = { body = \"no\" }\n".to_owned();
    for (config, status, verdict) in [
        (body.clone(), 501, "protocol_refused"),
        (body + TUNNELS, 501, "protocol_refused"),
        (to(plain.address()), 502, "upstream_protocol"),
    ] {
        let gateway = gateway(&config).await;
        let mut client = Client::connect(gateway.address()).await;
        let (answer, _) = client.ask(extended("websocket", "/")).await;
        assert_eq!(answer.status(), status, "{config}");
        gateway.log().wait_for("verdict", verdict).await;
    }
}

#[tokio::test]
async fn a_switch_without_the_proof_for_our_key_is_no_answer() {
    for accept in ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"] {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{accept}\r\n"
        );
        let origin = answering(answer.leak()).await;
        let gateway = gateway(&to(origin.address())).await;
        let mut client = Client::connect(gateway.address()).await;
        let (answer, _) = client.ask(extended("websocket", "/")).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], "upstream_protocol");
    }
}

#[tokio::test]
async fn an_origin_without_extended_connect_is_said_so_of_and_auto_speaks_http1() {
    let origin = peers::Origin::start(false, Manner::Echo).await;
    let gateway = to_h2(&origin, "").await;
    let reply = gateway.ask(opening()).await;
    assert_eq!(reply.status, 502);
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "protocol_unsupported");

    let origin = echoing().await;
    let config = format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\nprotocol = \"auto\"\n",
        origin.address()
    );
    let gateway = Gateway::start(&config, 1).await;
    echo_h2(&gateway).await;
}

#[tokio::test]
async fn each_side_may_end_its_half_first() {
    let one = Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            peer.send(switch(&headers)).await;
            peer.send("last words").await;
            peer.finish().await;
            peer.hold().await;
        }
    })
    .await;
    let two = peers::Origin::start(true, Manner::LastWords).await;
    for gateway in [gateway(&to(one.address())).await, to_h2(&two, "").await] {
        let mut client = Client::connect(gateway.address()).await;
        let mut tunnel = client.open(extended("websocket", "/chat")).await;
        assert_eq!(tunnel.rest().await.expect("a clean end"), b"last words");
        assert!(tunnel.write("still talking").await);
        tunnel.finish();
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], serde_json::Value::Null, "{line}");
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&13.into(), &10.into())
        );
    }
    assert_eq!(two.end().await.expect("an end"), b"still talking");
}

#[tokio::test]
async fn an_origin_that_breaks_off_resets_the_stream() {
    let one = Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            peer.send(switch(&headers)).await;
            peer.take(5).await;
            peer.reset();
        }
    })
    .await;
    let two = peers::Origin::start(true, Manner::Reset).await;
    for gateway in [gateway(&to(one.address())).await, to_h2(&two, "").await] {
        let mut client = Client::connect(gateway.address()).await;
        let mut tunnel = client.open(extended("websocket", "/chat")).await;
        assert!(tunnel.write("break").await);
        assert_eq!(tunnel.rest().await, Err(Reason::CANCEL));
        gateway.log().wait_for("verdict", "upstream_reset").await;
        // Its connection goes on.
        client.open(extended("websocket", "/chat")).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_its_stream_breaks_off_at_the_origin() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let two = peers::Origin::start(true, Manner::Echo).await;
        let gateway = to_h2(&two, "").await;
        let mut client = Client::connect(gateway.address()).await;
        let mut tunnel = client.open(extended("websocket", "/chat")).await;
        assert!(tunnel.write("hello").await);
        tunnel.at_least(5).await;
        tunnel.send.send_reset(reason);
        assert_eq!(two.end().await, Err(Reason::CANCEL), "{reason:?}");
        gateway.log().wait_for("verdict", "client_closed").await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_resets_the_connection_of_an_http1_origin() {
    let (tell, mut told) = tokio::sync::mpsc::channel(2);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let gateway = gateway(&to(listener.local_addr().expect("an address"))).await;
    let tasks = sluice_gateway::drain::Tasks::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a byte"));
            }
            let (_, headers, _) = sluice_tests::http1::head(&head).expect("a head");
            stream
                .write_all(switch(&headers).as_bytes())
                .await
                .expect("taken");
            let mut rest = Vec::new();
            let end = stream
                .read_to_end(&mut rest)
                .await
                .map_err(|error| error.kind());
            tell.send(end).await.expect("the test listens");
        }
    });
    let mut client = Client::connect(gateway.address()).await;
    let mut tunnel = client.open(extended("websocket", "/chat")).await;
    tunnel.send.send_reset(Reason::CANCEL);
    let end = within("the end", told.recv()).await.expect("an end");
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));

    let mut client = gateway.connect().await;
    client.send(opening()).await;
    assert_eq!(client.reply().await.status, 101);
    client.reset();
    let end = within("the end", told.recv()).await.expect("an end");
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    tasks.abort();
}

#[tokio::test]
async fn idle_and_maximum_durations_end_a_tunnel() {
    let origin = peers::Origin::start(true, Manner::Echo).await;
    for (bound, verdict) in [
        ("idle_timeout = \"300ms\"", "upgrade_idle"),
        ("max_duration = \"300ms\"", "upgrade_expired"),
    ] {
        let gateway = to_h2(&origin, &format!("upgrade = {{ {bound} }}")).await;
        let mut client = Client::connect(gateway.address()).await;
        let mut tunnel = client.open(extended("websocket", "/chat")).await;
        assert!(tunnel.write("x").await);
        assert_eq!(tunnel.rest().await, Err(Reason::CANCEL));
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(
            (&line["verdict"], &line["status"]),
            (&verdict.into(), &200.into())
        );
    }
}

#[tokio::test]
async fn connect_is_forwarded_where_a_rule_allows_it() {
    let granted = "HTTP/1.0 200 Connection established\r\nVia: 1.0 x\r\n\r\nearly";
    let one = answering(granted).await;
    let gateway = gateway(&format!("{}{TUNNELS}\n", to(one.address()))).await;
    let mut client = gateway.connect().await;
    client
        .send("CONNECT DB.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\nfirst")
        .await;
    let (head, rest) = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        !head.contains("content-length") && !head.contains("upgrade"),
        "{head}"
    );
    let mut got = rest;
    while got.len() < 10 {
        got.extend(client.read_at_least(1).await);
    }
    assert_eq!(got, b"earlyfirst");
    let seen = String::from_utf8(one.saw().remove(0)).expect("text");
    assert!(
        seen.starts_with("CONNECT db.internal:5432 HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.contains("\r\nhost: db.internal:5432\r\n"), "{seen}");
    drop(client);
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(
        (&line["method"], &line["host"]),
        (&"CONNECT".into(), &"db.internal".into())
    );

    let mut client = Client::connect(gateway.address()).await;
    let mut tunnel = client.open(connect("db.internal:5432")).await;
    assert!(tunnel.write("second").await);
    assert_eq!(tunnel.at_least(11).await, b"earlysecond");

    let two = peers::Origin::start(false, Manner::Echo).await;
    let gateway = to_h2(&two, TUNNELS).await;
    let mut client = Client::connect(gateway.address()).await;
    let mut tunnel = client.open(connect("db.internal:5432")).await;
    let sent = random(LENGTH);
    assert!(tunnel.exchange(sent.clone()).await.expect("an end") == sent);
    let request = two.request();
    assert_eq!(
        (request.method().as_str(), request.uri().to_string()),
        ("CONNECT", "db.internal:5432".to_owned())
    );

    let mut client = gateway.connect().await;
    client
        .send("CONNECT db.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\nthird")
        .await;
    let (head, mut got) = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    while got.len() < 5 {
        got.extend(client.read_at_least(1).await);
    }
    assert_eq!(got, b"third");
}

/// The head of an answer that has no body but may have a tunnel behind it.
async fn head_of(client: &mut sluice_tests::Client) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).expect("a head"), rest);
        }
        bytes.extend(client.read_at_least(1).await);
    }
}

#[tokio::test]
async fn a_refused_connect_closes_and_its_bytes_are_never_a_request() {
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let refusing = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let target = to(refusing.address());
    let allowed = format!("{target}{TUNNELS}\n");
    for (config, request, status) in [
        (
            &allowed,
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            403,
        ),
        (
            &target,
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            501,
        ),
        (&allowed, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (&allowed, "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            &allowed,
            "CONNECT http://a:443/ HTTP/1.1\r\nHost: a:443\r\n\r\n",
            400,
        ),
        (
            &allowed,
            "CONNECT u@a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            400,
        ),
        (&allowed, "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            &allowed,
            "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
            400,
        ),
        (
            &allowed,
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
    ] {
        let gateway = gateway(config).await;
        let mut client = gateway.connect().await;
        client.send(format!("{request}{early}")).await;
        let reply = client.reply().await;
        assert_eq!(
            (reply.status, reply.header("connection")),
            (status, Some("close")),
            "{request}"
        );
        assert_eq!(client.rest().await, b"", "{request}");
    }
    let saw = refusing.saw().concat();
    assert!(!String::from_utf8_lossy(&saw).contains("smuggled"));
}

#[tokio::test]
async fn a_malformed_connect_over_http2_ends_its_stream_alone() {
    let origin = echoing().await;
    let gateway = gateway(&format!("{}{TUNNELS}\n", to(origin.address()))).await;
    let mut client = H2::connect(gateway.address()).await;
    let method = (":method", "CONNECT");
    for (index, fields) in [
        &[
            method,
            (":authority", "a:443"),
            (":scheme", "http"),
            (":path", "/"),
        ][..],
        &[method, (":authority", "a:443"), (":path", "/")],
        &[method, (":authority", "a:443"), (":scheme", "http")],
        &[method, (":authority", "a")],
        &[method],
        &[method, (":protocol", "websocket"), (":authority", "a")],
        &[
            method,
            (":protocol", "websocket"),
            (":authority", "a"),
            (":scheme", "http"),
        ],
    ]
    .iter()
    .enumerate()
    {
        let stream = u32::try_from(index).expect("few") * 2 + 1;
        client.send(wire::head(stream, &wire::block(fields))).await;
        let outcome = client.outcome(stream).await;
        assert!(
            matches!(
                outcome,
                sluice_tests::h2::Outcome::Reset(wire::code::PROTOCOL)
            ) || outcome.status() == Some(400),
            "{fields:?}: {outcome:?}"
        );
        assert!(client.lives().await, "{fields:?}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_websocket_that_is_ignored_closes_its_connection() {
    let origin = Origin::text("plain").await;
    let off = "upgrade = { protocols = [] }\n";
    let gateway = gateway(&format!("{}{off}", to(origin.address()))).await;
    let mut client = gateway.connect().await;
    client
        .send(opening() + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(client.rest().await, b"");
    assert_eq!(origin.requests().len(), 1);

    // Who offers h2c offers it with every request, and waits.
    let mut client = gateway.connect().await;
    let offer = opening().replace("websocket", "h2c");
    for _ in 0..2 {
        client.send(&offer).await;
        assert_eq!(client.reply().await.header("connection"), None);
    }
}

#[tokio::test]
async fn a_reader_that_stopped_holds_up_its_sender_and_nobody_else() {
    const PIECE: usize = 256 << 10;
    let origin = peers::Origin::start(true, Manner::Deaf).await;
    let gateway = to_h2(&origin, "").await;
    let mut client = Client::connect(gateway.address()).await;
    let mut tunnel = client.open(extended("websocket", "/chat")).await;
    let mut taken = 0;
    let piece = Bytes::from(vec![7; PIECE]);
    let pause = Duration::from_millis(500);
    while let Ok(true) = tokio::time::timeout(pause, tunnel.write(piece.clone())).await {
        taken += PIECE;
        assert!(taken < 8 << 20, "nobody reads, and yet it is taken");
    }
    let (answer, _) = client.ask(peers::get("/")).await;
    assert_eq!(answer.status(), StatusCode::OK, "another stream");

    // And the other way: a client that does not read.
    let origin = Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            peer.send(switch(&headers)).await;
            while peer.send(vec![7; 64 << 10]).await {}
        }
    })
    .await;
    let gateway = Gateway::start(&to(origin.address()), 1).await;
    let mut client = Client::connect(gateway.address()).await;
    let _tunnel = client.open(extended("websocket", "/chat")).await;
    let written = settled(|| origin.written()).await;
    assert!(
        written < 8 << 20,
        "{written} bytes for a client that reads none"
    );
}

/// A number that has stopped growing.
async fn settled(mut look: impl FnMut() -> u64) -> u64 {
    let mut before = look();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = look();
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_stuck_reader_is_given_up() {
    let origin = Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            peer.send(switch(&headers)).await;
            while peer.send(vec![7; 64 << 10]).await {}
        }
    })
    .await;
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ntimeouts = {{ write_stall = \"1s\" }}\n{}",
        to(origin.address())
    );
    let gateway = Gateway::start(&config, 1).await;
    let mut client = Client::connect(gateway.address()).await;
    let _tunnel = client.open(extended("websocket", "/chat")).await;
    gateway.log().wait_for("verdict", "client_stalled").await;
}

#[tokio::test]
async fn tunnels_live_through_reloads_of_other_routes_and_end_with_a_drain() {
    let origin = echoing().await;
    let config = |number: usize| {
        format!(
            "{}hosts = [\"a.example\"]\n[routes.other]\nhosts = [\"b.example\"]\nrespond = {{ body = \"{number}\" }}\n",
            to(origin.address())
        )
    };
    let mut gateway = gateway(&config(0)).await;
    let mut client = Client::connect(gateway.address()).await;
    let mut tunnel = client.open(extended("websocket", "/chat")).await;
    for number in 1..=20 {
        gateway.reload(&config(number)).await;
    }
    assert!(tunnel.write("hello").await);
    assert_eq!(tunnel.at_least(5).await, b"hello");
    assert_eq!(gateway.count(Counter::UpgradesEnded), 0);
    let log = gateway.log();
    assert!(!gateway.drain(Duration::from_millis(300)).await);
    assert!(tunnel.rest().await.is_err(), "not taken for an end");
    assert_eq!(log.wait(1).await[0]["verdict"], "draining");
}
