//! What is said inside a tunnel is held against what was asked for.

use std::time::Duration;

use sluice_certs::testing::{Client as TlsClient, Speaks, alert};
use sluice_tests::{
    Origin,
    eventually::within,
    origin::Peer,
    outside::{Outside, rule},
    tls::Pki,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An origin that only listens.
async fn silent() -> Origin {
    Origin::start(|mut peer: Peer| async move { peer.hold().await }).await
}

/// Everything until the proxy closes; a reset counts as a close.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = within("the proxy closes", stream.read_to_end(&mut bytes)).await;
    drop(read);
    bytes
}

/// What the origin got of these bytes, and the reason in the log where it got nothing.
async fn sent(more: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let origin = silent().await;
    let port = origin.address().port();
    let listener = "timeouts = { sniff = \"500ms\" }";
    let outside = Outside::start(
        &["ok.test"],
        listener,
        &rule("ok", "\"ok.test\"", port, more),
    )
    .await;
    let mut stream = outside.tunnel(&format!("ok.test:{port}")).await;
    stream.write_all(bytes).await.expect("sent");
    let closed = tokio::time::timeout(Duration::from_millis(1500), rest(&mut stream)).await;
    let saw = origin.saw().concat();
    if closed.is_err() {
        drop(stream);
        outside.line("ok.test").await;
        assert_eq!(outside.gateway.egress("ok"), [1, 0, 0]);
        return Ok(saw);
    }
    assert!(saw.is_empty(), "{} bytes went out", saw.len());
    let line = outside.line("ok.test").await;
    assert_eq!(line["verdict"], "egress_refused", "{line}");
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(outside.gateway.egress("ok"), [0, 1, 0]);
    Err(line["egress_reason"].as_str().expect("a reason").to_owned())
}

#[tokio::test]
async fn a_first_message_has_to_be_for_the_target() {
    let pki = Pki::new();
    let client = pki.client();
    let hello = client.first_message("ok.test");
    assert_eq!(sent("", &hello).await.as_deref(), Ok(&*hello));
    let other = client.first_message("other.test");
    assert_eq!(sent("", &other).await.unwrap_err(), "sni_mismatch");
    let address = client.first_message("127.0.0.1");
    assert_eq!(sent("", &address).await.unwrap_err(), "sni_absent");
}

#[tokio::test]
async fn who_names_nobody_or_hides_the_name_needs_a_rule_that_says_so() {
    let pki = Pki::new();
    let nameless = pki.client().nameless().first_message("ok.test");
    assert_eq!(sent("", &nameless).await.unwrap_err(), "sni_absent");
    let allowed = sent("without_sni = true", &nameless).await;
    assert_eq!(allowed.as_deref(), Ok(&*nameless));

    // What is hidden could be anybody, also behind the right name.
    let hiding = TlsClient::hiding(&pki.authority, &["h2"], "ok.test").first_message("evil.test");
    assert_eq!(sent("", &hiding).await.unwrap_err(), "sni_encrypted");
    let allowed = sent("encrypted_client_hello = true", &hiding).await;
    assert_eq!(allowed.as_deref(), Ok(&*hiding));
}

#[tokio::test]
async fn what_is_no_tls_needs_a_rule_for_anything() {
    let plain = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n";
    assert_eq!(sent("", plain).await.unwrap_err(), "protocol");
    assert_eq!(sent("", b"\x16\x03").await.unwrap_err(), "protocol");
    assert_eq!(sent("", b"").await.unwrap_err(), "protocol");
    let allowed = sent("protocols = \"tcp\"", plain).await;
    assert_eq!(allowed.as_deref(), Ok(&plain[..]));
}

#[tokio::test]
async fn where_all_else_is_allowed_a_rule_still_leads_to_its_own_addresses() {
    let pki = Pki::new();
    let hello = pki.client().first_message("ok.test");
    let origin = silent().await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "protocols = \"tls\"");
    let rules = format!("[egress]\ndefault = \"allow\"\n{rules}");
    let listener = "timeouts = { sniff = \"500ms\" }";
    let outside = Outside::start(&["ok.test"], listener, &rules).await;
    // No other rule lists where the name leads, so that everything else is refused there.
    for (bytes, goes) in [(&hello[..], true), (&b"hello"[..], false)] {
        let before = origin.saw().concat().len();
        let mut stream = outside.tunnel(&format!("ok.test:{port}")).await;
        stream.write_all(bytes).await.expect("sent");
        if goes {
            sluice_tests::eventually::eventually("all of it arrives", || {
                (origin.saw().concat().len() == before + bytes.len()).then_some(())
            })
            .await;
        } else {
            rest(&mut stream).await;
            assert_eq!(origin.saw().concat().len(), before);
        }
    }
    let log = outside.gateway.log();
    let line = log.wait_for("verdict", "egress_address").await;
    assert!(line.get("egress").is_none(), "{line}");
}

#[tokio::test]
async fn nobody_sees_what_is_said_inside_of_tls() {
    let pki = Pki::new();
    let (front, origin) = super::secure_origin(&pki, &["ok.test"]).await;
    let port = front.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let stream = outside.tunnel(&format!("ok.test:{port}")).await;
    let secure = pki.client().connect(stream, "ok.test").await.expect("TLS");
    let mut client = sluice_tests::Client::over(secure);
    assert_eq!(client.get("other.test", "/").await.status, 200);
    assert_eq!(origin.requests()[0].header("host"), Some("other.test"));
}

#[tokio::test]
async fn a_client_of_tls_is_told_in_its_own_words() {
    let pki = Pki::new();
    let origin = silent().await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let stream = outside.tunnel(&format!("ok.test:{port}")).await;
    let refused = pki.client().connect(stream, "other.test").await;
    let refused = refused.expect_err("no handshake");
    assert_eq!(
        alert(&refused).as_deref(),
        Some("AccessDenied"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_pieces_of_a_first_message_make_no_difference() {
    let pki = Pki::new();
    let origin = silent().await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let names: Vec<String> = (0..500).map(|n| format!("made-up/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let client = TlsClient::with(&pki.authority, &names, Speaks::Any, None);
    for (name, passes) in [("ok.test", true), ("other.test", false)] {
        let before = origin.saw().concat().len();
        let hello = client.first_message(name);
        let mut stream = outside.tunnel(&format!("ok.test:{port}")).await;
        for piece in hello.chunks(97) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if passes {
            sluice_tests::eventually::eventually("all of it arrives", || {
                (origin.saw().concat().len() == before + hello.len()).then_some(())
            })
            .await;
        } else {
            rest(&mut stream).await;
            assert_eq!(origin.saw().concat().len(), before);
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_only_where_anything_may_be_said() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.send("220 hello\r\n").await;
        peer.hold().await;
    })
    .await;
    let port = origin.address().port();
    for (more, heard) in [("protocols = \"tcp\"", true), ("", false)] {
        let outside =
            Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, more)).await;
        let mut stream = outside.tunnel(&format!("ok.test:{port}")).await;
        let mut word = [0; 11];
        let read = within("a word", stream.read_exact(&mut word)).await;
        assert_eq!(read.is_ok(), heard);
        if !heard {
            assert_eq!(outside.line("ok.test").await["egress_reason"], "protocol");
        }
    }
}

#[tokio::test]
async fn who_leaves_without_a_word_was_let_out() {
    let origin = silent().await;
    let port = origin.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    drop(outside.tunnel(&format!("ok.test:{port}")).await);
    let line = outside.line("ok.test").await;
    assert_eq!(line["verdict"], "client_closed", "{line}");
    assert_eq!(outside.gateway.egress("ok"), [1, 0, 0]);
}
