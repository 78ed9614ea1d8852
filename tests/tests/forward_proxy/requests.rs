//! Requests in absolute form.

use sluice_tests::{
    Client, Origin,
    outside::{Outside, rule},
};

#[tokio::test]
async fn a_request_goes_out_in_origin_form_and_says_nothing_of_who_asked() {
    let origin = Origin::echo().await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let mut client = outside.gateway.connect().await;
    for _ in 0..2 {
        client
            .send(format!(
                "POST http://ok.test:{port}/a/./b?c=%2f HTTP/1.1\r\nHost: OK.test:{port}\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic YTpi\r\n\
                 X-Forwarded-For: 10.0.0.1\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Own: 1\r\n\
                 Content-Length: 5\r\n\r\nhello"
            ))
            .await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let seen = origin.requests().remove(0);
    assert_eq!(seen.start, "POST /a/b?c=%2f HTTP/1.1");
    assert_eq!(seen.header("host"), Some(&*format!("ok.test:{port}")));
    assert_eq!(seen.header("x-own"), Some("1"));
    assert_eq!(seen.body, b"hello");
    let names: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    for name in &names {
        let is_own = matches!(&**name, "host" | "x-own" | "content-length");
        assert!(is_own, "{name} of {names:?}");
    }
    assert_eq!(origin.connections(), 1, "a connection is used again");
    let line = outside.line("ok.test").await;
    assert_eq!(line["egress"], "ok");
    assert_eq!(line["path"], "/a/b");
    assert_eq!(line["port"], port);
    assert_eq!(outside.names.asked(), 1);
}

#[tokio::test]
async fn what_does_not_say_plainly_where_it_goes_is_refused() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"*.test\"", port, "");
    let outside = Outside::start(&["ok.test", "other.test"], "", &rules).await;
    let at = format!("ok.test:{port}");
    for (request, verdict) in [
        // RFC 9112 §3.2.2: the target wins; who says two things is not believed either of them.
        (
            format!("GET http://{at}/ HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n"),
            "bad_request",
        ),
        (
            format!("GET http://{at}/ HTTP/1.1\r\nHost: ok.test\r\n\r\n"),
            "bad_request",
        ),
        (
            format!("CONNECT {at} HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n"),
            "bad_request",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n"),
            "egress_target",
        ),
        (
            format!("GET https://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
            "egress_target",
        ),
        (
            format!("OPTIONS * HTTP/1.1\r\nHost: {at}\r\n\r\n"),
            "egress_target",
        ),
    ] {
        let reply = outside.gateway.ask(&request).await;
        assert_eq!(reply.status, 400, "{request}");
        outside.gateway.log().wait_for("verdict", verdict).await;
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(outside.gateway.egress(""), [0, 6, 0]);
}

#[tokio::test]
async fn methods_and_paths_are_held_against_the_rule_and_make_no_tunnel() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let more = "methods = [\"GET\"]\npaths = [{ prefix = \"/debian\" }]";
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, more)).await;
    let at = format!("ok.test:{port}");
    assert_eq!(
        outside.get(&format!("http://{at}/debian/a")).await.status,
        200
    );
    for path in [
        "/",
        "/debian/../secret",
        "/debianx",
        "/debian/%2e%2e/secret",
    ] {
        let reply = outside.get(&format!("http://{at}{path}")).await;
        assert_eq!(reply.status, 403, "{path}");
    }
    let request =
        format!("PUT http://{at}/debian/a HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(outside.gateway.ask(&request).await.status, 403);
    assert_eq!(outside.connect(&at).await.0.status, 403);
    let log = outside.gateway.log();
    for reason in ["path", "method", "protocol"] {
        log.wait_for("egress_reason", reason).await;
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_no_matter_of_rules() {
    let (address, _guard) = sluice_tests::origin::closed_port();
    let port = address.port();
    let rules = rule("ok", "\"*.test\"", port, "");
    let outside = Outside::start(&["down.test"], "", &rules).await;
    let down = format!("down.test:{port}");
    assert_eq!(outside.get(&format!("http://{down}/")).await.status, 502);
    assert_eq!(outside.connect(&down).await.0.status, 502);
    assert_eq!(
        outside
            .get(&format!("http://nobody.test:{port}/"))
            .await
            .status,
        503
    );
    assert_eq!(
        outside
            .connect(&format!("nobody.test:{port}"))
            .await
            .0
            .status,
        503
    );
    for line in outside.gateway.log().wait(4).await {
        assert!(line.get("egress_reason").is_none(), "{line}");
        assert_eq!(line["egress"], "ok", "{line}");
    }
    assert_eq!(outside.gateway.egress("ok"), [4, 0, 0]);
}

#[tokio::test]
async fn a_websocket_opens_in_absolute_form() {
    let origin = Origin::start(|mut peer: sluice_tests::origin::Peer| async move {
        if peer.head().await.is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )
            .await;
            peer.echo().await;
        }
    })
    .await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let mut client: Client = outside.gateway.connect().await;
    client
        .send(format!(
            "GET http://ok.test:{port}/chat HTTP/1.1\r\nHost: ok.test:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
    assert_eq!(client.reply().await.status, 101);
    client.send("hello").await;
    assert_eq!(client.read_at_least(5).await, b"hello");
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow_and_decided_about_again() {
    let origin = Origin::raw(
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let reply = outside.get(&format!("http://ok.test:{port}/")).await;
    assert_eq!(reply.status, 302);
    let location = reply.header("location").expect("where to").to_owned();
    assert_eq!(location, "http://169.254.169.254/latest");
    assert_eq!(outside.get(&location).await.status, 403);
    assert_eq!(
        outside.line("169.254.169.254").await["egress_reason"],
        "host"
    );
}

#[tokio::test]
async fn each_request_of_a_connection_is_decided_about() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "");
    let outside = Outside::start(&["ok.test", "no.test"], "", &rules).await;
    let mut client = outside.gateway.connect().await;
    for (host, status) in [("ok.test", 200), ("no.test", 403), ("ok.test", 200)] {
        client
            .send(format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.reply().await.status, status, "{host}");
    }
    assert_eq!(origin.requests().len(), 2);
}
