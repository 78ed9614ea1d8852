//! Connections that go over to another protocol: when, for whom, for how long, and what becomes of
//! bytes that were sent too early.

use std::{net::SocketAddr, time::Duration};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, Gateway, Origin, client::NoReply, eventually::within, gateway, http1, origin::Peer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A WebSocket's opening, as browsers send it.
fn opening(protocol: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// An origin that switches and sends back what comes.
async fn echoing() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        if peer.head().await.is_some() {
            peer.send(SWITCH).await;
            peer.echo().await;
        }
    })
    .await
}

/// An origin that answers the opening with these bytes and reads on.
async fn answering(answer: impl Into<Vec<u8>>) -> Origin {
    let answer = answer.into();
    Origin::start(move |mut peer: Peer| {
        let answer = answer.clone();
        async move {
            if peer.head().await.is_some() {
                peer.send(answer).await;
                peer.hold().await;
            }
        }
    })
    .await
}

fn to(origin: &Origin) -> String {
    format!("[routes.r]\nto = \"{}\"\n", origin.address())
}

async fn before(origin: &Origin) -> Gateway {
    gateway(&to(origin)).await
}

/// A WebSocket through the gateway.
async fn open(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send(opening("websocket")).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 101, "{reply:?}");
    client
}

/// The answer to an opening, and what comes until the connection closes.
async fn refused(gateway: &Gateway, request: &str) -> (u16, Vec<u8>) {
    let mut client = gateway.connect().await;
    client.send(request).await;
    let reply = client.reply().await;
    assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
    (reply.status, client.rest().await)
}

fn smuggled(origin: &Origin) -> bool {
    let saw = origin.saw().concat();
    String::from_utf8_lossy(&saw).contains("smuggled")
}

#[tokio::test]
async fn a_websocket_opens_with_its_headers_untouched() {
    let origin = echoing().await;
    let gateway = before(&origin).await;
    let mut client = gateway.connect().await;
    client.send(opening("WebSocket")).await;

    let reply = client.reply().await;

    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("upgrade"), Some("websocket"));
    assert_eq!(reply.header("connection"), Some("upgrade"));
    let accept = reply.header("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let seen = origin.requests().remove(0);
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("connection"), Some("upgrade"));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    let key = seen.header("sec-websocket-key");
    assert_eq!(key, Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[tokio::test]
async fn random_bytes_pass_exactly_in_both_directions_and_are_counted() {
    const LENGTH: usize = 6 << 20;
    let origin = echoing().await;
    let gateway = before(&origin).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("open");
    stream
        .write_all(opening("websocket").as_bytes())
        .await
        .expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.expect("a byte"));
    }
    let mut sent = vec![0; LENGTH];
    SmallRng::seed_from_u64(7).fill_bytes(&mut sent);
    let mut got = Vec::new();

    let (mut reading, mut writing) = stream.split();
    let write = async {
        // Uneven pieces, so that no buffer's size is met by chance.
        for piece in sent.chunks(70_001) {
            writing.write_all(piece).await.expect("the gateway reads");
        }
        writing.shutdown().await.expect("half-closed");
    };
    let both = async { tokio::join!(write, reading.read_to_end(&mut got)) };
    let ((), read) = within("the echo", both).await;

    assert_eq!(read.expect("a clean end"), LENGTH);
    assert!(got == sent, "the bytes differ");
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["status"], 101);
    assert_eq!(line["verdict"], serde_json::Value::Null);
    assert_eq!(line["bytes_in"], LENGTH);
    assert_eq!(line["bytes_out"], LENGTH);
    assert_eq!(line["path"], "/chat");
    assert_eq!(gateway.count(Counter::UpgradesStarted), 1);
    gateway.counts(Counter::UpgradesEnded, 1).await;
}

