//! Other people's programs against a listener that ends TLS: what they find, and that they get in.

use std::{fs::File, net::SocketAddr, path::Path, sync::Arc};

use sluice_certs::testing::{Key, Wanted};
use sluice_tests::{
    Gateway, PATIENCE, gateway,
    process::{Sluice, free_ports},
    tls::{Pki, https, s_client},
    tools::{are_there, program, run, run_for, said},
};

/// A gateway whose `a.example` has an ECDSA and an RSA key and says in a header how it was asked.
async fn serving(pki: &Pki, listener: &str) -> Gateway {
    let wanted = Wanted::server(&["a.example"]);
    pki.place("ecdsa", &pki.authority.sign(&wanted));
    pki.place("rsa", &pki.authority.sign(&wanted.key(Key::Rsa)));
    let objects = format!(
        "[certificates.a]\nfiles = [{}, {}]\n\
         [routes.r]\nhosts = [\"a.example\"]\n\
         respond = {{ body = \"<p id=hello>hello</p>\", headers = {{ content-type = \"text/html\", x-tls = \"{{tls.version}}\" }} }}\n",
        pki.files("ecdsa"),
        pki.files("rsa"),
    );
    gateway(&https(listener, &objects)).await
}

/// What `testssl` cannot try with the OpenSSL of most systems: engines, and ciphers that are not even in it.
const UNTRIED: [&str; 2] = ["engine_problem", "RC4"];

/// The findings of a report of `testssl` that are above LOW, or that it could not make, and how many there
/// are in all.
fn findings(report: &str) -> (Vec<String>, usize) {
    let all: Vec<serde_json::Value> = serde_json::from_str(report).expect("a report");
    let worse = all.iter().filter(|one| {
        let text = |key: &str| one[key].as_str().expect("a text");
        match text("severity") {
            "OK" | "INFO" | "LOW" => false,
            "WARN" => !UNTRIED.contains(&text("id")),
            _ => true,
        }
    });
    let told = |one: &serde_json::Value| format!("{} {}", one["severity"], one["id"]);
    (worse.map(told).collect(), all.len())
}

#[test]
fn reads_reports() {
    let report = r#"[
        {"id": "engine_problem", "severity": "WARN"}, {"id": "TLS1", "severity": "LOW"},
        {"id": "secure_renego", "severity": "WARN"}, {"id": "SSLv3", "severity": "CRITICAL"}]"#;
    let (worse, count) = findings(report);
    assert_eq!(
        worse,
        [r#""WARN" "secure_renego""#, r#""CRITICAL" "SSLv3""#]
    );
    assert_eq!(count, 4);
}

#[tokio::test]
async fn testssl_finds_nothing_above_low() {
    if !are_there(&["testssl", "openssl"]) {
        return;
    }
    let pki = Pki::new();
    // It does not always say whom it asks for.
    let default = "certificates = { names = [\"a\"], default = \"a\" }";
    let gateway = serving(&pki, default).await;
    let report = pki.path("report.json");
    let mut testssl = program("testssl", &pki.path("."));
    testssl
        .args(["--quiet", "--warnings", "off", "--color", "0"])
        // The test's own host, and no other.
        .args(["--nodns", "none", "--ip", "127.0.0.1"])
        // Protocols, kinds of ciphers, forward secrecy, and what TLS was broken by.
        .args(["-p", "-s", "-f", "-U", "--fast"])
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("a.example:{}", gateway.address().port()));
    let said = said(&run_for(PATIENCE * 10, testssl).await);
    let report = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("no report:\n{said}"));
    let (worse, count) = findings(&report);
    assert!(worse.is_empty(), "{worse:#?}\n{said}");
    assert!(count >= 35, "{count} findings only:\n{said}");
}

