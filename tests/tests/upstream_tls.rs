//! TLS towards endpoints: who is trusted, what is said, what is remembered, and how it fails.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use sluice_certs::testing::{Authority, Client as TlsClient, Leaf, Server, Wanted};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Client, Front, Gateway, Origin, PATIENCE,
    eventually::eventually,
    gateway,
    load::Load,
    process::{self, Sluice},
    tls::{Pki, secure},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Duration, Instant, sleep},
};

/// A folder with certificates, and who signs them.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::default());
        let files = Self { folder, authority };
        files.write("ca.pem", files.authority.pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes a certificate for a client and gives the keys that name it.
    fn pair(&self, name: &str, leaf: &Leaf) -> String {
        let folder = self.path(name);
        leaf.write(&folder);
        let text = |file: &str| format!("{:?}", folder.join(file).display().to_string());
        format!(
            "certificate = {{ chain = {}, key = {} }}",
            text("chain.pem"),
            text("key.pem")
        )
    }

    fn ca(&self, name: &str) -> String {
        format!("ca = {:?}", self.path(name).display().to_string())
    }

    /// What an origin shows to be `localhost` and 127.0.0.1.
    fn leaf(&self) -> Leaf {
        self.authority.server(&["localhost", "127.0.0.1"])
    }

    fn server(&self) -> Server {
        Server::new(&self.leaf(), &["http/1.1"], None, false)
    }
}

/// An upstream with these endpoints and keys of its TLS.
fn upstream(name: &str, endpoints: &str, tls: &str, more: &str) -> String {
    format!("[upstreams.{name}]\nendpoints = \"{endpoints}\"\ntls = {{ {tls} }}\n{more}\n")
}

/// The one upstream of the one route.
fn to(front: &Front, tls: &str) -> String {
    format!(
        "[routes.r]\nto = \"u\"\n{}",
        upstream("u", &front.address().to_string(), tls, "")
    )
}

/// The line of a request that got no answer from its origin.
async fn refused(config: &str) -> (Gateway, Value) {
    let gateway = gateway(config).await;
    assert_eq!(gateway.get("a", "/").await.status, 502);
    let line = gateway.log().wait(1).await.remove(0);
    (gateway, line)
}

/// How many connections came to nothing because of this part of TLS.
fn failures(gateway: &Gateway, part: &str) -> u64 {
    let all = gateway.handshakes_with("u").failures;
    all.get(part).copied().unwrap_or_default()
}

/// An origin of HTTP/2 that answers everything with this text.
async fn http2(text: &'static str) -> (SocketAddr, Tasks) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    let own = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            own.spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let scheme = request.uri().scheme_str().unwrap_or("none").to_owned();
                    let response = Response::builder().header("x-scheme", scheme);
                    let response = response.body(()).unwrap();
                    let mut body = respond.send_response(response, false).unwrap();
                    body.send_data(Bytes::from_static(text.as_bytes()), true)
                        .unwrap();
                }
            });
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn an_endpoint_is_asked_for_by_its_name_and_trusted_by_its_issuer() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let front = Front::before(origin.address(), files.server()).await;
    let port = front.address().port();
    let config = format!(
        "[routes.r]\nto = \"u\"\n{}",
        upstream("u", &format!("localhost:{port}"), &files.ca("ca.pem"), "")
    );
    let gateway = gateway(&config).await;

    assert_eq!(gateway.get("a", "/").await.text(), "hello");

    let seen = &front.seen()[0];
    assert_eq!(seen.sni.as_deref(), Some("localhost"));
    assert_eq!(seen.alpn.as_deref(), Some("http/1.1"));
    assert_eq!(gateway.handshakes_with("u").kinds, [0, 0, 1, 0]);
}

#[tokio::test]
async fn an_address_is_held_against_the_certificate_and_not_sent() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let front = Front::before(origin.address(), files.server()).await;
    let gateway = gateway(&to(&front, &files.ca("ca.pem"))).await;

    assert_eq!(gateway.get("a", "/").await.text(), "hello");

    assert_eq!(front.seen()[0].sni, None);
}

