//! TLS that is not ended here: whom a client asks for decides, and its bytes arrive as it sent them.

use std::{fmt::Write as _, time::Duration};

use sluice_certs::testing::{Client as TlsClient, Server, alert};
use sluice_tests::{
    Client, Front, Gateway, Origin,
    eventually::{becomes, eventually},
    gateway,
    tls::{Pki, connect, https, secure},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A route that takes TLS for these hosts as it is.
fn passed(name: &str, hosts: &str, to: impl std::fmt::Display) -> String {
    format!(
        "[routes.{name}]\nlisteners = [\"web\"]\nmode = \"passthrough\"\nhosts = {hosts}\nto = \"{to}\"\n"
    )
}

/// A listener that ends no TLS, with these objects.
fn tls(objects: &str) -> String {
    format!("[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{objects}")
}

/// An origin that ends TLS with a certificate for these names and answers requests with `text`.
async fn front(pki: &Pki, names: &[&str], text: &str) -> (Front, Origin) {
    let origin = Origin::text(text).await;
    let server = Server::new(&pki.authority.server(names), &["http/1.1"], None, false);
    (Front::before(origin.address(), server).await, origin)
}

/// An origin that takes whatever comes.
async fn silent() -> Origin {
    Origin::start(|mut peer| async move { peer.hold().await }).await
}

/// Sends `bytes` in pieces, each in a segment of its own as far as a client can see to that.
async fn send_in_pieces(gateway: &Gateway, bytes: &[u8], size: usize) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in bytes.chunks(size) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream
}

#[tokio::test]
async fn some_names_are_passed_through_and_the_others_are_served_here() {
    let pki = Pki::new();
    let (theirs, behind) = front(&pki, &["p.example", "*.p.example"], "passed").await;
    let ours = Origin::text("ended").await;
    let objects = pki.certificate("a", &["a.example"])
        + &passed("p", "[\"p.example\", \"*.p.example\"]", theirs.address())
        + &format!(
            "[routes.h]\nhosts = [\"a.example\"]\nto = \"{}\"\n",
            ours.address()
        );
    let gateway = gateway(&https("", &objects)).await;

    for (name, certified) in [("p.example", "p.example"), ("x.p.example", "p.example")] {
        let mut client = secure(&pki.client(), gateway.address(), name).await;
        assert_eq!(client.stream().certificate().unwrap().names[0], certified);
        assert_eq!(client.get(name, "/").await.text(), "passed");
    }
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.stream().certificate().unwrap().names, ["a.example"]);
    assert_eq!(client.get("a.example", "/").await.text(), "ended");

    let names: Vec<_> = theirs.seen().into_iter().map(|seen| seen.sni).collect();
    let asked = |name: &str| Some(name.to_owned());
    assert_eq!(names, [asked("p.example"), asked("x.p.example")]);
    let request = &behind.requests()[0];
    assert_eq!(request.header("x-forwarded-for"), None, "nobody read it");

    // What nobody wants is refused as it would be without those routes.
    let refused = connect(&pki.client(), gateway.address(), "b.example").await;
    let error = refused.unwrap_err();
    assert_eq!(alert(&error).as_deref(), Some("unrecognized_name"));
    gateway.handshakes_fail("unrecognized_name", 1).await;
    assert_eq!(gateway.handshakes("web").kinds, [0, 0, 1, 0]);

    drop(client);
    let line = gateway.log().wait_for("sni", "x.p.example").await;
    assert_eq!(line["route"], "p");
    assert_eq!(line["scheme"], "tls");
    assert_eq!(line["endpoint"], theirs.address().to_string());
}

