//! What rules do: forward with weights, redirect, respond, rewrite, edit headers.

use sluice_tests::{Origin, gateway};

#[tokio::test]
async fn redirects_change_what_they_name_and_keep_the_rest() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = { path = "/host" }
        redirect = { host = "new.example" }
        [[routes.r.rules]]
        match = { path = "/scheme" }
        redirect = { scheme = "https", status = 308 }
        [[routes.r.rules]]
        match = { path = "/port" }
        redirect = { port = 8443, scheme = "https", status = 307 }
        [[routes.r.rules]]
        match = { path = "/path" }
        redirect = { path = "/new", status = 301, keep_query = false }
        [[routes.r.rules]]
        match = { path = { prefix = "/old" } }
        redirect = { prefix = "/new", status = 303 }
        [[routes.r.rules]]
        match = { path = { regex = "/u/([a-z]+)/.*" } }
        redirect = { regex = { match = "/u/([a-z]+)/(.*)", to = "/users/{1}/{2}" } }
        "#,
    )
    .await;
    for (path, status, location) in [
        ("/host?q=1", 302, "http://new.example/host?q=1"),
        ("/scheme?q=1", 308, "https://a.example/scheme?q=1"),
        ("/port", 307, "https://a.example:8443/port"),
        ("/path?q=1", 301, "http://a.example/new"),
        ("/old?q=1", 303, "http://a.example/new?q=1"),
        ("/old/x/y", 303, "http://a.example/new/x/y"),
        (
            "/u/ann/cart?q=1",
            302,
            "http://a.example/users/ann/cart?q=1",
        ),
    ] {
        let reply = gateway.get("a.example", path).await;
        assert_eq!(reply.status, status, "{path}");
        let got = reply.header("location").expect("a location");
        // A location on the same scheme and host may be written without them.
        let relative = location.strip_prefix("http://a.example");
        assert!(got == location || Some(got) == relative, "{path}: {got}");
    }
}

#[tokio::test]
async fn a_redirect_cannot_be_made_to_leave_the_host() {
    let gateway = gateway(
        "[[routes.r.rules]]\nmatch = { path = { prefix = \"/old\" } }\nredirect = { prefix = \"/\" }\n",
    )
    .await;
    for path in [
        "/old//evil.example/x",
        "/old/%2f/evil.example",
        "/old/%0d%0aSet-Cookie:%20x",
        "/old/..//evil.example",
    ] {
        let reply = gateway.get("a.example", path).await;
        let location = reply.header("location").unwrap_or_default();
        assert!(
            !location.starts_with("//") && !location.contains('\n'),
            "{path}: {location}"
        );
        assert!(!location.contains("://evil"), "{path}: {location}");
        assert!(reply.header("set-cookie").is_none());
    }
}

#[tokio::test]
async fn a_listener_redirects_everything_to_https_even_without_a_route() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        https_redirect = true
        [listeners.other]
        address = "127.0.0.1:0"
        https_redirect = { status = 308, port = 8443 }
        [listeners.plain]
        address = "127.0.0.1:0"
        [routes.r]
        listeners = ["plain"]
        respond = {}
        "#,
    )
    .await;
    let reply = gateway.get("a.example:80", "/x/y?q=1&r=2").await;
    assert_eq!(reply.status, 301);
    assert_eq!(
        reply.header("location"),
        Some("https://a.example/x/y?q=1&r=2")
    );
    let other = gateway.address_of("other").expect("a listener");
    let reply = sluice_tests::Client::connect(other)
        .await
        .get("a.example", "/x")
        .await;
    assert_eq!(reply.status, 308);
    assert_eq!(reply.header("location"), Some("https://a.example:8443/x"));
}

#[tokio::test]
async fn responses_come_from_text_or_file_with_headers_and_variables() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.txt");
    std::fs::write(&file, "from a file").expect("a file");
    let gateway = gateway(&format!(
        r#"
        [[routes.r.rules]]
        match = {{ path = "/text" }}
        respond = {{ status = 418, headers = {{ x-path = "{{request.method}} {{request.path}}", content-type = "text/plain" }}, body = "short and stout" }}
        [[routes.r.rules]]
        match = {{ path = "/file" }}
        respond = {{ file = {file:?} }}
        [[routes.r.rules]]
        match = {{ path = "/nothing" }}
        respond = {{ status = 204 }}
        "#
    ))
    .await;
    let reply = gateway.get("a", "/text").await;
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (418, "short and stout")
    );
    assert_eq!(reply.header("x-path"), Some("GET /text"));
    assert_eq!(gateway.get("a", "/file").await.text(), "from a file");
    let reply = gateway.get("a", "/nothing").await;
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
    assert_eq!(reply.header("content-length"), None);
}

