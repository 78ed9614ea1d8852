//! Certificates of clients: who is asked, who is let in, and what the origin, the templates and the log
//! are told.

use std::net::SocketAddr;

use sluice_certs::testing::{Authority, Client as TlsClient, Leaf, Speaks, Wanted};
use sluice_tests::{
    Gateway, Origin,
    client::NoReply,
    gateway,
    tls::{Multiplexed, Pki, Secure, connect, https, secure},
};

/// `client_certificates` that believe the authority, with these further keys.
fn asks(pki: &Pki, more: &str) -> String {
    format!(
        "client_certificates = {{ ca = {}{more} }}\n",
        pki.quoted("ca.pem")
    )
}

/// What a client is told: a status, or that it gets no connection.
async fn told(client: &TlsClient, address: SocketAddr, host: &str) -> Option<u16> {
    let stream = connect(client, address, host).await.ok()?;
    let mut client: Secure = sluice_tests::Client::over(stream);
    client
        .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    // In TLS 1.3 a client hears of its refusal only when it reads.
    let reply = client.try_reply("GET").await;
    reply.ok().map(|reply| reply.status)
}

#[tokio::test]
async fn a_listener_asks_for_certificates_as_it_is_told() {
    let pki = Pki::new();
    let (known, stranger) = (
        pki.authority.client(&["spiffe://shop/cart"]),
        Authority::new("Others").client(&["spiffe://shop/cart"]),
    );
    let certificate = pki.certificate("a", &["a.example"]) + "[routes.r]\nrespond = {}\n";
    for (mode, nobody, unknown) in [
        ("required", None, None),
        ("optional", Some(200), None),
        ("off", Some(200), Some(200)),
    ] {
        let listener = asks(&pki, &format!(", mode = \"{mode}\""));
        let gateway = gateway(&https(&listener, &certificate)).await;
        let address = gateway.address();
        let known = told(&pki.known_client(&known), address, "a.example").await;
        assert_eq!(known, Some(200), "{mode}");
        let none = told(&pki.client(), address, "a.example").await;
        assert_eq!(none, nobody, "{mode}");
        let foreign = told(&pki.known_client(&stranger), address, "a.example").await;
        assert_eq!(foreign, unknown, "{mode}");
    }
}

#[tokio::test]
async fn who_the_client_is_is_told_to_the_origin_the_templates_and_the_log() {
    let pki = Pki::new();
    let origin = Origin::text("ok").await;
    let objects = format!(
        "{}[routes.r]\nto = \"{}\"\nrequest_headers = {{ set = {{ x-who = \"{{client.certificate.subject}} {{client.certificate.san}} {{tls.version}} {{tls.sni}}\" }} }}\n",
        pki.certificate("a", &["a.example"]),
        origin.address()
    );
    let listener = asks(&pki, ", mode = \"optional\"");
    let gateway = Gateway::start(&https(&listener, &objects), 1).await;
    let leaf = pki
        .authority
        .sign(&Wanted::client(&["spiffe://shop/cart", "cart.example"]).subject("Cart, Ltd"));
    let claim = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Client-Cert: Hash=00;URI=spiffe://shop/admin\r\nX_Forwarded_Client_Cert: Hash=01\r\n\r\n";

    let mut client = secure(&pki.known_client(&leaf), gateway.address(), "a.example").await;
    client.send(claim).await;
    assert_eq!(client.reply().await.status, 200);
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    client.send(claim).await;
    assert_eq!(client.reply().await.status, 200);

    let requests = origin.wait_for_requests(2).await;
    let certificate = leaf.pair();
    let hash = certificate.facts().fingerprint_hex();
    let expected =
        format!("Hash={hash};Subject=\"CN=Cart\\\\, Ltd\";URI=spiffe://shop/cart;DNS=cart.example");
    let told: Vec<_> = requests[0].all("x-forwarded-client-cert").collect();
    assert_eq!(told, [expected]);
    assert_eq!(
        requests[0].header("x-who"),
        Some("CN=Cart\\, Ltd spiffe://shop/cart TLSv1.3 a.example")
    );
    assert_eq!(requests[1].header("x-forwarded-client-cert"), None);
    assert!(!String::from_utf8_lossy(&requests[1].raw).contains("admin"));
    let lines = gateway.log().wait(2).await;
    assert_eq!(lines[0]["client_certificate"], "spiffe://shop/cart");
    assert!(lines[1]["client_certificate"].is_null());
}

#[tokio::test]
async fn what_trusted_proxies_tell_of_certificates_is_kept_and_continued() {
    let pki = Pki::new();
    let origin = Origin::text("ok").await;
    let objects = format!(
        "{}[routes.r]\nto = \"{}\"\n",
        pki.certificate("a", &["a.example"]),
        origin.address()
    );
    let listener = asks(&pki, "") + "trusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::start(&https(&listener, &objects), 1).await;
    let leaf = pki.authority.client(&["proxy.example"]);
    let mut client = secure(&pki.known_client(&leaf), gateway.address(), "a.example").await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Client-Cert: Hash=00\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 200);
    let request = origin.wait_for_requests(1).await.remove(0);
    let told = request.header("x-forwarded-client-cert").expect("it");
    assert!(told.starts_with("Hash=00,Hash="), "{told}");
    assert!(told.ends_with(";DNS=proxy.example"), "{told}");
}