#[tokio::test]
async fn bytes_before_the_101_are_held_until_it_comes() {
    let (go, gone) = watch::channel(false);
    let origin = Origin::start(move |mut peer: Peer| {
        let mut gone = gone.clone();
        async move {
            if peer.head().await.is_some() {
                gone.wait_for(|go| *go).await.expect("the test goes on");
                peer.send(SWITCH).await;
                peer.echo().await;
            }
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = gateway.connect().await;
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(opening("websocket") + early).await;
    origin.wait_for_requests(1).await;

    assert!(client.quiet_for(Duration::from_millis(200)).await);
    assert!(!smuggled(&origin), "sent on before the 101");
    go.send_replace(true);

    assert_eq!(client.reply().await.status, 101);
    let echoed = client.read_at_least(early.len()).await;
    assert_eq!(String::from_utf8_lossy(&echoed), early);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn bytes_right_behind_the_101_reach_the_client() {
    let origin = answering(format!("{SWITCH}\u{1}hello")).await;
    let gateway = before(&origin).await;
    let mut client = open(gateway.address()).await;
    assert_eq!(client.read_at_least(6).await, b"\x01hello");
}

#[tokio::test]
async fn a_refused_upgrade_closes_and_its_bytes_are_never_a_request() {
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ] {
        let origin = answering(answer).await;
        let gateway = before(&origin).await;
        let (status, rest) = refused(&gateway, &(opening("websocket") + early)).await;
        assert!(answer.contains(&format!("1.1 {status}")), "{status}");
        assert_eq!(rest, b"", "{answer}");
        assert!(!smuggled(&origin), "{answer}");
    }
}

#[tokio::test]
async fn answers_of_our_own_to_an_upgrade_close_too() {
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (config, status) in [
        ("[routes.r]\nrespond = { body = \"no\" }\n", 200),
        ("[routes.r]\nredirect = { host = \"b.example\" }\n", 302),
        (
            "[routes.r]\nhosts = [\"other\"]\nrespond = { body = \"no\" }\n",
            404,
        ),
        ("[routes.r]\nto = \"127.0.0.1:1\"\n", 502),
    ] {
        let gateway = gateway(config).await;
        let (got, rest) = refused(&gateway, &(opening("websocket") + early)).await;
        assert_eq!((got, rest), (status, Vec::new()), "{config}");
    }
}

#[tokio::test]
async fn a_101_for_another_protocol_is_no_answer() {
    for answer in [
        "HTTP/1.1 101 X\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let origin = answering(answer).await;
        let gateway = before(&origin).await;
        let (status, _) = refused(&gateway, &(opening("websocket") + "early")).await;
        assert_eq!(status, 502, "{answer}");
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], "upstream_protocol");
        assert_eq!(gateway.count(Counter::UpgradesStarted), 0);
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let origin = answering(SWITCH).await;
    let gateway = before(&origin).await;
    let reply = gateway.get("a", "/").await;
    assert_eq!(reply.status, 502);
}

#[tokio::test]
async fn what_is_not_allowed_goes_on_as_an_ordinary_request() {
    let off = "upgrade = { protocols = [] }\n";
    for (more, request) in [
        (
            "",
            opening("h2c").replace(
                "Upgrade\r\n",
                "Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
        ),
        ("", opening("H2C, irc")),
        ("", opening("websocket/13")),
        (
            "",
            opening("websocket").replace("keep-alive, Upgrade", "keep-alive"),
        ),
        ("", opening("websocket").replace("GET", "POST")),
        ("", opening("websocket").replace("HTTP/1.1", "HTTP/1.0")),
        (off, opening("websocket")),
    ] {
        let origin = Origin::text("plain").await;
        let gateway = gateway(&format!("{}{more}", to(&origin))).await;
        let reply = gateway.ask(&request).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (200, "plain"),
            "{request}"
        );
        let seen = origin.requests().remove(0);
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(seen.header(name), None, "{request}");
        }
    }
}

#[tokio::test]
async fn of_several_protocols_the_first_allowed_one_is_asked_for() {
    let origin = echoing().await;
    let gateway = before(&origin).await;
    let mut client = gateway.connect().await;
    client.send(opening("h2c, irc/6.9, websocket")).await;
    assert_eq!(client.reply().await.header("upgrade"), Some("websocket"));
    assert_eq!(origin.requests()[0].header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn an_upgrade_with_a_body_and_a_connect_are_refused() {
    let origin = echoing().await;
    let gateway = before(&origin).await;
    let with_body = opening("websocket").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody");
    for (request, refusal) in [
        (with_body + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            .to_owned(), 501),
    ] {
        let (status, rest) = refused(&gateway, &request).await;
        assert_eq!((status, rest), (refusal, Vec::new()), "{request}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn each_side_may_close_its_half_first() {
    let origin = Origin::start(|mut peer: Peer| async move {
        if peer.head().await.is_some() {
            peer.send(SWITCH).await;
            peer.send("last words").await;
            peer.finish().await;
            let heard = peer.take(usize::MAX).await;
            assert_eq!(heard, b"still talking");
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = open(gateway.address()).await;

    assert_eq!(client.rest().await, b"last words");
    client.send("still talking").await;
    client.finish().await;

    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&13.into(), &10.into())
    );
    assert_eq!(line["verdict"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_side_that_breaks_off_takes_the_other_with_it() {
    let origin = Origin::start(|mut peer: Peer| async move {
        if peer.head().await.is_some() {
            peer.send(SWITCH).await;
            peer.take(5).await;
            if peer.number == 0 {
                peer.reset();
            } else {
                peer.hold().await;
            }
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = open(gateway.address()).await;
    client.send("break").await;
    assert_eq!(client.rest().await, b"");
    gateway.log().wait_for("verdict", "upstream_reset").await;

    let client = open(gateway.address()).await;
    client.reset();
    let line = gateway.log().wait_for("verdict", "client_closed").await;
    assert_eq!(line["status"], 101);
}

#[tokio::test]
async fn idle_and_maximum_durations_end_a_stream() {
    let origin = echoing().await;
    for (bound, verdict) in [
        ("idle_timeout = \"300ms\"", "upgrade_idle"),
        ("max_duration = \"300ms\"", "upgrade_expired"),
    ] {
        let gateway = gateway(&format!("{}upgrade = {{ {bound} }}\n", to(&origin))).await;
        let mut client = open(gateway.address()).await;
        client.send("x").await;
        assert_eq!(client.rest().await, b"x");
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], verdict);
        assert_eq!(line["status"], 101);
        assert!(line["duration_ms"].as_f64().expect("a number") >= 300.0);
    }
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_seat_and_its_place_in_the_budget() {
    let origin = echoing().await;
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nlimits = {{ connections = 2 }}\n\
         [routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\n\
         limits = {{ connections = 1, pending_requests = 0 }}\n",
        origin.address()
    );
    let gateway = Gateway::start(&config, 1).await;
    let first = open(gateway.address()).await;
    let mut second = gateway.connect().await;
    second.send(opening("websocket")).await;
    assert_eq!(second.reply().await.status, 503);
    assert_eq!(second.rest().await, b"");
    let mut held = gateway.connect().await;
    let mut third = gateway.connect().await;
    assert!(matches!(
        third.try_reply("GET").await,
        Err(NoReply::Closed(_) | NoReply::Reset)
    ));

    drop(first);
    gateway.counts(Counter::UpgradesEnded, 1).await;

    held.send(opening("websocket")).await;
    assert_eq!(held.reply().await.status, 101);
    assert_eq!(
        origin.connections(),
        2,
        "an upgraded connection is not used again"
    );
}

#[tokio::test]
async fn a_drain_ends_what_is_still_upgraded_at_its_deadline() {
    let origin = echoing().await;
    let mut gateway = before(&origin).await;
    let mut client = open(gateway.address()).await;
    let log = gateway.log();
    assert!(!gateway.drain(Duration::from_millis(300)).await);
    assert_eq!(client.rest().await, b"");
    assert_eq!(log.wait(1).await[0]["verdict"], "draining");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_websockets_live_through_a_thousand_reloads_of_other_routes() {
    let origin = echoing().await;
    let config = |number: usize| {
        format!(
            "{}hosts = [\"a.example\"]\n[routes.other]\nhosts = [\"b.example\"]\nrespond = {{ body = \"{number}\" }}\n",
            to(&origin)
        )
    };
    let gateway = gateway(&config(0)).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(open(gateway.address()).await);
    }
    for number in 1..=1000 {
        gateway.reload(&config(number)).await;
    }
    let after = gateway.get("b.example", "/").await;
    assert_eq!(after.text(), "1000");
    for (number, client) in clients.iter_mut().enumerate() {
        let text = format!("client {number}");
        client.send(&text).await;
        assert_eq!(client.read_at_least(text.len()).await, text.as_bytes());
    }
    assert_eq!(gateway.count(Counter::UpgradesEnded), 0);
    assert_eq!(http1::requests(&origin.saw()[0]).0.len(), 1);
}
