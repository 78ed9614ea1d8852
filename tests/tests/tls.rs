//! TLS at the edge: who gets a handshake, with which certificate, and which requests belong on it.

use std::{collections::BTreeSet, time::Duration};

use sluice_certs::testing::{Client as TlsClient, Key, Speaks, Wanted, alert};
use sluice_tests::{
    Client, Gateway, Origin,
    eventually::within,
    gateway,
    h2::wire,
    process::Sluice,
    tls::{Multiplexed, Pki, connect, files, https, s_client, secure},
    tools::are_there,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

/// A gateway that ends TLS on `web`, with these keys of the listener and these objects.
async fn ending(listener: &str, objects: &str) -> Gateway {
    gateway(&https(listener, objects)).await
}

/// A route that says which host was asked for.
fn says_host(hosts: &str) -> String {
    format!(
        "[routes.r]\nhosts = {hosts}\nrespond = {{ body = \"hello\", headers = {{ x-host = \"{{request.host}}\" }} }}\n"
    )
}

#[tokio::test]
async fn both_versions_of_http_are_agreed_on_and_the_origin_hears_of_https() {
    let pki = Pki::new();
    let origin = Origin::text("hello").await;
    let route = format!(
        "[routes.r]\nhosts = [\"a.example\"]\nto = \"{}\"\n",
        origin.address()
    );
    let gateway = ending("", &(pki.certificate("a", &["a.example"]) + &route)).await;

    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.stream().protocol().as_deref(), Some("http/1.1"));
    assert_eq!(client.stream().group(), "X25519MLKEM768");
    assert_eq!(client.get("a.example", "/one").await.text(), "hello");

    let both = TlsClient::new(&pki.authority, &["http/1.1", "h2"]);
    let mut client = Multiplexed::connect(&both, gateway.address(), "a.example").await;
    assert_eq!(client.status("https://a.example/two").await, 200);

    for request in origin.wait_for_requests(2).await {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        assert_eq!(request.header("x-forwarded-port"), Some("443"));
    }
    let log = gateway.log();
    let one = log.wait_for("path", "/one").await;
    assert_eq!(one["scheme"], "https");
    assert_eq!(one["tls_version"], "TLSv1.3");
    assert_eq!(one["sni"], "a.example");
    assert_eq!(one["alpn"], "http/1.1");
    assert!(one["tls_cipher"].as_str().unwrap().starts_with("TLS_AES_"));
    assert_eq!(log.wait_for("path", "/two").await["alpn"], "h2");
    assert_eq!(gateway.handshakes("web").kinds, [0, 0, 2, 0]);
}

#[tokio::test]
async fn whoever_agreed_to_a_version_of_http_is_held_to_it() {
    let pki = Pki::new();
    let objects = pki.certificate("a", &["a.example"]) + &says_host("[\"a.example\"]");
    let gateway = ending("", &objects).await;
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    // Settings, and a request for `/`.
    let preface = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &wire::settings(&[]),
        &wire::request(1, &wire::get("/")),
    ]
    .concat();

    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    client.send(&preface).await;
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "));

    let only = TlsClient::new(&pki.authority, &["h2"]);
    let mut client = secure(&only, gateway.address(), "a.example").await;
    assert_eq!(client.stream().protocol().as_deref(), Some("h2"));
    client.send(request).await;
    let rest = client.rest().await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"));
    assert!(!rest.windows(5).any(|bytes| bytes == b"hello"));

    // Who agreed to nothing says it with the first bytes.
    let none = TlsClient::new(&pki.authority, &[]);
    let mut client = secure(&none, gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.status, 200);
    let mut client = secure(&none, gateway.address(), "a.example").await;
    client.send(&preface).await;
    assert_eq!(client.read_at_least(9).await[3], 4, "settings");
    let log = gateway.log();
    let bad = log.wait_for("verdict", "bad_request").await;
    assert_eq!(bad["status"], 400);
}

#[tokio::test]
async fn each_of_150_hosts_gets_its_own_certificate() {
    let pki = Pki::new();
    let hosts: Vec<String> = (0..150).map(|n| format!("h{n}.example")).collect();
    let certificates = hosts.iter().enumerate();
    let certificates: String = certificates
        .map(|(n, host)| pki.certificate(&format!("c{n}"), &[host]))
        .collect();
    let gateway = ending("", &(certificates + &says_host("[\"*\"]"))).await;
    let connector = pki.client();

    for host in &hosts {
        let mut client = secure(&connector, gateway.address(), host).await;
        let certificate = client.stream().certificate().expect("a certificate");
        assert_eq!(certificate.names, [host.as_str()]);
        let reply = client.get(host, "/").await;
        assert_eq!(reply.header("x-host"), Some(host.as_str()));
    }
}