#[tokio::test]
async fn another_name_is_sent_and_demanded_where_one_is_written() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let leaf = files.authority.server(&["shop.example"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    let tls = format!("{}, sni = \"shop.example\"", files.ca("ca.pem"));
    let first = gateway(&to(&front, &tls)).await;
    assert_eq!(first.get("a", "/").await.text(), "hello");
    assert_eq!(front.seen()[0].sni.as_deref(), Some("shop.example"));

    let tls = format!("{}, sni = \"x.example\"", files.ca("ca.pem"));
    let san = format!("{tls}, san = [\"*.example\"]");
    let second = gateway(&to(&front, &san)).await;
    assert_eq!(second.get("a", "/").await.text(), "hello");
    assert_eq!(front.seen()[1].sni.as_deref(), Some("x.example"));

    let (_, line) = refused(&to(&front, &tls)).await;
    assert_eq!(line["verdict"], "upstream_tls_name");
}

#[tokio::test]
async fn whoever_cannot_be_trusted_gets_no_byte_of_a_request() {
    let files = Files::new();
    files.write("other.pem", Authority::new("Other CA").pem());
    let expired = Wanted::server(&["127.0.0.1"]).days(-9, -1);
    let expired = files.authority.sign(&expired);
    for (leaf, tls, verdict, part) in [
        (
            files.leaf(),
            files.ca("other.pem"),
            "upstream_tls_issuer",
            "issuer",
        ),
        (
            files.authority.server(&["shop.example"]),
            files.ca("ca.pem"),
            "upstream_tls_name",
            "name",
        ),
        (
            expired,
            files.ca("ca.pem"),
            "upstream_tls_validity",
            "validity",
        ),
    ] {
        let origin = Origin::text("hello").await;
        let server = Server::new(&leaf, &["http/1.1"], None, false);
        let front = Front::before(origin.address(), server).await;
        let (gateway, line) = refused(&to(&front, &tls)).await;
        assert_eq!(line["verdict"], verdict, "{line}");
        assert_eq!(failures(&gateway, part), 1, "{verdict}");
        assert_eq!(origin.connections(), 0, "{verdict}");
    }
}

#[tokio::test]
async fn insecure_takes_whoever_is_there() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let expired = Wanted::server(&["shop.example"]).days(-9, -1);
    let leaf = Authority::new("Other CA").sign(&expired);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    let gateway = gateway(&to(&front, "insecure = true")).await;
    assert_eq!(gateway.get("a", "/").await.text(), "hello");
    drop(files);
}

#[tokio::test]
async fn a_demanded_certificate_is_shown_and_a_missing_one_is_told() {
    let files = Files::new();
    for newest in [true, false] {
        let origin = Origin::text("hello").await;
        let leaf = files.leaf();
        let server = Server::new(&leaf, &["http/1.1"], Some(&files.authority), newest);
        let front = Front::before(origin.address(), server).await;
        let mine = files.authority.client(&["gateway.example"]);
        let tls = format!("{}, {}", files.ca("ca.pem"), files.pair("mine", &mine));
        let gateway = gateway(&to(&front, &tls)).await;
        assert_eq!(gateway.get("a", "/").await.text(), "hello");
        assert_eq!(front.seen()[0].client.as_deref(), Some("gateway.example"));

        let (gateway, line) = refused(&to(&front, &files.ca("ca.pem"))).await;
        assert_eq!(line["verdict"], "upstream_tls_client_certificate", "{line}");
        assert_eq!(failures(&gateway, "client_certificate"), 1);
        assert!(!front.refused().is_empty());
    }
}

#[tokio::test]
async fn the_endpoint_chooses_the_protocol_where_both_will_do() {
    let files = Files::new();
    let old = Origin::text("one").await;
    let (new, _tasks) = http2("two").await;
    for (alpn, protocol, expected) in [
        (&["h2", "http/1.1"][..], "auto", "two"),
        (&["http/1.1"], "auto", "one"),
        (&[], "auto", "one"),
        (&["h2", "http/1.1"], "http1", "one"),
        (&["h2", "http/1.1"], "http2", "two"),
    ] {
        let server = Server::new(&files.leaf(), alpn, None, false);
        let front = Front::between(old.address(), new, server).await;
        let config = to(&front, &files.ca("ca.pem")) + &format!("protocol = \"{protocol}\"\n");
        let gateway = Gateway::start(&config, 1).await;
        for _ in 0..3 {
            let reply = gateway.get("a", "/").await;
            assert_eq!(reply.text(), expected, "{alpn:?} {protocol}");
            if expected == "two" {
                assert_eq!(reply.header("x-scheme"), Some("https"));
            }
        }
        assert_eq!(front.seen().len(), 1, "{alpn:?} {protocol}");
    }
}

