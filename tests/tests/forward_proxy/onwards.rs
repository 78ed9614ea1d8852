//! Other ways out: through another proxy, inside TLS that we speak, in the shadow, and not too often.

use sluice_tests::{
    Front, Gateway, Origin, gateway,
    name_server::Answer,
    outside::{Outside, connect, proxy, rule},
    tls::Pki,
};

use super::{OTHER, secure_origin};

/// A proxy whose rule leads everything through another one, which knows `ok.test`.
async fn chain(port: u16) -> (Gateway, Outside) {
    let rules = rule("second", "\"ok.test\"", port, "");
    let second = Outside::start(&["ok.test"], "", &rules).await;
    let objects = format!(
        "[egress.allow.first]\nhosts = \"*.test\"\nports = [{port}]\nvia = \"parent\"\n\
         [upstreams.parent]\nendpoints = [\"{}\"]\n",
        second.gateway.address()
    );
    // It needs to know no name itself.
    (gateway(&proxy("", &objects)).await, second)
}

#[tokio::test]
async fn tunnels_lead_through_another_proxy() {
    let pki = Pki::new();
    let (front, _origin) = secure_origin(&pki, &["ok.test"]).await;
    let port = front.address().port();
    let (first, second) = chain(port).await;
    let (reply, stream) = connect(first.address(), &format!("ok.test:{port}"), "").await;
    assert_eq!(reply.status, 200);
    let secure = pki.client().connect(stream, "ok.test").await;
    let mut client = sluice_tests::Client::over(secure.expect("TLS"));
    assert_eq!(client.get("ok.test", "/").await.text(), "hello");
    drop(client);
    let line = first.log().wait_for("host", "ok.test").await;
    assert_eq!(line["egress"], "first", "{line}");
    assert_eq!(line["upstream"], "parent", "{line}");
    assert_eq!(second.line("ok.test").await["egress"], "second");

    // What the other one refuses is refused; and what is inside is held against the target here already.
    let (reply, _stream) = connect(first.address(), &format!("no.test:{port}"), "").await;
    assert_eq!(reply.status, 403);
    let (_, stream) = connect(first.address(), &format!("ok.test:{port}"), "").await;
    assert!(pki.client().connect(stream, "other.test").await.is_err());
    let line = first.log().wait_for("egress_reason", "sni_mismatch").await;
    assert_eq!(line["egress"], "first", "{line}");
}

#[tokio::test]
async fn requests_lead_through_another_proxy_in_absolute_form() {
    let origin = Origin::echo().await;
    let port = origin.address().port();
    let (first, second) = chain(port).await;
    let at = format!("ok.test:{port}");
    let request = format!("GET http://{at}/a?b HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let reply = first.ask(&request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(origin.requests()[0].start, "GET /a?b HTTP/1.1");
    assert_eq!(second.line("ok.test").await["path"], "/a");
}

#[tokio::test]
async fn what_a_client_says_in_clear_goes_out_inside_tls() {
    let pki = Pki::new();
    let (front, origin) = secure_origin(&pki, &["ok.test"]).await;
    let port = front.address().port();
    let tls = format!(
        "protocols = \"http\"\ntls = {{ ca = {} }}",
        pki.quoted("ca.pem")
    );
    let rules = rule("ok", "\"*.test\"", port, &tls);
    let outside = Outside::start(&["ok.test", "other.test"], "", &rules).await;
    for _ in 0..2 {
        let reply = outside.get(&format!("http://ok.test:{port}/")).await;
        assert_eq!((reply.status, &*reply.text()), (200, "hello"));
    }
    let seen = front.seen();
    assert_eq!(seen[0].sni.as_deref(), Some("ok.test"));
    let host = origin.requests()[0].header("host").map(str::to_owned);
    assert_eq!(host, Some(format!("ok.test:{port}")));
    // Every certificate is verified.
    let reply = outside.get(&format!("http://other.test:{port}/")).await;
    assert_eq!(reply.status, 502);
    assert_eq!(
        outside.line("other.test").await["verdict"],
        "upstream_tls_name"
    );

    let stranger = Pki::new();
    let tls = format!(
        "protocols = \"http\"\ntls = {{ ca = {} }}",
        stranger.quoted("ca.pem")
    );
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"*.test\"", port, &tls)).await;
    assert_eq!(
        outside.get(&format!("http://ok.test:{port}/")).await.status,
        502
    );
    assert_eq!(
        outside.line("ok.test").await["verdict"],
        "upstream_tls_issuer"
    );
}

