//! The engine takes a new configuration: what changed changes, what did not is not touched.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{Client, Origin, client::NoReply, eventually::eventually, gateway, http1};

#[tokio::test]
async fn routes_and_upstreams_change_while_connections_stay() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let config = |origin: &Origin| {
        format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\n",
            origin.address()
        )
    };
    let gateway = gateway(&config(&old)).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.text(), "old");
    gateway.reload(&config(&new)).await;
    assert_eq!(client.get("a", "/").await.text(), "new");
    let lines = gateway.log().wait(2).await;
    assert_ne!(lines[0]["version"], lines[1]["version"]);
    assert_eq!(lines[0]["connection"], lines[1]["connection"]);
}

#[tokio::test]
async fn a_listener_appears_moves_and_disappears() {
    let web =
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.r]\nrespond = { body = \"ok\" }\n";
    let gateway = gateway(web).await;
    let address = gateway.address();
    let mut kept = gateway.connect().await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");

    gateway
        .reload(&format!(
            "{web}[listeners.more]\naddress = \"127.0.0.1:0\"\n"
        ))
        .await;
    let more = gateway.address_of("more").expect("it appeared");
    assert_eq!(gateway.address(), address, "the other one stayed");
    assert_eq!(Client::connect(more).await.get("a", "/").await.text(), "ok");

    gateway
        .reload(&format!(
            "{web}[listeners.more]\naddress = \"127.0.0.2:0\"\n"
        ))
        .await;
    let moved = gateway.address_of("more").expect("it moved");
    assert_ne!(moved.ip(), more.ip());
    assert_eq!(
        Client::connect(moved).await.get("a", "/").await.text(),
        "ok"
    );
    closes(more).await;

    gateway.reload(web).await;
    assert_eq!(gateway.address_of("more"), None);
    closes(moved).await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");
}

async fn closes(address: std::net::SocketAddr) {
    sluice_tests::eventually::within("the port refuses", async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// An origin that streams without end.
async fn endless() -> Origin {
    Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        while peer.send("4\r\ntick\r\n").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_long_stream_survives_reloads_that_do_not_touch_its_route() {
    let origin = endless().await;
    let config = |other: usize| {
        format!(
            "[routes.stream]\nhosts = [\"stream.example\"]\nto = \"{}\"\n[routes.other]\nhosts = [\"other.example\"]\nrespond = {{ body = \"{other}\" }}\n",
            origin.address()
        )
    };
    let gateway = gateway(&config(0)).await;
    let mut stream = gateway.connect().await;
    stream
        .send("GET / HTTP/1.1\r\nHost: stream.example\r\n\r\n")
        .await;
    stream.read_at_least(100).await;
    for number in 1..=20 {
        gateway.reload(&config(number)).await;
        assert_eq!(
            gateway.get("other.example", "/").await.text(),
            number.to_string()
        );
        assert!(http1::find(&stream.read_at_least(18).await, b"tick").is_some());
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn pools_are_kept_by_what_did_not_change() {
    let origin = Origin::text("ok").await;
    let config = |other: usize| {
        format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\n[routes.other]\nhosts = [\"other.example\"]\nrespond = {{ body = \"{other}\" }}\n",
            origin.address()
        )
    };
    let gateway = sluice_tests::Gateway::start(&config(0), 1).await;
    for number in 1..=20 {
        assert_eq!(gateway.get("a", "/").await.status, 200);
        gateway.reload(&config(number)).await;
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_request_under_way_finishes_under_the_rule_it_began_with() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut peer| {
        let mut gate = gate.clone();
        async move {
            peer.request().await;
            if gate.wait_for(|open| *open).await.is_ok() {
                peer.send(sluice_tests::origin::ok("late")).await;
            }
        }
    })
    .await;
    let gateway = gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    gateway
        .reload("[routes.r]\nrespond = { body = \"new\" }\n")
        .await;
    assert_eq!(gateway.get("a", "/").await.text(), "new");
    go.send_replace(true);
    assert_eq!(client.reply().await.text(), "late");
}

#[tokio::test]
async fn a_snapshot_that_cannot_take_effect_leaves_everything_as_it_was() {
    let gateway = gateway("[routes.r]\nrespond = { body = \"old\" }\n").await;
    let occupied = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = occupied.local_addr().expect("an address");
    let refused = gateway
        .try_reload(&format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n[listeners.taken]\naddress = \"{address}\"\n[routes.r]\nrespond = {{ body = \"new\" }}\n"
        ))
        .await;
    assert!(refused.is_err_and(|problems| problems.contains("taken")));
    assert_eq!(gateway.get("a", "/").await.text(), "old");
    assert_eq!(gateway.count(Counter::ReloadsRefused), 1);
    let refused = gateway
        .try_reload("[routes.r]\nrespond = { file = \"/no/such/file\" }\n")
        .await;
    assert!(refused.is_err_and(|problems| problems.contains("/no/such/file")));
    assert_eq!(gateway.get("a", "/").await.text(), "old");
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut peer| {
        let mut gate = gate.clone();
        async move {
            peer.request().await;
            if gate.wait_for(|open| *open).await.is_ok() {
                peer.send(sluice_tests::origin::ok("late")).await;
            }
        }
    })
    .await;
    let mut gateway = gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await;
    let address = gateway.address();
    let mut idle = gateway.connect().await;
    let mut busy = gateway.connect().await;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    let waiting = async {
        closes(address).await;
        assert!(idle.rest().await.is_empty());
        go.send_replace(true);
        let reply = busy.reply().await;
        assert_eq!(reply.text(), "late");
        assert!(
            reply
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        );
    };
    let (in_time, ()) = tokio::join!(gateway.drain(Duration::from_secs(10)), waiting);
    assert!(in_time);
}

#[tokio::test]
async fn a_drain_ends_what_does_not_finish() {
    let origin = endless().await;
    let mut gateway = gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_at_least(100).await;
    assert!(!gateway.drain(Duration::from_millis(300)).await);
    let end = client.try_reply("GET").await;
    assert!(
        matches!(
            end,
            Err(NoReply::Closed(_) | NoReply::Reset | NoReply::Broken(_))
        ),
        "{end:?}"
    );
    eventually("the origin is left", || origin.saw().first().map(|_| ())).await;
}