/// `open.example` asks for nothing, `closed.example` for a certificate; one certificate is for both.
fn two_policies(pki: &Pki) -> String {
    https(
        "",
        &format!(
            "{}[routes.open]\nhosts = [\"open.example\"]\nrespond = {{ body = \"open\" }}\n\
             [routes.closed]\nhosts = [\"closed.example\"]\nrespond = {{ body = \"closed\" }}\n{}",
            pki.certificate("both", &["open.example", "closed.example"]),
            asks(pki, "")
        ),
    )
}

#[tokio::test]
async fn no_request_reaches_a_route_over_a_connection_that_was_not_asked_for_the_same() {
    let pki = Pki::new();
    let gateway = gateway(&two_policies(&pki)).await;
    let (address, leaf) = (gateway.address(), pki.authority.client(&["cart"]));

    let mut client = secure(&pki.client(), address, "open.example").await;
    assert_eq!(client.get("open.example", "/").await.text(), "open");
    assert_eq!(client.get("closed.example", "/").await.status, 421);
    assert_eq!(told(&pki.client(), address, "closed.example").await, None);

    let mut client = secure(&pki.known_client(&leaf), address, "closed.example").await;
    assert_eq!(client.get("closed.example", "/").await.text(), "closed");
    assert_eq!(client.get("open.example", "/").await.status, 421);

    let both = TlsClient::new(&pki.authority, &["h2"]);
    let mut client = Multiplexed::connect(&both, address, "open.example").await;
    assert_eq!(client.status("https://open.example/").await, 200);
    assert_eq!(client.status("https://closed.example/").await, 421);
    let lines = gateway.log().wait(6).await;
    let served = lines
        .iter()
        .filter(|line| line["route"] == "closed" && line["status"] == 200);
    assert!(served.clone().count() == 1, "{lines:?}");
    assert!(
        served
            .clone()
            .all(|line| line["client_certificate"] == "cart")
    );
}

#[tokio::test]
async fn a_route_that_requires_a_certificate_answers_nobody_without_tls() {
    let pki = Pki::new();
    let origin = Origin::text("ok").await;
    let to = origin.address();
    let known = pki.authority.client(&["spiffe://shop/cart"]);
    for (mode, without) in [("required", 421), ("optional", 200), ("off", 200)] {
        let asks = asks(&pki, &format!(", mode = \"{mode}\""));
        // One is bound to every listener, since it names none.
        let objects = format!(
            "{}[listeners.plain]\naddress = \"127.0.0.1:0\"\n\
             [listeners.any]\naddress = \"127.0.0.1:0\"\nprotocol = \"auto\"\n\
             [routes.r]\nhosts = [\"a.example\"]\nto = \"{to}\"\n{asks}",
            pki.certificate("a", &["a.example"]),
        );
        let gateway = gateway(&https("", &objects)).await;
        let secure = told(&pki.known_client(&known), gateway.address(), "a.example").await;
        assert_eq!(secure, Some(200), "{mode}");
        for listener in ["plain", "any"] {
            let address = gateway.address_of(listener).expect("it accepts");
            let mut client = sluice_tests::Client::connect(address).await;
            let reply = client.get("a.example", "/").await;
            assert_eq!(reply.status, without, "{mode} on {listener}");
        }
    }
}