#[tokio::test]
async fn a_raw_stream_offers_no_protocol() {
    let pki = Pki::new();
    let echo = Origin::start(|mut peer| async move {
        let heard = peer.take(8).await;
        peer.send(heard).await;
        peer.hold().await;
    })
    .await;
    let leaf = pki.authority.server(&["127.0.0.1"]);
    let server = Server::new(&leaf, &["h2", "http/1.1"], None, false);
    let front = Front::before(echo.address(), server).await;
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{}\
         [routes.r]\nlisteners = [\"web\"]\nhosts = [\"a.example\"]\nto = \"u\"\n{}",
        pki.certificate("a", &["a.example"]),
        upstream(
            "u",
            &front.address().to_string(),
            &format!("ca = {}", pki.quoted("ca.pem")),
            ""
        )
    );
    let gateway = gateway(&config).await;
    let client = TlsClient::new(&pki.authority, &[]);
    let mut stream = secure(&client, gateway.address(), "a.example").await;
    stream.send("anything").await;
    assert_eq!(stream.read_at_least(8).await, b"anything");
    assert_eq!(front.seen()[0].alpn, None);
}

#[tokio::test]
async fn requests_that_come_together_all_find_a_way_whatever_is_chosen() {
    let files = Files::new();
    let old = Origin::text("one").await;
    let (new, _tasks) = http2("two").await;
    for (alpn, expected) in [(&["h2"][..], "two"), (&["http/1.1"], "one")] {
        let server = Server::new(&files.leaf(), alpn, None, false);
        let front = Front::between(old.address(), new, server).await;
        let config = to(&front, &files.ca("ca.pem")) + "protocol = \"auto\"\n";
        let gateway = Arc::new(Gateway::start(&config, 1).await);
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let gateway = Arc::clone(&gateway);
                async move { gateway.get("a", "/").await.text() }
            })
            .collect();
        for text in futures(asking).await {
            assert_eq!(text, expected);
        }
        if expected == "two" {
            assert_eq!(front.seen().len(), 1);
        }
    }
}

/// Runs them beside each other.
async fn futures<T: Send + 'static>(all: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let mut set = tokio::task::JoinSet::new();
    for one in all {
        set.spawn(one);
    }
    set.join_all().await
}

#[tokio::test]
async fn an_endpoint_without_http2_is_refused_where_it_is_demanded() {
    let files = Files::new();
    let origin = Origin::text("one").await;
    for alpn in [&["http/1.1"][..], &[]] {
        let server = Server::new(&files.leaf(), alpn, None, false);
        let front = Front::before(origin.address(), server).await;
        let config = to(&front, &files.ca("ca.pem")) + "protocol = \"http2\"\n";
        let (gateway, line) = refused(&config).await;
        assert_eq!(line["verdict"], "upstream_tls_alpn", "{line}");
        assert_eq!(failures(&gateway, "alpn"), 1);
    }
}

