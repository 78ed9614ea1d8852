//! One port for several protocols: the first bytes, of either side, say which one it is.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Sniffed;
use sluice_tests::{
    Client, Front, Gateway, Origin,
    eventually::{becomes, eventually},
    gateway,
    h2::wire,
    tls::{Pki, secure},
};
use tokio::time::Instant;

/// A listener on which anything may be spoken, with these keys and objects.
fn auto(listener: &str, objects: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"auto\"\n{listener}\n{objects}"
    )
}

/// A route for raw streams.
fn raw(origin: &Origin) -> String {
    let to = origin.address();
    format!("[routes.raw]\nlisteners = [\"web\"]\nmode = \"tcp\"\nto = \"{to}\"\n")
}

const HTTP: &str = "[routes.h]\nlisteners = [\"web\"]\nrespond = { body = \"hello\" }\n";

/// Says `greeting` to whoever connects, then answers each line with it.
async fn greets(greeting: &'static str) -> Origin {
    Origin::start(move |mut peer| async move {
        peer.send(greeting).await;
        peer.echo().await;
    })
    .await
}

/// Says nothing before it was spoken to.
async fn echoes() -> Origin {
    Origin::start(|mut peer| async move {
        peer.read().await;
        peer.echo().await;
    })
    .await
}

async fn sniffed(gateway: &Gateway, outcome: Sniffed, count: u64) {
    let what = format!("{} sniffed", outcome.word());
    becomes(&what, count, || gateway.sniffed("web", outcome)).await;
}

#[tokio::test]
async fn one_port_serves_whatever_is_spoken_first() {
    let pki = Pki::new();
    let origin = echoes().await;
    let objects = pki.certificate("a", &["a.example"]) + HTTP + &raw(&origin);
    let gateway = gateway(&auto("", &objects)).await;

    assert_eq!(gateway.get("a.example", "/").await.text(), "hello");
    sniffed(&gateway, Sniffed::Http1, 1).await;

    let mut client = gateway.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = wire::settings(&[]);
    let request = wire::request(1, &wire::get("/"));
    client
        .send([&preface[..], &settings, &request].concat())
        .await;
    assert_eq!(client.read_at_least(9).await[3], 4, "settings");
    sniffed(&gateway, Sniffed::Http2, 1).await;

    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.text(), "hello");
    sniffed(&gateway, Sniffed::Tls, 1).await;

    // Protocols of lines, of numbers, and one whose first word is a method.
    for (number, said) in [
        "PING\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "GET key\r\n",
        "\0\u{1}\u{2}",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.connect().await;
        client.send(said).await;
        assert_eq!(client.read_at_least(said.len()).await, said.as_bytes());
        client.send("more").await;
        assert_eq!(client.read_at_least(4).await, b"more");
        client.finish().await;
        assert_eq!(client.rest().await, b"");
        sniffed(&gateway, Sniffed::Raw, number as u64 + 1).await;
    }
    let line = gateway.log().wait_for("route", "raw").await;
    assert_eq!(line["scheme"], "tcp");
    assert_eq!(line["endpoint"], origin.address().to_string());
    // What it turned out not to be is nowhere told of.
    assert_eq!(gateway.sniffed("web", Sniffed::ServerFirst), 0);
    let log = gateway.log();
    let raw = || {
        log.lines()
            .iter()
            .filter(|line| line["route"] == "raw")
            .count()
    };
    becomes("lines of raw streams", 4, raw).await;
}

#[tokio::test]
async fn slow_first_bytes_are_put_together() {
    let origin = echoes().await;
    let gateway = gateway(&auto("", &(HTTP.to_owned() + &raw(&origin)))).await;
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut client = gateway.connect().await;
    for byte in request.as_bytes() {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.reply().await.text(), "hello");
    let mut client = gateway.connect().await;
    for byte in b"GET key\r\n" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.read_at_least(9).await, b"GET key\r\n");
}

#[tokio::test]
async fn an_endpoint_that_speaks_first_is_heard() {
    let origin = greets("220 mail.example ready\r\n").await;
    let gateway = gateway(&auto("", &(HTTP.to_owned() + &raw(&origin)))).await;
    for number in 1..=20 {
        let mut client = gateway.connect().await;
        assert_eq!(
            client.read_at_least(24).await,
            b"220 mail.example ready\r\n"
        );
        client.send("EHLO a.example\r\n").await;
        assert_eq!(client.read_at_least(16).await, b"EHLO a.example\r\n");
        sniffed(&gateway, Sniffed::ServerFirst, number).await;
    }
    assert_eq!(origin.connections(), 20, "one connection each");
}