#[tokio::test]
async fn a_raw_stream_to_such_a_route_reaches_no_endpoint_without_tls() {
    let pki = Pki::new();
    let origin = Origin::text("ok").await;
    let objects = format!(
        "{}[listeners.plain]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [listeners.inside]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n\
         [routes.r]\nlisteners = [\"plain\", \"inside\"]\nto = \"{}\"\n{}",
        pki.certificate("a", &["a.example"]),
        origin.address(),
        asks(&pki, ""),
    );
    let gateway = gateway(&https("", &objects)).await;
    let known = pki.authority.client(&["spiffe://shop/cart"]);
    let address = gateway.address_of("inside").expect("it accepts");
    let secure = told(&pki.known_client(&known), address, "a.example").await;
    assert_eq!(secure, Some(200));
    let reached = origin.connections();

    let address = gateway.address_of("plain").expect("it accepts");
    let mut client = sluice_tests::Client::connect(address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    let refused = client.try_reply("GET").await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(origin.connections(), reached);
}

#[tokio::test]
async fn a_session_is_resumed_under_its_own_policy_only() {
    let pki = Pki::new();
    let gateway = gateway(&two_policies(&pki)).await;
    let (address, leaf) = (gateway.address(), pki.authority.client(&["cart"]));
    for speaks in [Speaks::Tls13, Speaks::Tls12] {
        let plain = TlsClient::with(&pki.authority, &["http/1.1"], speaks, None);
        let known = TlsClient::with(&pki.authority, &["http/1.1"], speaks, Some(&leaf));
        for resumed in [false, true] {
            let mut client = secure(&known, address, "closed.example").await;
            assert_eq!(client.get("closed.example", "/").await.text(), "closed");
            assert_eq!(client.stream().is_resumed(), resumed, "{speaks:?}");
            let mut client = secure(&plain, address, "open.example").await;
            assert_eq!(client.get("open.example", "/").await.text(), "open");
            assert_eq!(client.stream().is_resumed(), resumed, "{speaks:?}");
        }
        // What it learned where nobody asked is worth nothing where somebody does.
        assert_eq!(told(&plain, address, "closed.example").await, None);
    }
    // A resumed client is still the one that it was.
    let lines = gateway.log().wait(8).await;
    let closed = lines.iter().filter(|line| line["route"] == "closed");
    assert!(closed.clone().count() == 4, "{lines:?}");
    assert!(
        closed
            .clone()
            .all(|line| line["client_certificate"] == "cart")
    );
}

#[tokio::test]
async fn a_reload_that_begins_to_ask_holds_for_connections_and_sessions_of_before() {
    let pki = Pki::new();
    let objects = pki.certificate("a", &["a.example"]) + "[routes.r]\nrespond = {}\n";
    let gateway = gateway(&https("", &objects)).await;
    let connector = pki.client();
    let mut before = secure(&connector, gateway.address(), "a.example").await;
    assert_eq!(before.get("a.example", "/").await.status, 200);

    gateway.reload(&https(&asks(&pki, ""), &objects)).await;

    before
        .send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    match before.try_reply("GET").await {
        Ok(reply) => assert_eq!(reply.status, 421),
        Err(why) => assert!(
            matches!(why, NoReply::Closed(_) | NoReply::Reset),
            "{why:?}"
        ),
    }
    assert_eq!(told(&connector, gateway.address(), "a.example").await, None);
    let leaf = pki.authority.client(&["cart"]);
    let known = pki.known_client(&leaf);
    assert_eq!(
        told(&known, gateway.address(), "a.example").await,
        Some(200)
    );
}

#[tokio::test]
async fn revoked_clients_are_refused_also_those_that_come_back() {
    let pki = Pki::new();
    let (good, bad) = (
        pki.authority.client(&["good"]),
        pki.authority.client(&["bad"]),
    );
    pki.write("list.crl", &pki.authority.crl(&[]));
    let listener = asks(&pki, &format!(", crl = {}", pki.quoted("list.crl")));
    let objects = pki.certificate("a", &["a.example"]) + "[routes.r]\nrespond = {}\n";
    let gateway = gateway(&https(&listener, &objects)).await;
    let address = gateway.address();
    let (good, back) = (pki.known_client(&good), pki.known_client(&bad));
    assert_eq!(told(&good, address, "a.example").await, Some(200));
    assert_eq!(told(&back, address, "a.example").await, Some(200));

    pki.write("list.crl", &pki.authority.crl(&[&bad]));
    let changed = objects.replace("respond = {}", "respond = { body = \"later\" }");
    gateway.reload(&https(&listener, &changed)).await;

    assert_eq!(
        told(&back, address, "a.example").await,
        None,
        "it has a session"
    );
    assert_eq!(told(&good, address, "a.example").await, Some(200));
    gateway.handshakes_fail("certificate_revoked", 1).await;
}

#[tokio::test]
async fn an_authority_that_has_expired_vouches_for_nobody() {
    let pki = Pki::new();
    let old = Authority::valid("Old", (-100, -1));
    pki.write("old.pem", old.pem());
    let listener = format!(
        "client_certificates = {{ ca = {} }}\n",
        pki.quoted("old.pem")
    );
    let objects = pki.certificate("a", &["a.example"]) + "[routes.r]\nrespond = {}\n";
    let gateway = gateway(&https(&listener, &objects)).await;
    let leaf: Leaf = old.client(&["cart"]);
    let known = pki.known_client(&leaf);
    assert_eq!(told(&known, gateway.address(), "a.example").await, None);
    gateway.handshakes_fail("certificate_authority", 1).await;
}

#[tokio::test]
async fn names_and_keys_narrow_who_is_let_in() {
    let pki = Pki::new();
    let (cart, other) = (
        pki.authority.client(&["spiffe://shop/cart"]),
        pki.authority.client(&["spiffe://office/desk"]),
    );
    let objects = pki.certificate("a", &["a.example"]) + "[routes.r]\nrespond = {}\n";
    let listener = asks(&pki, ", san = [\"spiffe://shop/*\"]");
    let gateway = gateway(&https(&listener, &objects)).await;
    let address = gateway.address();
    let (cart, other) = (pki.known_client(&cart), pki.known_client(&other));
    assert_eq!(told(&cart, address, "a.example").await, Some(200));
    assert_eq!(told(&other, address, "a.example").await, None);
    gateway.handshakes_fail("certificate_not_named", 1).await;
}