#[tokio::test]
async fn the_exact_certificate_wins_then_the_wildcard_then_a_default_that_was_named() {
    if !are_there(&["openssl"]) {
        return;
    }
    let pki = Pki::new();
    let certificates = pki.certificate("one", &["one.example"])
        + &pki.certificate("wild", &["*.example"])
        + &pki.certificate("fallback", &["fallback.test"]);
    let listener =
        "certificates = { names = [\"one\", \"wild\", \"fallback\"], default = \"fallback\" }";
    let gateway = ending(listener, &(certificates + &says_host("[\"*\"]"))).await;
    let shown = async |host: &str| {
        let named = ["-servername", host];
        let arguments = if host.is_empty() {
            &["-noservername"][..]
        } else {
            &named
        };
        let text = s_client(&pki, gateway.address(), arguments).await;
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix("subject=CN = "));
        subject.map(str::to_owned)
    };
    for (asked, expected) in [
        ("one.example", "one.example"),
        ("ONE.Example", "one.example"),
        ("one.example.", "one.example"),
        ("two.example", "*.example"),
        ("TWO.EXAMPLE.", "*.example"),
        ("a.b.example", "fallback.test"),
        ("other.test", "fallback.test"),
        ("", "fallback.test"),
    ] {
        assert_eq!(shown(asked).await.as_deref(), Some(expected), "{asked:?}");
    }
}

#[tokio::test]
async fn a_name_without_a_certificate_ends_the_handshake() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let gateway = ending("", &(certificate + &says_host("[\"*\"]"))).await;

    for (client, name) in [
        (pki.client(), "b.example"),
        (pki.client(), "a.a.example"),
        (pki.client().nameless(), "a.example"),
    ] {
        let error = connect(&client, gateway.address(), name).await.unwrap_err();
        assert_eq!(
            alert(&error).as_deref(),
            Some("unrecognized_name"),
            "{name}"
        );
    }
    gateway.handshakes_fail("unrecognized_name", 3).await;
    assert_eq!(gateway.handshakes("web").kinds, [0; 4]);
}

#[tokio::test]
async fn a_name_without_a_certificate_is_told_to_the_operator_but_not_again_and_again() {
    let pki = Pki::new();
    let objects = pki.certificate("a", &["a.example"]) + &says_host("[\"*\"]");
    let config = https("", &objects).replace("127.0.0.1:0", "{address}");
    let gateway = Sluice::run(&config).await;
    for _ in 0..3 {
        let refused = connect(&pki.client(), gateway.address(), "forgotten.example").await;
        assert!(refused.is_err());
    }
    let said = gateway.says("forgotten.example").await;
    assert_eq!(said.matches("TLS handshake refused").count(), 1, "{said}");
    assert!(said.contains("\"level\":\"WARN\""), "{said}");
    assert!(said.contains("unrecognized_name"), "{said}");
}

#[tokio::test]
async fn a_client_gets_the_certificate_whose_key_it_can_verify() {
    if !are_there(&["openssl"]) {
        return;
    }
    let pki = Pki::new();
    let wanted = Wanted::server(&["a.example"]);
    pki.place(
        "ecdsa",
        &pki.authority.sign(&wanted.clone().subject("ecdsa")),
    );
    let rsa = wanted.subject("rsa").key(Key::Rsa);
    pki.place("rsa", &pki.authority.sign(&rsa));
    let objects = format!(
        "[certificates.a]\nhosts = [\"a.example\"]\nfiles = [{}, {}]\n{}",
        pki.files("rsa"),
        pki.files("ecdsa"),
        says_host("[\"a.example\"]")
    );
    let gateway = ending("", &objects).await;
    for (arguments, expected) in [
        (&["-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256"][..], "ecdsa"),
        (&["-sigalgs", "RSA-PSS+SHA256"], "rsa"),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "rsa",
        ),
        (&["-tls1_2"], "ecdsa"),
    ] {
        let arguments = [&["-servername", "a.example"], arguments].concat();
        let text = s_client(&pki, gateway.address(), &arguments).await;
        let subject = format!("subject=CN = {expected}");
        assert!(text.contains(&subject), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn what_a_client_speaks_decides_whether_there_is_a_handshake() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let listener = "tls = { min_version = \"1.3\" }";
    let gateway = ending(listener, &(certificate + &says_host("[\"*\"]"))).await;

    let old = TlsClient::with(&pki.authority, &["h2"], Speaks::Tls12, None);
    let error = connect(&old, gateway.address(), "a.example").await;
    assert_eq!(
        alert(&error.unwrap_err()).as_deref(),
        Some("ProtocolVersion")
    );
    gateway.handshakes_fail("protocol_version", 1).await;

    let other = TlsClient::new(&pki.authority, &["imap"]);
    let error = connect(&other, gateway.address(), "a.example").await;
    let told = alert(&error.unwrap_err());
    assert_eq!(told.as_deref(), Some("NoApplicationProtocol"));
    gateway.handshakes_fail("no_application_protocol", 1).await;

    // Without a word about protocols, it is HTTP/1.1.
    let silent = TlsClient::new(&pki.authority, &[]);
    let mut client = secure(&silent, gateway.address(), "a.example").await;
    assert_eq!(client.stream().protocol(), None);
    assert_eq!(client.get("a.example", "/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_forgets_tls_is_told_so() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let gateway = ending("", &(certificate + &says_host("[\"*\"]"))).await;

    let reply = gateway.get("a.example", "/").await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("https://"), "{}", reply.text());
    gateway.handshakes_fail("plain_http", 1).await;

    let mut other = Client::connect(gateway.address()).await;
    other.send(b"\0\0\0\0").await;
    assert_eq!(other.rest().await, b"");
    gateway.handshakes_fail("not_tls", 1).await;
}