#[tokio::test]
async fn a_first_message_arrives_as_it_was_sent_in_whatever_pieces() {
    let pki = Pki::new();
    let names: Vec<String> = (0..3000).map(|n| format!("made-up/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let usual = pki.client().first_message("p.example");
    let large = TlsClient::new(&pki.authority, &names).first_message("p.example");
    assert!(large.len() > 32 << 10, "{} bytes", large.len());
    // As few as fit into a record, and what comes behind.
    let message = &usual[5..];
    let many = message.chunks(7).flat_map(|part| {
        let length = u8::try_from(part.len()).unwrap();
        [&[22, 3, 1, 0, length], part].concat()
    });
    let many: Vec<u8> = many.collect();
    let more = [&usual[..], b"more"].concat();

    let origin = silent().await;
    let objects = passed("p", "[\"p.example\"]", origin.address());
    let gateway = gateway(&tls(&objects)).await;
    let all = [
        (&usual, 1),
        (&usual, 1 << 20),
        (&large, 1000),
        (&large, 1 << 20),
        (&many, 5),
        (&more, 1 << 20),
    ];
    for (number, (bytes, size)) in all.into_iter().enumerate() {
        let stream = send_in_pieces(&gateway, bytes, size).await;
        becomes("what was sent", bytes.len(), || {
            origin.saw().get(number).map_or(0, Vec::len)
        })
        .await;
        assert_eq!(origin.saw()[number], *bytes, "{number}");
        drop(stream);
    }
}

#[tokio::test]
async fn rules_choose_by_what_is_offered_and_by_who_asks_for_nobody() {
    let pki = Pki::new();
    let (h2, nobody, rest) = (silent().await, silent().await, silent().await);
    let rule = |condition: &str, origin: &Origin| {
        format!(
            "[[routes.p.rules]]\nmatch = {{ {condition} }}\nto = \"{}\"\n",
            origin.address()
        )
    };
    let objects = "[routes.p]\nlisteners = [\"web\"]\nmode = \"passthrough\"\nhosts = [\"*\"]\n"
        .to_owned()
        + &rule("alpn = [\"h3\", \"h2\"]", &h2)
        + &rule("sni = { present = false }", &nobody)
        + &rule("client = \"127.0.0.0/8\"", &rest);
    let gateway = gateway(&tls(&objects)).await;

    let both = TlsClient::new(&pki.authority, &["http/1.1", "h2"]);
    let hidden = TlsClient::hiding(&pki.authority, &["http/1.1"], "public.example");
    for (client, expected) in [
        (both, &h2),
        (pki.client().nameless(), &nobody),
        (pki.client(), &rest),
        (hidden, &rest),
    ] {
        let before = expected.connections();
        let bytes = client.first_message("a.example");
        let stream = send_in_pieces(&gateway, &bytes, 1 << 20).await;
        eventually("the right origin", || {
            let saw = expected.saw();
            (saw.len() == before + 1 && saw[before] == bytes).then_some(())
        })
        .await;
        drop(stream);
    }
    // Of an encrypted message, what stands outside is known.
    gateway.log().wait_for("sni", "public.example").await;
}

#[tokio::test]
async fn a_listener_without_certificates_refuses_what_no_route_wants() {
    let pki = Pki::new();
    let origin = silent().await;
    let objects = passed("p", "[\"*.p.example\"]", origin.address());
    let gateway = gateway(&tls(&objects)).await;
    for (client, name) in [
        (pki.client(), "p.example"),
        (pki.client(), "a.example"),
        (pki.client().nameless(), "x.p.example"),
    ] {
        let refused = connect(&client, gateway.address(), name).await;
        let error = refused.unwrap_err();
        let said = alert(&error);
        assert_eq!(said.as_deref(), Some("unrecognized_name"), "{name}");
    }
    gateway.handshakes_fail("unrecognized_name", 3).await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn clients_that_say_too_little_or_too_much_are_refused_and_nobody_else_is() {
    let pki = Pki::new();
    let (theirs, _behind) = front(&pki, &["p.example"], "passed").await;
    let mut objects = passed("p", "[\"p.example\"]", theirs.address());
    write!(objects, "{}", pki.certificate("a", &["a.example"])).unwrap();
    objects += "[routes.h]\nhosts = [\"a.example\"]\nrespond = { body = \"ended\" }\n";
    let listener = "timeouts = { tls_handshake = \"500ms\" }";
    let gateway = gateway(&https(listener, &objects)).await;
    let bytes = pki.client().first_message("p.example");

    // Silent, slow, and one that never ends what it began.
    let mut slow = Vec::new();
    for sent in [0, 3, 7, bytes.len() - 1] {
        let mut client = gateway.connect().await;
        client.send(&bytes[..sent]).await;
        slow.push(client);
    }
    let mut client = secure(&pki.client(), gateway.address(), "p.example").await;
    assert_eq!(client.get("p.example", "/").await.text(), "passed");
    for mut client in slow {
        assert_eq!(client.rest().await, b"");
    }
    gateway.handshakes_fail("timeout", 4).await;

    // Cut off.
    let mut client = gateway.connect().await;
    client.send(&bytes[..bytes.len() / 2]).await;
    client.finish().await;
    client.rest().await;
    gateway.handshakes_fail("closed", 1).await;

    // No TLS.
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: p.example\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 400);
    gateway.handshakes_fail("plain_http", 1).await;

    // Without an end: records of one byte, and one message that would be longer than any.
    let small = [22, 3, 1, 0, 1, 1].repeat(1 << 18);
    let large = [
        &[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..],
        &vec![0; 1 << 20],
    ]
    .concat();
    for endless in [small, large] {
        let mut client = gateway.connect().await;
        client.try_send_for(&endless, Duration::from_secs(5)).await;
        client.rest().await;
    }
    gateway.handshakes_fail("malformed", 2).await;
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.text(), "ended");
}

#[tokio::test]
async fn an_upgrade_and_a_half_close_inside_tls_that_is_passed_through_are_not_disturbed() {
    let pki = Pki::new();
    let origin = Origin::start(|mut peer| async move {
        peer.head().await.unwrap();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
            .await;
        peer.echo().await;
    })
    .await;
    let server = Server::new(&pki.authority.server(&["p.example"]), &[], None, false);
    let theirs = Front::before(origin.address(), server).await;
    let objects = passed("p", "[\"p.example\"]", theirs.address());
    let gateway = gateway(&tls(&objects)).await;

    let client = TlsClient::new(&pki.authority, &[]);
    let mut client: Client<_> = secure(&client, gateway.address(), "p.example").await;
    client
        .send("GET /chat HTTP/1.1\r\nHost: p.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 101);
    let large = vec![b'x'; 256 << 10];
    client.send(&large).await;
    assert_eq!(client.read_at_least(large.len()).await, large);
    client.send("last").await;
    client.finish().await;
    assert_eq!(client.rest().await, b"last");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_costs_the_client_its_connection_and_is_told_of() {
    let pki = Pki::new();
    let (dead, _guard) = sluice_tests::origin::closed_port();
    let objects = passed("p", "[\"p.example\"]", dead);
    let gateway = gateway(&tls(&objects)).await;
    let bytes = pki.client().first_message("p.example");
    let mut stream = send_in_pieces(&gateway, &bytes, 1 << 20).await;
    let mut rest = Vec::new();
    let ended = timeout(sluice_tests::PATIENCE, stream.read_to_end(&mut rest)).await;
    // As no end of TLS: there is none.
    assert!(ended.unwrap().is_err() || rest.is_empty());
    let line = gateway.log().wait_for("verdict", "connect").await;
    assert_eq!(line["sni"], "p.example");
}