#[tokio::test]
async fn weights_split_requests_among_targets() {
    let (many, few) = (Origin::text("many").await, Origin::text("few").await);
    let never = Origin::text("never").await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = [{{ address = \"{}\", weight = 9 }}, {{ address = \"{}\", weight = 1 }}, {{ address = \"{}\", weight = 0 }}]\n",
        many.address(), few.address(), never.address(),
    ))
    .await;
    let mut client = gateway.connect().await;
    let mut count = 0;
    for _ in 0..1000 {
        if client.get("a", "/").await.text() == "few" {
            count += 1;
        }
    }
    assert!(
        (50..=150).contains(&count),
        "{count} of 1000 instead of about 100"
    );
    assert_eq!(never.connections(), 0);
}

#[tokio::test]
async fn a_rule_whose_targets_all_weigh_nothing_answers_503_no_target() {
    let gateway = gateway(
        "[routes.r]\nto = [{ address = \"127.0.0.1:1\", weight = 0 }, { address = \"127.0.0.1:2\", weight = 0 }]\n",
    )
    .await;
    assert_eq!(gateway.get("a", "/").await.status, 503);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "no_target");
}

#[tokio::test]
async fn unknown_services_and_empty_upstreams_answer_503_with_their_word() {
    let gateway = gateway(
        r#"
        [[routes.r.rules]]
        match = { path = "/service" }
        to = { service = "reviews", port = 9080 }
        [[routes.r.rules]]
        to = "empty"
        [upstreams.empty]
        endpoints = []
        "#,
    )
    .await;
    for (path, word) in [("/service", "unknown_service"), ("/else", "no_endpoint")] {
        assert_eq!(gateway.get("a", path).await.status, 503, "{path}");
        assert_eq!(gateway.log().wait_for("path", path).await["verdict"], word);
    }
}