#[tokio::test]
async fn silent_and_slow_handshakes_are_cut_and_hold_nobody_up() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let listener = "timeouts = { tls_handshake = \"700ms\" }";
    let gateway = ending(listener, &(certificate + &says_host("[\"*\"]"))).await;

    let started = Instant::now();
    let cut = async |bytes: &'static [u8]| {
        let stream = TcpStream::connect(gateway.address()).await;
        let (mut reader, mut writer) = stream.expect("it accepts").into_split();
        let trickle = async {
            for byte in bytes {
                if writer.write_u8(*byte).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let end = async { drop(reader.read_to_end(&mut Vec::new()).await) };
        tokio::select! {
            () = within("the gateway closes", end) => started.elapsed(),
            () = trickle => unreachable!("it never ends"),
        }
    };
    // A hello that announces more than ever comes.
    let slow: &[u8] = &[
        22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let served = async {
        let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
        assert_eq!(client.get("a.example", "/").await.status, 200);
        started.elapsed()
    };
    let (silent, slow, served) = tokio::join!(cut(&[]), cut(slow), served);
    for lasted in [silent, slow] {
        assert!(lasted >= Duration::from_millis(650), "{lasted:?}");
        assert!(served < lasted, "{served:?} before {lasted:?}");
    }
    gateway.handshakes_fail("timeout", 2).await;
}

#[tokio::test]
async fn tickets_of_one_worker_are_good_at_every_other() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let workers: u64 = 4;
    let config = https("", &(certificate + &says_host("[\"*\"]")));
    let gateway = Gateway::start(&config, usize::try_from(workers).unwrap()).await;
    for speaks in [Speaks::Tls13, Speaks::Tls12] {
        let connector = TlsClient::with(&pki.authority, &["http/1.1"], speaks, None);
        for number in 0..24 {
            let mut client = secure(&connector, gateway.address(), "a.example").await;
            assert_eq!(client.get("a.example", "/").await.status, 200);
            assert_eq!(
                client.stream().is_resumed(),
                number > 0,
                "{speaks:?} {number}"
            );
        }
    }
    // Each worker counts its connections in steps of their number.
    let lines = gateway.log().wait(48).await;
    let ids = lines
        .iter()
        .map(|line| line["connection"].as_u64().unwrap());
    let served: BTreeSet<u64> = ids.map(|id| id % workers).collect();
    assert!(served.len() > 1, "all at one worker");
    assert_eq!(gateway.handshakes("web").kinds, [1, 23, 1, 23]);
}

#[tokio::test]
async fn a_listener_without_tickets_resumes_nothing_in_tls_1_3() {
    let pki = Pki::new();
    let certificate = pki.certificate("a", &["a.example"]);
    let listener = "tls = { session_tickets = false }";
    let gateway = ending(listener, &(certificate + &says_host("[\"*\"]"))).await;
    let connector = pki.client();
    for _ in 0..2 {
        let mut client = secure(&connector, gateway.address(), "a.example").await;
        assert_eq!(client.get("a.example", "/").await.status, 200);
        assert!(!client.stream().is_resumed());
    }
}

#[tokio::test]
async fn requests_for_every_host_of_the_certificate_come_over_one_connection_and_no_others() {
    let pki = Pki::new();
    let objects = pki.certificate("ab", &["a.example", "b.example"])
        + &pki.certificate("c", &["c.example"])
        + &says_host("[\"a.example\", \"b.example\", \"c.example\"]");
    let gateway = ending("", &objects).await;

    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    for (host, expected) in [
        ("a.example", 200),
        ("b.example", 200),
        ("c.example", 421),
        ("unknown.example", 421),
        ("a.example", 200),
    ] {
        assert_eq!(client.get(host, "/").await.status, expected, "{host}");
    }
    let both = TlsClient::new(&pki.authority, &["h2"]);
    let mut client = Multiplexed::connect(&both, gateway.address(), "a.example").await;
    assert_eq!(client.status("https://b.example/").await, 200);
    assert_eq!(client.status("https://c.example/").await, 421);
    assert_eq!(client.status("https://a.example/").await, 200);

    let line = gateway.log().wait_for("host", "c.example").await;
    assert_eq!(line["verdict"], "misdirected");
    assert_eq!(line["sni"], "a.example");
}

