//! How tunnels last and end.

use std::time::Duration;

use sluice_tests::{
    Origin,
    eventually::within,
    origin::Peer,
    outside::{Outside, proxy, rule},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

/// A tunnel through which something went, to an origin that sends back what comes.
async fn echoing(origin: &Origin, listener: &str) -> (Outside, TcpStream, String) {
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "protocols = \"tcp\"");
    let outside = Outside::start(&["ok.test"], listener, &rules).await;
    let mut stream = outside.tunnel(&format!("ok.test:{port}")).await;
    ping(&mut stream).await;
    (outside, stream, rules)
}

async fn echo() -> Origin {
    Origin::start(|mut peer: Peer| async move { peer.echo().await }).await
}

async fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.expect("sent");
    let mut answer = [0; 4];
    let read = within("an echo", stream.read_exact(&mut answer)).await;
    read.expect("an echo");
    assert_eq!(&answer, b"ping");
}

/// How long it takes until it is closed.
async fn closes(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    let read = within("it closes", stream.read_to_end(&mut rest)).await;
    drop(read);
    started.elapsed()
}

#[tokio::test]
async fn each_side_closes_by_itself_and_every_byte_arrives() {
    let origin = echo().await;
    let (outside, stream, _) = echoing(&origin, "").await;
    let sent = vec![7; 3 << 20];
    let (mut reading, mut writing) = stream.into_split();
    let mut got = Vec::new();
    let write = async {
        writing.write_all(&sent).await.expect("sent");
        writing.shutdown().await.expect("half-closed");
    };
    let both = async { tokio::join!(write, reading.read_to_end(&mut got)) };
    let ((), read) = within("the echo", both).await;
    assert_eq!(read.expect("a clean end"), sent.len());
    let line = outside.line("ok.test").await;
    assert_eq!(line["verdict"], serde_json::Value::Null);
    assert_eq!(line["bytes_in"], sent.len() + 4);
    assert_eq!(line["bytes_out"], sent.len() + 4);
}

#[tokio::test]
async fn tunnels_have_the_limits_of_streams() {
    let origin = echo().await;
    for (limit, verdict) in [
        ("idle_timeout = \"300ms\"", "stream_idle"),
        ("max_duration = \"300ms\"", "stream_expired"),
    ] {
        let listener = format!("stream = {{ {limit} }}");
        let (outside, mut stream, _) = echoing(&origin, &listener).await;
        closes(&mut stream).await;
        let line = outside.line("ok.test").await;
        assert_eq!(line["verdict"], verdict, "{line}");
        assert_eq!(line["status"], 200, "{line}");
    }
}

#[tokio::test]
async fn a_rule_that_is_gone_ends_its_tunnels_after_their_grace() {
    let origin = echo().await;
    let listener = "stream = { drain = \"500ms\" }";
    let (outside, mut stream, rules) = echoing(&origin, listener).await;
    let names = outside.names.config();
    let with = |rules: &str| proxy(listener, &format!("{rules}\n{names}"));

    // What does not concern it leaves it alone.
    let more = format!("{rules}\n{}", rule("more", "\"more.test\"", 443, ""));
    outside.gateway.reload(&with(&more)).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    ping(&mut stream).await;

    outside
        .gateway
        .reload(&with(&rule("more", "\"more.test\"", 443, "")))
        .await;
    ping(&mut stream).await;
    let lasted = closes(&mut stream).await;
    assert!(lasted >= Duration::from_millis(300), "{lasted:?}");
    let line = outside.line("ok.test").await;
    assert_eq!(line["verdict"], "draining", "{line}");
}

#[tokio::test]
async fn a_drain_waits_for_tunnels_and_then_ends_them() {
    let origin = echo().await;
    let (mut outside, mut stream, _) = echoing(&origin, "").await;
    let log = outside.gateway.log();
    assert!(!outside.gateway.drain(Duration::from_millis(300)).await);
    assert!(
        timeout(Duration::from_secs(5), closes(&mut stream))
            .await
            .is_ok()
    );
    assert_eq!(log.wait(1).await[0]["verdict"], "draining");
}

#[tokio::test]
async fn names_that_somebody_made_up_do_not_pile_up() {
    const MOST: usize = 4096;
    let rules = rule("all", "\"*.test\"", 80, "protocols = \"http\"");
    let names = sluice_tests::name_server::NameServer::start().await;
    let dns = names.config_with("min_refresh = \"10m\"\nmax_refresh = \"10m\"");
    let gateway = sluice_tests::gateway(&proxy("", &format!("{rules}\n{dns}"))).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let address = gateway.address();
        clients.spawn(async move {
            let mut client_of = sluice_tests::Client::connect(address).await;
            for number in 0..MOST / 16 + 20 {
                let host = format!("h{number}.c{client}.test");
                let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
                client_of.send(request).await;
                assert_eq!(client_of.reply().await.status, 503, "{host}");
            }
        });
    }
    clients.join_all().await;
    assert_eq!(gateway.names_kept(), MOST);
    // What was asked for last is there.
    let before = names.asked();
    let host = "h0.c0.test";
    for _ in 0..3 {
        let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(gateway.ask(request).await.status, 503);
    }
    assert!(names.asked() <= before + 1);
    assert_eq!(gateway.names_kept(), MOST);
}
