//! Who the client is, and what the origin is told about it.

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{Gateway, Origin, http1::Message};

async fn trusting(origin: &Origin, more: &str) -> Gateway {
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n{more}\n[routes.r]\nto = \"{}\"\n",
        origin.address()
    );
    // One worker has one upstream connection, so the last request at the origin is the latest.
    Gateway::start(&config, 1).await
}

async fn seen(gateway: &Gateway, origin: &Origin, fields: &str) -> Message {
    let reply = gateway
        .ask(format!(
            "GET / HTTP/1.1\r\nHost: a.example:8080\r\n{fields}\r\n"
        ))
        .await;
    assert_eq!(reply.status, 200);
    origin.requests().pop().expect("a request")
}

#[tokio::test]
async fn the_origin_sees_this_request_byte_for_byte() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(&origin, "").await;
    let message = seen(
        &gateway,
        &origin,
        "Accept: */*\r\nConnection: keep-alive\r\n",
    )
    .await;
    let id = message.header("x-request-id").expect("an id").to_owned();
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["request_id"], id.as_str());
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(
        String::from_utf8_lossy(&message.raw),
        format!(
            "GET / HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\nx-forwarded-for: 127.0.0.1\r\n\
             x-real-ip: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a.example:8080\r\n\
             x-forwarded-port: 8080\r\nx-request-id: {id}\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn strangers_cannot_say_who_they_are() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(&origin, "").await;
    let message = seen(
        &gateway,
        &origin,
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
         Forwarded: for=1.2.3.4\r\nX-Request-Id: mine\r\nX-Real-IP: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n",
    )
    .await;
    assert_eq!(
        message.all("x-forwarded-for").collect::<Vec<_>>(),
        ["127.0.0.1"]
    );
    assert_eq!(message.header("x-forwarded-proto"), Some("http"));
    assert_eq!(message.header("x-forwarded-host"), Some("a.example:8080"));
    assert_eq!(message.header("forwarded"), None);
    assert_ne!(message.header("x-request-id"), Some("mine"));
    assert!(!String::from_utf8_lossy(&message.raw).contains("1.2.3.4"));
}

#[tokio::test]
async fn trusted_proxies_are_believed_and_appended_to() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(&origin, "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]").await;
    let message = seen(
        &gateway,
        &origin,
        "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\nX-Request-Id: abc-1\r\n",
    )
    .await;
    assert_eq!(
        message.header("x-forwarded-for"),
        Some("6.6.6.6, 203.0.113.9, 10.0.0.7, 127.0.0.1")
    );
    assert_eq!(message.header("x-forwarded-proto"), Some("https"));
    assert_eq!(message.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(message.header("x-forwarded-port"), Some("443"));
    assert_eq!(message.header("x-request-id"), Some("abc-1"));
    let line = gateway.log().wait(1).await.remove(0);
    // 203.0.113.9 is the first address from the right that nobody vouches for.
    assert_eq!(line["client"], "203.0.113.9");
    assert_eq!(line["scheme"], "https");
}

#[tokio::test]
async fn the_hop_count_bounds_how_far_proxies_are_believed() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(
        &origin,
        "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\ntrusted_hops = 1",
    )
    .await;
    seen(
        &gateway,
        &origin,
        "X-Forwarded-For: 203.0.113.9, 10.0.0.7\r\n",
    )
    .await;
    assert_eq!(gateway.log().wait(1).await[0]["client"], "10.0.0.7");
}

#[tokio::test]
async fn the_standard_header_is_believed_too() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(&origin, "trusted_proxies = [\"127.0.0.1\"]").await;
    let message = seen(
        &gateway,
        &origin,
        "Forwarded: for=\"[2001:db8::9]:4711\";proto=https\r\n",
    )
    .await;
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["client"], "2001:db8::9");
    assert_eq!(line["scheme"], "https");
    let forwarded = message.header("forwarded").expect("continued");
    assert!(
        forwarded.contains("2001:db8::9") && forwarded.contains("127.0.0.1"),
        "{forwarded}"
    );
}

#[tokio::test]
async fn names_with_underscores_are_dropped_and_counted_kept_or_refused() {
    let origin = Origin::text("ok").await;
    for (policy, status, kept) in [
        ("drop", 200, false),
        ("keep", 200, true),
        ("refuse", 400, false),
    ] {
        let gateway = trusting(
            &origin,
            &format!("normalize = {{ underscores = \"{policy}\" }}"),
        )
        .await;
        let before = origin.requests().len();
        let reply = gateway
            .ask("GET / HTTP/1.1\r\nHost: a\r\nX_Role: admin\r\n\r\n")
            .await;
        assert_eq!(reply.status, status, "{policy}");
        let got = origin.requests();
        if status == 200 {
            assert_eq!(got[before].header("x_role").is_some(), kept, "{policy}");
        } else {
            assert_eq!(got.len(), before, "{policy}");
        }
        let dropped = gateway.count(Counter::UnderscoreHeadersDropped);
        assert_eq!(dropped, u64::from(policy == "drop"), "{policy}");
    }
}

#[tokio::test]
async fn what_a_listener_keeps_in_paths_reaches_the_origin_as_it_was_written() {
    let origin = Origin::text("ok").await;
    let gateway = trusting(
        &origin,
        "normalize = { merge_slashes = false, escaped_slash = \"keep\", escaped_backslash = \"keep\", escaped_nul = \"keep\", backslash = \"keep\" }",
    )
    .await;
    for (path, target) in [
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5Cb", "/a%5Cb"),
        ("/a%00b", "/a%00b"),
        ("/a//b", "/a//b"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb"),
    ] {
        let reply = gateway.get("a", path).await;
        assert_eq!(reply.status, 200, "{path}");
        let last = origin.requests().pop().expect("a request");
        assert!(
            last.second().eq_ignore_ascii_case(target),
            "{path}: {}",
            last.second()
        );
    }
}