#[tokio::test]
async fn clients_of_http_are_not_interrupted_by_an_endpoint_that_speaks_first() {
    let origin = greets("220 mail.example ready\r\n").await;
    let gateway = gateway(&auto("", &(HTTP.to_owned() + &raw(&origin)))).await;
    for _ in 0..50 {
        assert_eq!(gateway.get("a.example", "/").await.text(), "hello");
    }
    sniffed(&gateway, Sniffed::Http1, 50).await;
    // What was not needed is closed, and got nothing.
    becomes("open connections", 0, || origin.open_now()).await;
    assert!(origin.saw().iter().all(Vec::is_empty));
    let lines = gateway.log().wait(50).await;
    assert!(lines.iter().all(|line| line["route"] == "h"), "{lines:?}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_leaves_the_client_time_to_speak() {
    let (dead, _guard) = sluice_tests::origin::closed_port();
    let objects =
        format!("{HTTP}[routes.raw]\nlisteners = [\"web\"]\nmode = \"tcp\"\nto = \"{dead}\"\n");
    let gateway = gateway(&auto("timeouts = { sniff = \"1s\" }", &objects)).await;
    let mut client = gateway.connect().await;
    assert!(client.quiet_for(Duration::from_millis(50)).await);
    assert_eq!(client.get("a.example", "/").await.text(), "hello");
    // Who says nothing gets nothing, and that is told of.
    let mut client = gateway.connect().await;
    assert_eq!(client.rest().await, b"");
    let line = gateway.log().wait_for("verdict", "connect").await;
    assert_eq!(line["route"], "raw");
}

#[tokio::test]
async fn who_says_nothing_is_a_raw_stream_where_there_are_some_and_else_leaves() {
    let origin = echoes().await;
    let timeouts = "timeouts = { sniff = \"200ms\" }";
    let gateway = gateway(&auto(timeouts, &(HTTP.to_owned() + &raw(&origin)))).await;
    let mut client = gateway.connect().await;
    sniffed(&gateway, Sniffed::Silent, 1).await;
    client.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(client.read_at_least(16).await, b"GET / HTTP/1.1\r\n");

    let gateway = sluice_tests::gateway(&auto(timeouts, HTTP)).await;
    let (started, mut client) = (Instant::now(), gateway.connect().await);
    client.send("GE").await;
    assert_eq!(client.rest().await, b"");
    assert!(started.elapsed() >= Duration::from_millis(200));
    sniffed(&gateway, Sniffed::Silent, 1).await;
    // And there is nobody for what is neither.
    let mut client = gateway.connect().await;
    client.send([0, 1, 2]).await;
    assert_eq!(client.rest().await, b"");
    let line = gateway.log().wait_for("verdict", "no_route").await;
    assert_eq!(line["listener"], "web");
}

#[tokio::test]
async fn tls_is_passed_through_or_ended_by_name_on_such_a_port_too() {
    let pki = Pki::new();
    let behind = Origin::text("passed").await;
    let leaf = pki.authority.server(&["p.example"]);
    let server = sluice_certs::testing::Server::new(&leaf, &["http/1.1"], None, false);
    let theirs = Front::before(behind.address(), server).await;
    let origin = greets("220\r\n").await;
    let objects = pki.certificate("a", &["a.example"])
        + HTTP
        + &raw(&origin)
        + &format!(
            "[routes.p]\nlisteners = [\"web\"]\nmode = \"passthrough\"\nhosts = [\"p.example\"]\nto = \"{}\"\n",
            theirs.address()
        );
    let gateway = gateway(&auto("", &objects)).await;
    let mut client = secure(&pki.client(), gateway.address(), "p.example").await;
    assert_eq!(client.get("p.example", "/").await.text(), "passed");
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.text(), "hello");
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.read_at_least(5).await, b"220\r\n");
}

#[tokio::test]
async fn a_client_that_is_done_at_once_still_gets_its_answer() {
    let origin = greets("12:00\r\n").await;
    let gateway = gateway(&auto("", &raw(&origin))).await;
    let mut client = gateway.connect().await;
    client.finish().await;
    assert_eq!(client.rest().await, b"12:00\r\n");
    eventually("the origin is told", || {
        (origin.open_now() == 0).then_some(())
    })
    .await;
}