/// What `curl` gets from `https://a.example/`: its exit code, and what it said.
async fn curl(pki: &Pki, gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let port = gateway.address().port();
    let mut curl = program("curl", &pki.path("."));
    curl.args(["--silent", "--show-error", "--resolve"])
        .arg(format!("a.example:{port}:127.0.0.1"))
        .args(["--write-out", " %header{x-tls} HTTP/%{http_version}"])
        .args(arguments)
        .arg(format!("https://a.example:{port}/"));
    let output = run(curl).await;
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn curl_gets_in_with_every_version_and_only_where_it_knows_the_authority() {
    if !are_there(&["curl"]) {
        return;
    }
    let pki = Pki::new();
    let gateway = serving(&pki, "").await;
    let ca = pki.path("ca.pem").display().to_string();
    for (arguments, expected) in [
        (&[][..], "TLSv1.3 HTTP/2"),
        (&["--http1.1"], "TLSv1.3 HTTP/1.1"),
        (&["--tls-max", "1.2"], "TLSv1.2 HTTP/2"),
        (
            &[
                "--tls-max",
                "1.2",
                "--ciphers",
                "ECDHE-RSA-CHACHA20-POLY1305",
            ],
            "TLSv1.2 HTTP/2",
        ),
    ] {
        let (code, text) = curl(&pki, &gateway, &[&["--cacert", &ca], arguments].concat()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    // CURLE_PEER_FAILED_VERIFICATION.
    let other = Pki::new();
    let stranger = other.path("ca.pem").display().to_string();
    for arguments in [&["--cacert", &*stranger][..], &[]] {
        let (code, text) = curl(&pki, &gateway, arguments).await;
        assert_eq!(code, Some(60), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn curl_shows_a_certificate_where_it_is_asked_for_one() {
    if !are_there(&["curl"]) {
        return;
    }
    let pki = Pki::new();
    let listener = format!("client_certificates = {{ ca = {} }}", pki.quoted("ca.pem"));
    let gateway = serving(&pki, &listener).await;
    pki.place("me", &pki.authority.client(&["spiffe://shop/cart"]));
    let path = |name: &str| pki.path(name).display().to_string();
    let (ca, chain, key) = (path("ca.pem"), path("me/chain.pem"), path("me/key.pem"));
    for versions in [&[][..], &["--tls-max", "1.2"]] {
        let known = [
            &["--cacert", &ca, "--cert", &chain, "--key", &key],
            versions,
        ]
        .concat();
        let (code, text) = curl(&pki, &gateway, &known).await;
        assert!(code == Some(0) && text.contains("HTTP/2"), "{text}");
        let (code, text) = curl(&pki, &gateway, &[&["--cacert", &*ca], versions].concat()).await;
        assert_ne!(code, Some(0), "{text}");
    }
}

#[tokio::test]
async fn openssl_agrees_on_what_is_modern_and_on_nothing_else() {
    if !are_there(&["openssl"]) {
        return;
    }
    let pki = Pki::new();
    let gateway = serving(&pki, "").await;
    let named = ["-servername", "a.example", "-verify_hostname", "a.example"];
    let old = ["-cipher", "ALL@SECLEVEL=0"];
    for (arguments, expected) in [
        (&["-tls1_3"][..], &["TLSv1.3", "X25519, 253 bits"][..]),
        (&["-tls1_2"], &["TLSv1.2", "X25519, 253 bits"]),
        (&["-groups", "P-256"], &["ECDH, prime256v1, 256 bits"]),
        (&["-groups", "P-384"], &["ECDH, secp384r1, 384 bits"]),
        // A first guess of a group that is not spoken is corrected, not refused.
        (&["-groups", "P-521:X25519"], &["X25519, 253 bits"]),
        (&["-status"], &["OCSP response: no response sent"]),
        (&["-alpn", "h2"], &["ALPN protocol: h2"]),
        (&["-alpn", "spdy/1,http/1.1"], &["ALPN protocol: http/1.1"]),
    ] {
        let text = s_client(&pki, gateway.address(), &[&named[..], arguments].concat()).await;
        assert!(text.contains("Verification: OK"), "{arguments:?}: {text}");
        for words in expected {
            assert!(text.contains(words), "{arguments:?}: {words}: {text}");
        }
    }
    for (arguments, alert) in [
        (
            &[&["-tls1_1"][..], &old].concat()[..],
            "alert protocol version",
        ),
        (&[&["-tls1"][..], &old].concat(), "alert protocol version"),
        (
            &["-tls1_2", "-cipher", "AES128-SHA"],
            "alert handshake failure",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
            "alert handshake failure",
        ),
        (&["-groups", "P-521"], "alert handshake failure"),
        (&["-alpn", "imap"], "alert no application protocol"),
    ] {
        let text = s_client(&pki, gateway.address(), &[&named[..], arguments].concat()).await;
        assert!(text.contains(alert), "{arguments:?}: {text}");
    }
    for unknown in [&["-noservername"][..], &["-servername", "b.example"]] {
        let text = s_client(&pki, gateway.address(), unknown).await;
        assert!(text.contains("unrecognized name"), "{text}");
        assert!(text.contains("no peer certificate available"), "{text}");
    }
}

/// The answer that `openssl s_client` gets to a request, with what it says of the connection.
async fn answer(pki: &Pki, gateway: &Gateway, arguments: &[&str]) -> String {
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let request = File::open(pki.write("request", request)).expect("a request");
    let mut client = program("openssl", &pki.path("."));
    client
        .args(["s_client", "-connect", &gateway.address().to_string()])
        .args(["-servername", "a.example", "-tls1_3", "-ign_eof"])
        .args(arguments)
        .stdin(request);
    said(&run(client).await)
}

#[tokio::test]
async fn openssl_comes_back_with_a_ticket_and_without_early_data() {
    if !are_there(&["openssl"]) {
        return;
    }
    let pki = Pki::new();
    let gateway = serving(&pki, "").await;
    let path = |name: &str| pki.path(name).display().to_string();
    let (session, request) = (path("session"), path("request"));

    let first = answer(&pki, &gateway, &["-sess_out", &session]).await;
    assert!(
        first.contains("New, TLSv1.3") && first.contains("200 OK"),
        "{first}"
    );
    let again = ["-sess_in", &session, "-early_data", &request];
    let second = answer(&pki, &gateway, &again).await;
    assert!(second.contains("Reused, TLSv1.3"), "{second}");
    assert!(second.contains("Early data was not sent"), "{second}");
    assert!(second.contains("200 OK"), "{second}");
}

/// From now on the browsers of this home believe an authority.
async fn trust(home: &Path, ca: &Path) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).expect("a folder");
    let store = format!("sql:{}", store.display());
    let ca = ca.display().to_string();
    for arguments in [
        &["-N", "--empty-password"][..],
        &["-A", "-n", "test", "-t", "C,,", "-i", &ca],
    ] {
        let mut certutil = program("certutil", home);
        certutil.args(["-d", &store]).args(arguments);
        let output = run(certutil).await;
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// The page that Chromium makes of an address, and what else it says. `a.example` is at this port.
async fn page(home: &Path, url: &str, port: u16) -> String {
    let mut chromium = program("chromium", home);
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        // Nothing but what it is asked for; no name leads anywhere but here.
        .args(["--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-extensions"])
        .arg(format!("--host-resolver-rules=MAP a.example 127.0.0.1:{port}, MAP * ~NOTFOUND, EXCLUDE localhost"))
        .arg(format!("--user-data-dir={}", home.join("chromium").display()))
        .args(["--dump-dom", url]);
    said(&run_for(PATIENCE * 4, chromium).await)
}

#[tokio::test]
async fn chromium_shows_a_page_once_it_knows_the_authority() {
    if !are_there(&["chromium", "certutil"]) {
        return;
    }
    let pki = Pki::new();
    let gateway = serving(&pki, "").await;
    let port = gateway.address().port();
    let hello = "<p id=\"hello\">hello</p>";

    let refused = page(&pki.path("stranger"), "https://a.example/", port).await;
    assert!(!refused.contains(hello), "{refused}");
    trust(&pki.path("."), &pki.path("ca.pem")).await;
    let shown = page(&pki.path("."), "https://a.example/", port).await;
    assert!(shown.contains(hello), "{shown}");
    let log = gateway.log().wait(1).await.remove(0);
    assert_eq!(log["alpn"], "h2");
}

#[tokio::test]
async fn the_demo_is_reached_by_openssl_and_chromium() {
    if !are_there(&["chromium", "certutil", "openssl"]) {
        return;
    }
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let port = free_ports(8);
    let text = |port: u16| port.to_string();
    let (plain, secure, shop) = (text(port), text(port + 1), text(port + 2));
    let arguments = [
        "demo",
        "--port",
        &plain,
        "--https-port",
        &secure,
        "--shop-port",
        &shop,
    ];
    let arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let demo = Sluice::spawn(Arc::clone(&folder), address, &arguments);
    demo.says("\"listener\":\"websecure\"").await;
    let home = folder.path();
    let root = home.join("sluice-demo/state/local/root.pem");

    let mut openssl = program("openssl", home);
    openssl
        .args(["s_client", "-connect", &format!("localhost:{secure}")])
        .args(["-verify_hostname", "localhost", "-CAfile"])
        .arg(&root);
    let text = said(&run(openssl).await);
    assert!(text.contains("Verification: OK"), "{text}");

    trust(home, &root).await;
    let shown = page(home, &format!("https://localhost:{secure}/"), port).await;
    assert!(shown.contains("Shakespeare"), "{shown}");
}