#[tokio::test]
async fn connections_of_different_names_or_certificates_are_never_shared() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let leaf = files
        .authority
        .server(&["a.example", "b.example", "localhost", "127.0.0.1"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    let address = front.address().to_string();
    let ca = files.ca("ca.pem");
    let mut config = String::new();
    for (name, tls) in [
        ("a", format!("{ca}, sni = \"a.example\"")),
        ("b", format!("{ca}, sni = \"b.example\"")),
        ("c", "insecure = true".to_owned()),
    ] {
        config += &upstream(name, &address, &tls, "");
        let route = format!("[routes.{name}]\nhosts = \"{name}.test\"\nto = \"{name}\"\n");
        config += &route;
    }
    let gateway = Gateway::start(&config, 1).await;
    for _ in 0..2 {
        for host in ["a.test", "b.test", "c.test"] {
            assert_eq!(gateway.get(host, "/").await.text(), "hello");
        }
    }
    let seen = front.seen();
    let names: Vec<_> = seen.iter().map(|seen| seen.sni.as_deref()).collect();
    assert_eq!(names, [Some("a.example"), Some("b.example"), None]);
    assert!(seen.iter().all(|seen| !seen.resumed), "{seen:?}");
}

#[tokio::test]
async fn two_names_of_one_address_are_two_endpoints() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let front = Front::before(origin.address(), files.server()).await;
    let port = front.address().port();
    let gateway = Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\n\
             endpoints = [\"localhost:{port}\", \"127.0.0.1:{port}\"]\ntls = {{ {} }}\n",
            files.ca("ca.pem")
        ),
        1,
    )
    .await;
    for _ in 0..6 {
        assert_eq!(gateway.get("a", "/").await.text(), "hello");
    }
    let seen = front.seen();
    for name in [Some("localhost"), None] {
        assert!(
            seen.iter().any(|seen| seen.sni.as_deref() == name),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn a_reload_that_changes_only_the_settings_of_tls_makes_new_connections() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let leaf = files.authority.server(&["a.example", "b.example"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    let with = |sni: &str| to(&front, &format!("{}, sni = {sni:?}", files.ca("ca.pem")));
    let gateway = Gateway::start(&with("a.example"), 1).await;
    gateway.get("a", "/").await;
    gateway.get("a", "/").await;
    assert_eq!(front.seen().len(), 1);

    gateway.reload(&with("b.example")).await;
    assert_eq!(gateway.get("a", "/").await.text(), "hello");

    assert_eq!(front.seen()[1].sni.as_deref(), Some("b.example"));
    eventually("the old connection is closed", || {
        (origin.open_now() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn handshakes_are_remembered_per_upstream() {
    let files = Files::new();
    let origin = Origin::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let origin = origin.await;
    let front = Front::before(origin.address(), files.server()).await;
    let gateway = Gateway::start(&to(&front, &files.ca("ca.pem")), 1).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("a", "/").await.text(), "ok");
    }
    let resumed: Vec<_> = front.seen().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
    assert_eq!(gateway.handshakes_with("u").kinds, [0, 0, 1, 2]);
}

#[tokio::test]
async fn a_body_that_ends_without_a_word_of_tls_is_cut_for_the_client_too() {
    let files = Files::new();
    let body = "HTTP/1.1 200 OK\r\n\r\nsome text";
    for rude in [false, true] {
        let origin = Origin::start(move |mut peer| async move {
            if peer.head().await.is_some() {
                peer.send(body).await;
            }
        })
        .await;
        let front = if rude {
            Front::rude(origin.address(), files.server()).await
        } else {
            Front::before(origin.address(), files.server()).await
        };
        let gateway = gateway(&to(&front, &files.ca("ca.pem"))).await;
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Complete or not: a client of HTTP/1.1 sees it by the last chunk.
        assert_eq!(client.try_reply("GET").await.is_err(), rude);
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"] == "response_broken", rude, "{line}");
    }
}

#[tokio::test]
async fn what_speaks_no_tls_and_what_says_nothing_is_told() {
    let silent = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let plain = Origin::start(|mut peer| async move {
        peer.read().await;
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.hold().await;
    })
    .await;
    for (origin, status, verdict) in [
        (&plain, 502, "upstream_tls"),
        (&silent, 504, "connect_timeout"),
    ] {
        let config = format!(
            "[routes.r]\nto = \"u\"\n{}",
            upstream(
                "u",
                &origin.address().to_string(),
                "insecure = true",
                "timeouts = { connect = \"300ms\" }"
            )
        );
        let gateway = gateway(&config).await;
        assert_eq!(gateway.get("a", "/").await.status, status);
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], verdict, "{line}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_with_its_reason() {
    let files = Files::new();
    files.write("empty.pem", "");
    let mut mixed = files.authority.client(&["gateway.example"]);
    mixed.key = files.authority.client(&["gateway.example"]).key;
    let origin = Origin::text("hello").await;
    let front = Front::before(origin.address(), files.server()).await;
    let gateway = gateway(&to(&front, &files.ca("ca.pem"))).await;
    for (tls, at, reason) in [
        (files.ca("none.pem"), "upstreams.u.tls.ca", "No such file"),
        (
            files.ca("empty.pem"),
            "upstreams.u.tls.ca",
            "no certificate",
        ),
        (
            format!("{}, {}", files.ca("ca.pem"), files.pair("mixed", &mixed)),
            "upstreams.u.tls.certificate",
            "does not belong",
        ),
    ] {
        let problems = gateway.try_reload(&to(&front, &tls)).await.unwrap_err();
        assert!(problems.contains(at), "{problems}");
        assert!(problems.contains(reason), "{problems}");
    }
    assert_eq!(gateway.get("a", "/").await.text(), "hello");
}

#[tokio::test]
async fn an_https_address_is_reached_by_its_name_with_the_issuers_of_the_system() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let front = Front::before(origin.address(), files.server()).await;
    let port = front.address().port();
    let config = format!(
        "[listeners.web]\naddress = \"{{address}}\"\n[routes.r]\nto = \"https://localhost:{port}\"\n"
    );
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let checked = config.replace("{address}", "127.0.0.1:0");
    std::fs::write(folder.path().join("checked.toml"), checked).unwrap();
    let nobody = process::sluice(folder.path(), &["check", "checked.toml"]).await;
    assert!(!nobody.status.success());
    let said = process::stderr(&nobody);
    assert!(said.contains("no trusted issuers"), "{said}");

    std::fs::write(folder.path().join("roots.pem"), files.authority.pem()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], process::free_port()));
    let running = Sluice::start_in(folder, address, &config);
    running.accepts().await;
    let reply = running.connect().await.get("a", "/").await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(front.seen()[0].sni.as_deref(), Some("localhost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_are_used_and_broken_ones_are_not() {
    let files = Files::new();
    let origin = Origin::text("hello").await;
    let server = Server::new(&files.leaf(), &["http/1.1"], Some(&files.authority), true);
    let front = Front::before(origin.address(), server).await;
    let mine = |name: &str| {
        let leaf = files.authority.client(&[name]);
        files.pair("mine", &leaf)
    };
    let tls = format!("{}, {}", files.ca("ca.pem"), mine("one.example"));
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let port = process::free_ports(2);
    let (address, metrics) = (
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from(([127, 0, 0, 1], port + 1)),
    );
    let config = "[access_log]\noutput = \"off\"\n[listeners.web]\naddress = \"{address}\"\n"
        .to_owned()
        + &to(&front, &tls);
    let arguments = ["--metrics", &metrics.to_string()];
    let running = Sluice::start_with(folder, address, &config, &arguments);
    running.accepts().await;
    let siege = Load::start(
        address,
        50,
        |_| "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        |_, reply| (reply.text() != "hello").then(|| reply.status.to_string()),
    );
    let shows = async |name: &str| {
        eventually(&format!("the endpoint is shown {name}"), || {
            let seen = front.seen();
            let last = seen.last()?.client.clone();
            (last.as_deref() == Some(name)).then_some(())
        })
        .await;
    };
    shows("one.example").await;

    mine("two.example");
    shows("two.example").await;

    // Nothing in it: what it said before holds, and that is told.
    files.write("ca.pem", "");
    running.says("no certificate").await;
    tells(metrics, "sluice_upstream_tls_refused{upstream=\"u\"} 1").await;

    // Another issuer as well: the client is another one, and so are its connections.
    let more = files.authority.pem().to_owned() + Authority::new("Other CA").pem();
    let before = front.seen().len();
    files.write("ca.pem", &more);
    tells(metrics, "sluice_upstream_tls_refused{upstream=\"u\"} 0").await;
    eventually("connections are made anew", || {
        (front.seen().len() > before).then_some(())
    })
    .await;

    let outcome = siege.stop().await;
    assert_eq!(outcome.bad, 0, "{outcome:?}");
    assert!(outcome.good > 0);
    let text = scrape(metrics).await;
    let family = "sluice_upstream_tls_handshakes_total{upstream=\"u\",version=\"TLSv1.3\",resumed=\"false\"}";
    assert!(text.contains(family), "{text}");
}

async fn scrape(address: SocketAddr) -> String {
    let mut client = Client::connect(address).await;
    client.get("metrics.test", "/metrics").await.text()
}

/// Waits until a scrape has this line.
async fn tells(address: SocketAddr, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = scrape(address).await;
        if text.lines().any(|it| it == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line:?} in:\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}