#[tokio::test]
async fn rewrites_change_path_and_host_and_keep_the_query() {
    let origin = Origin::echo().await;
    let gateway = gateway(&format!(
        r#"
        [routes.r]
        to = "{}"
        [[routes.r.rules]]
        match = {{ path = "/whole" }}
        rewrite = {{ path = "/new", host = "inner.example" }}
        to = "{0}"
        [[routes.r.rules]]
        match = {{ path = {{ prefix = "/strip" }} }}
        rewrite = {{ prefix = "/" }}
        to = "{0}"
        [[routes.r.rules]]
        match = {{ path = {{ prefix = "/swap" }} }}
        rewrite = {{ prefix = "/other" }}
        to = "{0}"
        [[routes.r.rules]]
        match = {{ path = {{ regex = "/u/([a-z]+)" }} }}
        rewrite = {{ path = "/users/{{1}}", host = "{{1}}.users.example" }}
        to = "{0}"
        [[routes.r.rules]]
        match = {{ path = {{ prefix = "/v" }} }}
        rewrite = {{ regex = {{ match = "/v/([0-9]+)/(.*)", to = "/{{2}}/{{1}}" }} }}
        to = "{0}"
        "#,
        origin.address()
    ))
    .await;
    for (path, target, host) in [
        ("/whole?q=1", "/new?q=1", "inner.example"),
        ("/strip", "/", "a.example"),
        ("/strip/x?q", "/x?q", "a.example"),
        ("/swap/x", "/other/x", "a.example"),
        ("/swap", "/other", "a.example"),
        ("/u/ann?q", "/users/ann?q", "ann.users.example"),
        ("/v/7/x/y", "/x/y/7", "a.example"),
        ("/v/none", "/v/none", "a.example"),
        ("/else", "/else", "a.example"),
    ] {
        let text = gateway.get("a.example", path).await.text();
        let start = format!("GET {target} HTTP/1.1\r\n");
        assert!(text.starts_with(&start), "{path}: {text}");
        assert!(
            text.contains(&format!("\r\nhost: {host}\r\n")),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn headers_are_removed_then_set_then_added_with_variables() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let body = String::from_utf8_lossy(&request.raw).into_owned();
            let length = body.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nServer: origin/1.0\r\nX-Old: 1\r\nVary: Accept\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        }
    })
    .await;
    let gateway = gateway(&format!(
        r#"
        [[routes.r.rules]]
        name = "edits"
        request_headers = {{ remove = ["cookie", "x-both"], set = {{ x-client = "{{client.ip}}", x-rule = "{{route}}/{{rule}} on {{listener}}", x-agent = "{{request.header.user-agent}}", x-brace = "{{{{x}}" }}, add = {{ x-both = "ours", x-more = "2" }} }}
        response_headers = {{ remove = ["server"], set = {{ x-old = "new" }}, add = {{ vary = "Origin", x-upstream = "{{upstream}}" }} }}
        to = "pets"
        [upstreams.pets]
        endpoints = ["{}"]
        "#,
        origin.address()
    ))
    .await;
    let reply = gateway
        .ask("GET /p?q=1 HTTP/1.1\r\nHost: a\r\nCookie: x\r\nX-Both: theirs\r\nX-More: 1\r\nUser-Agent: curl\r\n\r\n")
        .await;
    let seen = origin.requests().remove(0);
    assert_eq!(seen.header("cookie"), None);
    assert_eq!(seen.all("x-both").collect::<Vec<_>>(), ["ours"]);
    assert_eq!(seen.all("x-more").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(seen.header("x-client"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-rule"), Some("r/edits on web"));
    assert_eq!(seen.header("x-agent"), Some("curl"));
    assert_eq!(seen.header("x-brace"), Some("{x}"));
    assert_eq!(reply.header("server"), None);
    assert_eq!(reply.header("x-old"), Some("new"));
    assert_eq!(
        reply.message.all("vary").collect::<Vec<_>>(),
        ["Accept", "Origin"]
    );
    assert_eq!(reply.header("x-upstream"), Some("pets"));
}

#[tokio::test]
async fn the_nearest_filter_wins_whole_and_sets_can_be_reused() {
    let origin = Origin::echo().await;
    let gateway = gateway(&format!(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        request_headers = {{ set = {{ x-from = "listener", x-listener = "1" }} }}
        [filters.marked]
        request_headers = {{ set = {{ x-from = "filter" }} }}
        [routes.r]
        [[routes.r.rules]]
        match = {{ path = "/rule" }}
        request_headers = {{ set = {{ x-from = "rule" }} }}
        to = "{0}"
        [[routes.r.rules]]
        match = {{ path = "/use" }}
        use = ["marked"]
        to = "{0}"
        [[routes.r.rules]]
        to = "{0}"
        "#,
        origin.address()
    ))
    .await;
    for (path, from, listener) in [
        ("/rule", "rule", None),
        ("/use", "filter", None),
        ("/", "listener", Some("1")),
    ] {
        gateway.get("a", path).await;
        let seen = origin.requests();
        let seen = seen
            .iter()
            .find(|request| request.second() == path)
            .expect("the request");
        assert_eq!(seen.header("x-from"), Some(from), "{path}");
        assert_eq!(seen.header("x-listener"), listener, "{path}");
    }
}

#[tokio::test]
async fn a_value_from_the_client_cannot_break_a_header_line() {
    let origin = Origin::echo().await;
    let gateway = gateway(&format!(
        "[routes.r]\nrequest_headers = {{ set = {{ x-query = \"{{request.query}}\", x-path = \"{{request.path}}\" }} }}\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    let reply = gateway
        .ask("GET /a%0d%0aX-Evil:1?q=%0d%0aX-Evil:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(reply.status, 200);
    let seen = origin.requests().remove(0);
    assert_eq!(seen.header("x-evil"), None, "{:?}", seen.headers);
    assert_eq!(seen.header("x-query"), Some("q=%0d%0aX-Evil:1"));
}

#[tokio::test]
async fn answers_of_the_gateway_itself_speak_the_clients_form_and_name_no_product() {
    let gateway = gateway("[[routes.r.rules]]\nmatch = { path = \"/none\" }\nrespond = {}\n").await;
    for (accept, kind) in [
        ("text/html,application/xhtml+xml", "text/html"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
    ] {
        let reply = gateway
            .ask(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"
            ))
            .await;
        assert_eq!(reply.status, 404);
        let got = reply.header("content-type").unwrap_or_default();
        assert!(got.starts_with(kind), "{accept}: {got}");
        assert!(!reply.text().is_empty(), "{accept}");
        if kind == "application/json" {
            serde_json::from_str::<serde_json::Value>(&reply.text()).expect("JSON");
        }
        let whole = String::from_utf8_lossy(&reply.message.raw).to_lowercase();
        assert!(
            !whole.contains("sluice")
                && !whole.contains("hyper")
                && reply.header("server").is_none(),
            "{whole}"
        );
    }
}
