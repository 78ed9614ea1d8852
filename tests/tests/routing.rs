//! Which rule answers: hosts, rules in order, priorities, and every kind of match.

use sluice_tests::{Client, Gateway, Origin, gateway};

/// Sends each request and holds the body of the answer against the wanted one.
async fn answers(gateway: &Gateway, table: &[(&str, &str)]) {
    for (request, wanted) in table {
        let reply = gateway.ask(format!("{request}\r\n\r\n")).await;
        let got = if reply.status == 200 {
            reply.text()
        } else {
            reply.status.to_string()
        };
        assert_eq!(got, *wanted, "{request}");
    }
}

#[tokio::test]
async fn hosts_are_exact_then_longest_wildcard_then_any() {
    let gateway = gateway(
        r#"
        [routes.exact]
        hosts = ["a.example.com"]
        respond = { body = "exact" }
        [routes.long]
        hosts = ["*.b.example.com"]
        respond = { body = "long" }
        [routes.short]
        hosts = ["*.example.com"]
        respond = { body = "short" }
        [routes.any]
        respond = { body = "any" }
        "#,
    )
    .await;
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}");
    for (host, wanted) in [
        ("a.example.com", "exact"),
        ("A.Example.COM", "exact"),
        ("a.example.com.", "exact"),
        ("a.example.com:8080", "exact"),
        ("x.b.example.com", "long"),
        ("x.y.b.example.com", "long"),
        ("b.example.com", "short"),
        ("x.a.example.com", "short"),
        ("example.com", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
    ] {
        answers(&gateway, &[(&get(host), wanted)]).await;
    }
}

#[tokio::test]
async fn a_chosen_host_does_not_fall_back_to_a_wider_one() {
    let gateway = gateway(
        r#"
        [routes.narrow]
        hosts = ["a.example"]
        [[routes.narrow.rules]]
        match = { path = "/only" }
        respond = { body = "narrow" }
        [routes.wide]
        respond = { body = "wide" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            ("GET /only HTTP/1.1\r\nHost: a.example", "narrow"),
            ("GET /else HTTP/1.1\r\nHost: a.example", "404"),
            ("GET /wide HTTP/1.1\r\nHost: b.example", "wide"),
        ],
    )
    .await;
    let line = gateway.log().wait_for("path", "/else").await;
    assert_eq!(line["verdict"], "no_route");
}

#[tokio::test]
async fn paths_match_exactly_by_whole_segments_by_beginning_or_by_expression() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = { path = "/exact" }
        respond = { body = "exact" }
        [[routes.r.rules]]
        match = { path = { prefix = "/seg" } }
        respond = { body = "prefix" }
        [[routes.r.rules]]
        match = { path = { starts_with = "/start" } }
        respond = { body = "starts" }
        [[routes.r.rules]]
        match = { path = { regex = "/v[0-9]+" } }
        respond = { body = "regex" }
        "#,
    )
    .await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a");
    for (path, wanted) in [
        ("/exact", "exact"),
        ("/exact?q=1", "exact"),
        ("/exact/", "404"),
        ("/%65xact", "exact"),
        ("/a/../exact", "exact"),
        ("//exact", "exact"),
        ("/seg", "prefix"),
        ("/seg/", "prefix"),
        ("/seg/ment", "prefix"),
        ("/segment", "404"),
        ("/started", "starts"),
        ("/v12", "regex"),
        ("/v12/x", "404"),
        ("/x/v12", "404"),
    ] {
        answers(&gateway, &[(&get(path), wanted)]).await;
    }
}

#[tokio::test]
async fn methods_headers_query_and_cookies_match() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = { method = ["PUT", "PATCH"] }
        respond = { body = "method" }
        [[routes.r.rules]]
        match = { headers = { x-a = "1", x-b = { present = true } } }
        respond = { body = "headers" }
        [[routes.r.rules]]
        match = { headers = { x-c = { regex = "[a-z]+" } } }
        respond = { body = "regex" }
        [[routes.r.rules]]
        match = { query = { tag = "a b" } }
        respond = { body = "query" }
        [[routes.r.rules]]
        match = { cookies = { group = { starts_with = "be" } } }
        respond = { body = "cookie" }
        [[routes.r.rules]]
        match = { headers = { x-d = { present = false } } }
        respond = { body = "absent" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            ("PATCH / HTTP/1.1\r\nHost: a", "method"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: y", "headers"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-D: y", "404"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-C: abc\r\nX-D: y", "regex"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-C: abc1\r\nX-D: y", "404"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-C: 1\r\nX-C: abc\r\nX-D: y",
                "regex",
            ),
            ("GET /?x=1&tag=a%20b HTTP/1.1\r\nHost: a\r\nX-D: y", "query"),
            ("GET /?tag=a+b HTTP/1.1\r\nHost: a\r\nX-D: y", "404"),
            ("GET /?TAG=a%20b HTTP/1.1\r\nHost: a\r\nX-D: y", "404"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; group=beta\r\nX-D: y",
                "cookie",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: group=alpha\r\nX-D: y",
                "404",
            ),
            ("GET / HTTP/1.1\r\nHost: a", "absent"),
        ],
    )
    .await;
}