#[tokio::test]
async fn a_stream_inside_tls_goes_to_the_upstream_of_its_name_and_ends_half_by_half() {
    let pki = Pki::new();
    // Says what it heard once the other side is done.
    let origin = Origin::start(|mut peer| async move {
        while peer.read().await > 0 {}
        let mut heard = peer.take(0).await;
        heard.reverse();
        peer.send(heard).await;
    })
    .await;
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{}\
         [routes.r]\nlisteners = \"web\"\nhosts = [\"a.example\"]\nto = \"{}\"\n",
        pki.certificate("a", &["a.example", "b.example"]),
        origin.address()
    );
    let gateway = gateway(&config).await;

    let client = TlsClient::new(&pki.authority, &[]);
    let stream = connect(&client, gateway.address(), "a.example").await;
    let mut stream = stream.expect("the handshake succeeds");
    stream.write_all(b"abc").await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut heard = String::new();
    let all = stream.read_to_string(&mut heard);
    within("the answer", all).await.expect("the answer");
    assert_eq!(heard, "cba");
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["route"], "r");
    assert_eq!(line["bytes_in"], 3);
    assert_eq!(line["bytes_out"], 3);

    // No route is for this name.
    let stream = connect(&client, gateway.address(), "b.example").await;
    let mut stream = stream.expect("the handshake succeeds");
    let mut nothing = Vec::new();
    let end = stream.read_to_end(&mut nothing);
    drop(within("the gateway closes", end).await);
    assert!(nothing.is_empty());
    let line = gateway.log().wait_for("sni", "b.example").await;
    assert_eq!(line["verdict"], "no_route");
}

#[tokio::test]
async fn broken_pairs_are_refused_with_their_reason() {
    let pki = Pki::new();
    let good = https(
        "",
        &(pki.certificate("a", &["a.example"]) + &says_host("[\"a.example\"]")),
    );
    let gateway = gateway(&good).await;
    let leaf = pki.authority.server(&["b.example"]);
    let other = pki.authority.server(&["b.example"]);
    let broken = |name: &str, chain: &str, key: &str| {
        let folder = pki.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("chain.pem"), chain).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        files(&folder)
    };
    let encrypted = leaf.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (pair, reason) in [
        (broken("b1", &leaf.chain, &other.key), "does not belong"),
        (broken("b2", &leaf.chain, &encrypted), "encrypted"),
        (broken("b3", "", &leaf.key), "no certificate"),
        (broken("b4", &leaf.chain, ""), "no private key"),
        (files(&pki.path("absent")), "cannot be read"),
    ] {
        let more = format!("[certificates.b]\nfiles = {pair}\n");
        let refused = gateway.try_reload(&(good.clone() + &more)).await;
        let refused = refused.expect_err("it is refused");
        assert!(refused.contains(reason), "{reason}: {refused}");
        assert!(refused.contains("certificates.b.files"), "{refused}");
    }
    let uncovered = format!(
        "[certificates.b]\nhosts = [\"b.example\", \"c.example\"]\nfiles = {}\n",
        broken("b5", &leaf.chain, &leaf.key)
    );
    let refused = gateway.try_reload(&(good.clone() + &uncovered)).await;
    let refused = refused.expect_err("it is refused");
    assert!(
        refused.contains("not for c.example, but for b.example"),
        "{refused}"
    );
    let unserved = good.replace(
        "hosts = [\"a.example\"]",
        "hosts = [\"a.example\", \"x.example\"]",
    );
    let refused = gateway
        .try_reload(&unserved)
        .await
        .expect_err("it is refused");
    assert!(refused.contains("covers x.example"), "{refused}");

    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.status, 200);
}

#[tokio::test]
async fn a_name_with_an_embedded_nul_stands_for_nothing() {
    let pki = Pki::new();
    let leaf = pki
        .authority
        .server(&["bank.example\0.evil.example", "good.example"]);
    pki.place("odd", &leaf);
    let objects = format!(
        "[certificates.odd]\nfiles = {}\n{}",
        pki.files("odd"),
        says_host("[\"*\"]")
    );
    let gateway = ending("", &objects).await;

    let error = connect(&pki.client(), gateway.address(), "bank.example").await;
    let error = error.unwrap_err();
    assert_eq!(alert(&error).as_deref(), Some("unrecognized_name"));
}
