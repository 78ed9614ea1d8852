//! Connections to endpoints: kept, aged, retired, and retried when they died meanwhile.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{Gateway, Origin, eventually::becomes, origin::ok};

/// One worker, so that every request finds the same pool.
async fn to(origin: &Origin, keys: &str) -> Gateway {
    Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\n{keys}\n",
            origin.address()
        ),
        1,
    )
    .await
}

#[tokio::test]
async fn a_connection_is_used_again_whoever_the_client_is() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin, "").await;
    for _ in 0..10 {
        assert_eq!(gateway.get("a", "/").await.status, 200);
    }
    assert_eq!(origin.connections(), 1);
    let lines = gateway.log().wait(10).await;
    assert_eq!(lines[0]["reused"], false);
    assert!(lines[1..].iter().all(|line| line["reused"] == true));
    assert_eq!(gateway.count(Counter::UpstreamConnections), 1);
    assert_eq!(gateway.count(Counter::UpstreamAttempts), 10);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin, "pool = { idle_timeout = \"200ms\" }").await;
    gateway.get("a", "/").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    gateway.get("a", "/").await;
    assert_eq!(origin.connections(), 2);
    assert_eq!(gateway.count(Counter::UpstreamRetries), 0);
}

#[tokio::test]
async fn a_connection_is_retired_by_its_age() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin, "pool = { max_age = \"300ms\" }").await;
    gateway.get("a", "/").await;
    gateway.get("a", "/").await;
    assert_eq!(origin.connections(), 1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    gateway.get("a", "/").await;
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_connection_is_retired_by_the_requests_it_served() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin, "pool = { requests_per_connection = 3 }").await;
    for _ in 0..9 {
        assert_eq!(gateway.get("a", "/").await.status, 200);
    }
    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn an_origin_that_says_close_is_taken_at_its_word() {
    let origin =
        Origin::raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = to(&origin, "").await;
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        // The word is for us; the client's connection lives.
        assert_eq!(client.get("a", "/").await.text(), "ok");
    }
    assert_eq!(origin.connections(), 3);
}

/// The first connection dies with its second request, before a byte of an answer.
async fn dies_when_used_again() -> Origin {
    Origin::start(|mut peer| async move {
        let mut served = 0;
        while peer.request().await.is_some() {
            served += 1;
            if served == 2 && peer.number == 0 {
                return peer.reset();
            }
            peer.send(ok("ok")).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_reused_connection_that_dies_is_tried_once_more_on_a_fresh_one() {
    let origin = dies_when_used_again().await;
    let gateway = to(&origin, "").await;
    assert_eq!(gateway.get("a", "/1").await.status, 200);
    assert_eq!(gateway.get("a", "/2").await.status, 200);
    assert_eq!(origin.connections(), 2);
    assert_eq!(gateway.count(Counter::UpstreamRetries), 1);
    let line = gateway.log().wait_for("path", "/2").await;
    assert_eq!(line["attempts"], 2);
    assert!(line["verdict"].is_null());
}

#[tokio::test]
async fn a_request_that_may_have_had_its_effect_is_not_repeated() {
    let origin = dies_when_used_again().await;
    let gateway = to(&origin, "").await;
    assert_eq!(gateway.get("a", "/1").await.status, 200);
    let reply = gateway
        .ask("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\npay")
        .await;
    assert_eq!(reply.status, 502);
    let paid = origin
        .requests()
        .iter()
        .filter(|request| request.second() == "/2")
        .count();
    assert_eq!(paid, 1);
    assert_eq!(
        gateway.log().wait_for("path", "/2").await["verdict"],
        "upstream_reset"
    );
}

#[tokio::test]
async fn a_connection_that_the_origin_closed_while_idle_does_no_harm_to_any_method() {
    let origin = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(ok("ok")).await;
        }
    })
    .await;
    let gateway = to(&origin, "").await;
    for number in 0..10 {
        let reply = gateway
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\npay")
            .await;
        assert_eq!(reply.status, 200, "request {number}");
        // The close has arrived when the next request comes.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(origin.requests().len(), 10);
}

#[tokio::test]
async fn a_fresh_connection_that_fails_is_not_tried_again() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    let gateway = to(&origin, "").await;
    assert_eq!(gateway.get("a", "/").await.status, 502);
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(gateway.count(Counter::UpstreamRetries), 0);
}

#[tokio::test]
async fn idle_connections_are_bounded() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.send(ok("ok")).await;
        }
        peer.send("").await;
    })
    .await;
    let gateway = to(&origin, "pool = { idle_connections = 2 }").await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    assert_eq!(origin.connections(), 6);
    // Of the six, two are kept: the next two need none of their own.
    for client in clients.iter_mut().take(2) {
        assert_eq!(client.get("a", "/").await.status, 200);
    }
    assert_eq!(origin.connections(), 6);
    let mut again = Vec::new();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    for client in &mut clients {
        again.push(client.reply().await.status);
    }
    assert_eq!(again, [200; 6]);
    assert_eq!(origin.connections(), 10);
}

#[tokio::test]
async fn the_budget_of_an_upstream_is_shared_by_all_workers() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peer.send(ok("ok")).await;
        }
    })
    .await;
    let gateway = Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\nlimits = {{ connections = 4, pending_requests = 100 }}\n",
            origin.address()
        ),
        2,
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    // Each worker may always hold one, so the budget can be exceeded by workers − 1; and the origin
    // may hear of a new connection before it hears that an old one is closed.
    assert!(origin.most_at_once() <= 8, "{}", origin.most_at_once());
    becomes("every request reached the origin", 30, || {
        origin.requests().len()
    })
    .await;
}