#[tokio::test]
async fn in_the_shadow_everything_passes_but_what_leads_inside() {
    let pki = Pki::new();
    let (front, _origin): (Front, Origin) = secure_origin(&pki, &["other.test"]).await;
    let port = front.address().port();
    let rules = format!(
        "[egress]\nmode = \"shadow\"\naddresses = \"127.0.0.1\"\n{}",
        rule("ok", "\"ok.test\"", port, "")
    );
    let outside = Outside::start(&["ok.test"], "", &rules).await;
    let inside = Answer::Addresses(vec![OTHER], 60);
    outside.names.says("other.test", inside);
    // A rule is about it, and would refuse what is inside.
    let stream = outside.tunnel(&format!("ok.test:{port}")).await;
    let secure = pki.client().connect(stream, "other.test").await;
    let mut client = sluice_tests::Client::over(secure.expect("it passes"));
    assert_eq!(client.get("other.test", "/").await.text(), "hello");
    drop(client);
    let line = outside.line("ok.test").await;
    assert_eq!(line["shadow"], true, "{line}");
    assert_eq!(line["egress_reason"], "sni_mismatch", "{line}");
    assert_eq!(outside.gateway.egress("ok"), [0, 0, 1]);
    // No rule is about it; but its address is listed nowhere either.
    let (reply, _stream) = outside.connect(&format!("other.test:{port}")).await;
    assert_eq!(reply.status, 403);
    let line = outside.line("other.test").await;
    assert_eq!(line["egress_reason"], "address", "{line}");
    assert!(line.get("shadow").is_none(), "{line}");
}

#[tokio::test]
async fn in_the_shadow_no_rule_leads_whom_it_does_not_allow() {
    let origin = Origin::text("hello").await;
    let parent = Origin::text("the other proxy").await;
    let port = origin.address().port();
    let from = "from = { sources = \"10.9.9.9\" }";
    let ports = format!("ports = [{port}]\n{from}");
    let rules = |addresses: &str| {
        format!(
            "[egress]\nmode = \"shadow\"\n{addresses}\n{}{}\
             [egress.allow.far]\nhosts = \"far.test\"\nvia = \"parent\"\n{ports}\n\
             [upstreams.parent]\nendpoints = [\"{}\"]\n",
            rule("inner", "\"inner.test\"", port, from),
            rule(
                "sealed",
                "\"sealed.test\"",
                port,
                &format!("tls = true\n{from}")
            ),
            parent.address()
        )
    };
    let names = ["inner.test", "far.test", "sealed.test"];
    let outside = Outside::start(&names, "", &rules("")).await;
    for name in names {
        let target = format!("{name}:{port}");
        assert_eq!(outside.connect(&target).await.0.status, 403, "{name}");
        let reply = outside.get(&format!("http://{target}/")).await;
        assert_eq!(reply.status, 403, "{name}");
        let line = outside.line(name).await;
        assert_eq!(line["egress_reason"], "address", "{line}");
        assert_eq!(line["egress"], name.trim_end_matches(".test"), "{line}");
    }
    assert_eq!((origin.connections(), parent.connections()), (0, 0));

    // As where everything may be: in clear, straight there, at the addresses of nobody's rule.
    let outside = Outside::start(&names, "", &rules("addresses = \"127.0.0.0/8\"")).await;
    for name in names {
        let target = format!("{name}:{port}");
        let reply = outside.get(&format!("http://{target}/")).await;
        assert_eq!((reply.status, &*reply.text()), (200, "hello"), "{name}");
        let line = outside.line(name).await;
        assert_eq!(line["egress_reason"], "source", "{line}");
        assert_eq!(line["shadow"], true, "{line}");
        drop(outside.tunnel(&target).await);
    }
    assert_eq!(parent.connections(), 0);
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "rate = \"2/h\"");
    let outside = Outside::start(&["ok.test"], "", &rules).await;
    let url = format!("http://ok.test:{port}/");
    assert_eq!(outside.get(&url).await.status, 200);
    drop(outside.tunnel(&format!("ok.test:{port}")).await);
    for _ in 0..2 {
        let reply = outside.get(&url).await;
        assert_eq!(reply.status, 429);
        let after: u64 = reply
            .header("retry-after")
            .expect("when")
            .parse()
            .expect("seconds");
        assert!((1..=3601).contains(&after), "{after}");
    }
    assert_eq!(
        outside.connect(&format!("ok.test:{port}")).await.0.status,
        429
    );
    let line = outside
        .gateway
        .log()
        .wait_for("verdict", "egress_rate")
        .await;
    assert_eq!(line["egress_reason"], "rate", "{line}");
    // A reload does not give anybody more.
    let config = proxy("", &format!("{rules}{}", outside.names.config()));
    outside
        .gateway
        .reload(&format!(
            "{config}\n[routes.r]\nrespond = {{}}\n[listeners.more]\naddress = \"127.0.0.1:0\"\n"
        ))
        .await;
    assert_eq!(outside.get(&url).await.status, 429);
}