#[tokio::test]
async fn several_values_of_a_header_are_tried_singly_and_joined() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = { headers = { x-role = "admin" } }
        respond = { status = 403, body = "denied" }
        [[routes.r.rules]]
        respond = { body = "welcome" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-Role: user\r\nX-Role: admin",
                "403",
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Role: user", "welcome"),
        ],
    )
    .await;
}

#[tokio::test]
async fn any_of_several_matches_is_enough() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = [{ path = { prefix = "/v2" } }, { headers = { x-canary = "true" } }]
        respond = { body = "canary" }
        [[routes.r.rules]]
        respond = { body = "stable" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            ("GET /v2/x HTTP/1.1\r\nHost: a", "canary"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Canary: true", "canary"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX-Canary: TRUE", "stable"),
        ],
    )
    .await;
}

#[tokio::test]
async fn client_addresses_match_as_trusted_proxies_tell_them() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.0/8"]
        [[routes.r.rules]]
        match = { client = ["10.0.0.0/8", "2001:db8::/32"] }
        respond = { body = "inside" }
        [[routes.r.rules]]
        respond = { body = "outside" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            ("GET / HTTP/1.1\r\nHost: a", "outside"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.2.3",
                "inside",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8::1",
                "inside",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.2.3, 8.8.8.8",
                "outside",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn routes_and_rules_can_be_bound_to_listeners() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [listeners.inner]
        address = "127.0.0.1:0"
        [routes.inner]
        listeners = ["inner"]
        hosts = ["inner.example"]
        respond = { body = "inner" }
        [[routes.both.rules]]
        match = { listener = "inner" }
        respond = { body = "both, inside" }
        [[routes.both.rules]]
        respond = { body = "both" }
        "#,
    )
    .await;
    let inner = gateway.address_of("inner").expect("a listener");
    assert_eq!(gateway.get("inner.example", "/").await.text(), "both");
    assert_eq!(
        Client::connect(inner)
            .await
            .get("inner.example", "/")
            .await
            .text(),
        "inner"
    );
    assert_eq!(
        Client::connect(inner).await.get("a", "/").await.text(),
        "both, inside"
    );
}

#[tokio::test]
async fn routes_that_share_a_host_are_merged_by_priority_then_by_specificity() {
    let gateway = gateway(
        r#"
        [routes.a]
        hosts = ["m.example"]
        [[routes.a.rules]]
        match = { path = { prefix = "/api" } }
        respond = { body = "a" }
        [routes.b]
        hosts = ["m.example"]
        [[routes.b.rules]]
        match = { path = { prefix = "/api/v2" } }
        respond = { body = "b" }
        [routes.c]
        hosts = ["m.example"]
        priority = 10
        [[routes.c.rules]]
        match = { path = { prefix = "/api/v2/top" } }
        respond = { body = "c" }
        [[routes.c.rules]]
        match = { headers = { x-all = "1" } }
        respond = { body = "c first" }
        "#,
    )
    .await;
    answers(
        &gateway,
        &[
            ("GET /api HTTP/1.1\r\nHost: m.example", "a"),
            ("GET /api/v2 HTTP/1.1\r\nHost: m.example", "b"),
            ("GET /api/v2/top HTTP/1.1\r\nHost: m.example", "c"),
            (
                "GET /api/v2 HTTP/1.1\r\nHost: m.example\r\nX-All: 1",
                "c first",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_access_log_names_route_rule_upstream_and_endpoint() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!(
        "[[routes.shop.rules]]\nname = \"cart\"\nmatch = {{ path = \"/cart\" }}\nto = \"pets\"\n\
         [upstreams.pets]\nendpoints = [\"{}\"]\n",
        origin.address()
    ))
    .await;
    let reply = gateway.get("a.example", "/cart?secret=1").await;
    assert_eq!(reply.status, 200);
    let line = gateway.log().wait(1).await.remove(0);
    for (field, wanted) in [
        ("route", "shop"),
        ("rule", "cart"),
        ("upstream", "pets"),
        ("host", "a.example"),
        ("path", "/cart"),
        ("listener", "web"),
        ("method", "GET"),
    ] {
        assert_eq!(line[field], wanted, "{line}");
    }
    assert_eq!(line["endpoint"], origin.address().to_string());
    assert_eq!(
        (line["status"].as_u64(), line["bytes_out"].as_u64()),
        (Some(200), Some(2))
    );
    assert!(line["verdict"].is_null(), "{line}");
    assert!(
        !line.to_string().contains("secret"),
        "queries carry secrets: {line}"
    );
}

#[tokio::test]
async fn what_a_peer_sends_cannot_forge_a_line_of_the_access_log() {
    let gateway = gateway("[routes.r]\nrespond = {}\n").await;
    let mut client = gateway.connect().await;
    client
        .send(b"GET /%0a{\"status\":1}\"\\u001b[2J HTTP/1.1\r\nHost: a\r\nUser-Agent: \"}\t\xe2\x80\xae\xff\r\n\r\n")
        .await;
    assert!(client.try_reply("GET").await.is_ok());
    let lines = gateway.log().wait(1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
}
