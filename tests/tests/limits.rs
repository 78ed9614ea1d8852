//! Every timeout and every limit, with short configured values.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, Gateway, Origin, client::NoReply, eventually::within, gateway, origin::ok,
};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

async fn listening(keys: &str, to: &str) -> Gateway {
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n{keys}\n[routes.r]\n{to}\n"
    ))
    .await
}

/// An origin that never answers.
async fn silent() -> Origin {
    Origin::start(|mut peer| async move { peer.hold().await }).await
}

#[tokio::test]
async fn a_head_has_a_total_deadline_however_steadily_it_trickles() {
    let gateway = listening("timeouts = { request_head = \"400ms\" }", "respond = {}").await;
    let mut client = gateway.connect().await;
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    while client.try_send("x").await && begun.elapsed() < Duration::from_secs(10) {
        if !client.quiet_for(Duration::from_millis(50)).await {
            break;
        }
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(
        (line["status"].as_u64(), line["verdict"].as_str()),
        (Some(408), Some("head_timeout"))
    );
}

#[tokio::test]
async fn an_unused_connection_is_closed_before_and_after_a_request() {
    let gateway = listening("timeouts = { idle = \"300ms\" }", "respond = {}").await;
    let mut fresh = gateway.connect().await;
    let mut used = gateway.connect().await;
    assert_eq!(used.get("a", "/").await.status, 200);
    assert!(within("the fresh one", fresh.rest()).await.is_empty());
    assert!(within("the used one", used.rest()).await.is_empty());
}

#[tokio::test]
async fn a_request_body_that_pauses_too_long_is_a_408() {
    let origin = silent().await;
    let gateway = listening(
        "timeouts = { request_body = \"300ms\" }",
        &format!("to = \"{}\"", origin.address()),
    )
    .await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nsome")
        .await;
    assert_eq!(client.reply().await.status, 408);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "body_timeout");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_accepts_nothing_is_given_up() {
    let origin = Origin::raw(ok(&"x".repeat(32 << 20))).await;
    let gateway = listening(
        "timeouts = { write_stall = \"400ms\" }",
        &format!("to = \"{}\"", origin.address()),
    )
    .await;
    let mut client = Client::connect_narrow(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "client_stalled");
}

#[tokio::test]
async fn connecting_has_a_deadline() {
    // A full accept queue swallows what comes next.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(1).expect("a queue");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = timeout(
        Duration::from_millis(300),
        tokio::net::TcpStream::connect(address),
    )
    .await
    {
        held.push(stream);
    }
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{address}\"]\ntimeouts = {{ connect = \"300ms\" }}\n"
    ))
    .await;
    assert_eq!(gateway.get("a", "/").await.status, 504);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "connect_timeout");
}

#[tokio::test]
async fn the_head_of_a_response_has_a_deadline() {
    let origin = silent().await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\ntimeouts = {{ response_head = \"300ms\" }}\n",
        origin.address()
    ))
    .await;
    assert_eq!(gateway.get("a", "/").await.status, 504);
    assert_eq!(
        gateway.log().wait(1).await[0]["verdict"],
        "response_timeout"
    );
}

#[tokio::test]
async fn a_whole_request_has_the_deadline_of_its_rule_then_of_its_route() {
    let origin = silent().await;
    let gateway = gateway(&format!(
        "[routes.r]\ntimeout = \"300ms\"\n[[routes.r.rules]]\nmatch = {{ path = \"/rule\" }}\ntimeout = \"600ms\"\nto = \"{0}\"\n[[routes.r.rules]]\nto = \"{0}\"\n",
        origin.address()
    ))
    .await;
    for (path, least) in [("/rule", 600), ("/route", 300)] {
        let begun = Instant::now();
        assert_eq!(gateway.get("a", path).await.status, 504);
        assert!(begun.elapsed() >= Duration::from_millis(least), "{path}");
        assert_eq!(
            gateway.log().wait_for("path", path).await["verdict"],
            "request_timeout"
        );
    }
}

