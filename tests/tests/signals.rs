//! How the program ends: signals, and what becomes of requests under way.

use std::time::Duration;

use sluice_tests::{
    Client, Origin,
    eventually::{becomes, within},
    origin::ok,
    process::Sluice,
    reach::{Pieces, refuses, streaming},
};
use tokio::time::{Instant, sleep, timeout};

/// A whole configuration.
fn config(rest: &str, drain_timeout: &str) -> String {
    format!(
        "[process]\nworkers = 2\nstate_directory = \"state\"\ndrain_timeout = \"{drain_timeout}\"\n\
         [access_log]\noutput = {{ file = \"access.jsonl\" }}\n\
         [listeners.web]\naddress = \"{{address}}\"\n{rest}"
    )
}

/// A gateway with a request under way, and a connection that has nothing to do.
struct Busy {
    gateway: Sluice,
    tell: Pieces,
    client: Client,
    idle: Client,
    _origin: Origin,
}

async fn busy(drain_timeout: &str) -> Busy {
    let (origin, tell) = streaming().await;
    let text = format!(
        "[routes.slow]\nhosts = \"slow.example\"\nto = \"{}\"\n[routes.app]\nrespond = {{}}\n",
        origin.address()
    );
    let gateway = Sluice::run(&config(&text, drain_timeout)).await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.get("a", "/").await.status, 200);
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n")
        .await;
    origin.wait_for_requests(1).await;
    tell.send_replace((1, false));
    assert!(client.read_at_least(20).await.starts_with(b"HTTP/1.1 200"));
    Busy {
        gateway,
        tell,
        client,
        idle,
        _origin: origin,
    }
}

#[tokio::test]
async fn sigterm_and_sigint_finish_what_is_under_way_take_nothing_new_and_end_with_0() {
    for signal in ["TERM", "INT"] {
        let mut busy = busy("60s").await;
        busy.gateway.signal(signal);
        refuses(busy.gateway.address()).await;
        assert!(
            within("idle connections are closed", busy.idle.rest())
                .await
                .is_empty()
        );
        busy.tell.send_replace((2, true));
        let rest = String::from_utf8(busy.client.rest().await).expect("text");
        assert!(rest.ends_with("piece-2;\r\n0\r\n\r\n"), "{rest:?}");
        assert_eq!(busy.gateway.ends().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mut busy = busy("300ms").await;
    let begun = Instant::now();
    busy.gateway.signal("TERM");
    let status = busy.gateway.ends().await;
    assert_eq!(status.code(), Some(0), "{}", busy.gateway.output());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(!String::from_utf8_lossy(&busy.client.rest().await).ends_with("0\r\n\r\n"));
    let line = busy.gateway.log().wait_for("route", "slow").await;
    assert!(
        !line["verdict"].is_null(),
        "cut off, and the log says so: {line}"
    );
}

#[tokio::test]
async fn a_second_signal_forces() {
    let mut busy = busy("60s").await;
    busy.gateway.signal("TERM");
    refuses(busy.gateway.address()).await;
    busy.gateway.signal("TERM");
    let status = busy.gateway.ends().await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
}

#[tokio::test]
async fn sigquit_ends_at_once() {
    let mut busy = busy("60s").await;
    busy.gateway.signal("QUIT");
    let status = busy.gateway.ends().await;
    assert!(status.code().is_some(), "it ended by itself: {status}");
}

#[tokio::test]
async fn a_request_that_arrives_while_draining_is_answered_and_is_the_last() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            sleep(Duration::from_millis(300)).await;
            peer.send(ok("late")).await;
        }
    })
    .await;
    let text = format!("[routes.slow]\nto = \"{}\"\n", origin.address());
    let mut gateway = Sluice::run(&config(&text, "10s")).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    gateway.signal("TERM");
    let reply = client.reply().await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close"))
    );
    assert!(client.rest().await.is_empty());
    assert!(
        timeout(Duration::from_secs(5), gateway.ends())
            .await
            .expect("soon")
            .success()
    );
    becomes("what came", 1, || origin.requests().len()).await;
}

#[tokio::test]
async fn sigusr1_opens_the_access_log_anew_and_sigusr2_does_no_harm() {
    let gateway = Sluice::run(&config("[routes.app]\nrespond = {}\n", "5s")).await;
    let log = gateway.folder().path().join("access.jsonl");
    let moved = gateway.folder().path().join("access.jsonl.1");
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/before").await.status, 200);
    let has = |path: &std::path::Path, word: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(word))
    };
    becomes("the first line is written", true, || has(&log, "/before")).await;

    std::fs::rename(&log, &moved).unwrap();
    gateway.signal("USR1");
    gateway.says("access log reopened").await;
    gateway.signal("USR2");
    gateway.says("cannot hand over").await;

    assert_eq!(client.get("a", "/after").await.status, 200);
    becomes("the next line is in the new file", true, || {
        has(&log, "/after")
    })
    .await;
    assert!(!has(&moved, "/after") && has(&moved, "/before"));
}