#[tokio::test]
async fn a_trickling_response_is_cut_by_the_deadline_of_its_rule() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        while peer.send("1\r\nx\r\n").await {
            sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let gateway = gateway(&format!(
        "[routes.r]\ntimeout = \"400ms\"\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reply = client.try_reply("GET").await;
    assert!(
        matches!(reply, Err(NoReply::Closed(_) | NoReply::Reset)),
        "{reply:?}"
    );
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "request_timeout");
}

#[tokio::test]
async fn head_target_and_field_count_have_configured_bounds() {
    let gateway = listening(
        "limits = { head = \"8KiB\", uri = \"256B\", headers = 8 }",
        "respond = {}",
    )
    .await;
    let fields = |count: usize| {
        (1..count).fold(String::new(), |all, number| {
            all + &format!("X-{number}: y\r\n")
        })
    };
    let get = |path: &str, fields: &str| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let long = |length: usize| "x".repeat(length);
    for (request, status, word) in [
        (get("", &fields(8)), 200, ""),
        (get("", &fields(9)), 431, "head_too_large"),
        (get(&long(255), ""), 200, ""),
        (get(&long(256), ""), 414, "uri_too_long"),
        (get("", &format!("X: {}\r\n", long(7000))), 200, ""),
        (
            get("", &format!("X: {}\r\n", long(8200))),
            431,
            "head_too_large",
        ),
    ] {
        let before = gateway.log().lines().len();
        let reply = gateway.ask(&request).await;
        assert_eq!(
            reply.status,
            status,
            "{}",
            &request[..40.min(request.len())]
        );
        let line = gateway.log().wait(before + 1).await.pop().expect("a line");
        assert_eq!(line["verdict"].as_str().unwrap_or_default(), word);
    }
}

#[tokio::test]
async fn bodies_have_a_bound_by_length_and_by_count() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!(
        "[routes.r]\nmax_body = \"8B\"\nto = \"{0}\"\n[[routes.r.rules]]\nmatch = {{ path = \"/free\" }}\nmax_body = \"off\"\nto = \"{0}\"\n",
        origin.address()
    ))
    .await;
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n12345678",
            200,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789",
            413,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n",
            200,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n",
            413,
        ),
        (
            "POST /free HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789",
            200,
        ),
    ] {
        let before = gateway.log().lines().len();
        assert_eq!(gateway.ask(request).await.status, status, "{request}");
        let line = gateway.log().wait(before + 1).await.pop().expect("a line");
        let word = if status == 413 { "body_too_large" } else { "" };
        assert_eq!(
            line["verdict"].as_str().unwrap_or_default(),
            word,
            "{request}"
        );
    }
    assert!(
        origin
            .requests()
            .iter()
            .all(|request| request.body.len() <= 9)
    );
}

#[tokio::test]
async fn a_listener_bounds_its_connections() {
    let gateway = listening("limits = { connections = 2 }", "respond = {}").await;
    let mut first = gateway.connect().await;
    let mut second = gateway.connect().await;
    assert_eq!(first.get("a", "/").await.status, 200);
    assert_eq!(second.get("a", "/").await.status, 200);
    let mut third = gateway.connect().await;
    assert!(third.rest().await.is_empty());
    assert_eq!(gateway.count(Counter::ConnectionsRefused), 1);
    drop(first);
    let reply = within("a place is free again", async {
        loop {
            let mut client = gateway.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if let Ok(reply) = client.try_reply("GET").await {
                return reply;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_listener_bounds_the_connections_of_one_client() {
    let gateway = listening("limits = { connections_per_client = 1 }", "respond = {}").await;
    let mut first = gateway.connect().await;
    assert_eq!(first.get("a", "/").await.status, 200);
    let mut second = gateway.connect().await;
    assert!(second.rest().await.is_empty());
    // Another address of this machine is another client.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 2], 0).into()).expect("127.0.0.2");
    let mut other = Client::from(
        socket
            .connect(gateway.address())
            .await
            .expect("a connection"),
    );
    assert_eq!(other.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn an_upstream_bounds_its_connections_and_those_who_wait() {
    let origin = silent().await;
    let gateway = Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\nlimits = {{ connections = 1, pending_requests = 1 }}\n",
            origin.address()
        ),
        1,
    )
    .await;
    let mut waiting = Vec::new();
    for number in 0..2 {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        if number == 0 {
            origin.wait_for_requests(1).await;
        }
        assert!(
            client.quiet_for(Duration::from_millis(200)).await,
            "the {number}th waits"
        );
        waiting.push(client);
    }
    let reply = gateway.get("a", "/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "overflow");
    assert_eq!(origin.connections(), 1);
}
