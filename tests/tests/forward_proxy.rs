//! A forward proxy that is a firewall: whom it lets out, where to, and what it says of it.

use std::net::Ipv4Addr;

use sluice_certs::testing::Server;
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Client, Front, Gateway, Origin,
    eventually::eventually,
    name_server::{Answer, NameServer},
    outside::{Outside, connect, proxy, rule},
    tls::Pki,
};
use tokio::{net::TcpListener, time::Instant};

#[path = "forward_proxy/clients.rs"]
mod clients;
#[path = "forward_proxy/inside.rs"]
mod inside;
#[path = "forward_proxy/lasting.rs"]
mod lasting;
#[path = "forward_proxy/onwards.rs"]
mod onwards;
#[path = "forward_proxy/requests.rs"]
mod requests;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// TLS for these names, before an origin that says hello.
async fn secure_origin(pki: &Pki, names: &[&str]) -> (Front, Origin) {
    let origin = Origin::text("hello").await;
    let server = Server::new(&pki.authority.server(names), &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    (front, origin)
}

#[tokio::test]
async fn a_tunnel_leads_to_what_is_allowed_and_stands_in_the_log() {
    let pki = Pki::new();
    let (front, _origin) = secure_origin(&pki, &["ok.test"]).await;
    let port = front.address().port();
    let outside = Outside::start(&["ok.test"], "", &rule("ok", "\"ok.test\"", port, "")).await;
    let target = format!("ok.test:{port}");

    let stream = outside.tunnel(&target).await;
    let secure = pki.client().connect(stream, "ok.test").await;
    let mut client = Client::over(secure.expect("the certificate of the origin"));
    assert_eq!(client.get("ok.test", "/").await.text(), "hello");
    drop(client);

    let line = outside.line("ok.test").await;
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "CONNECT");
    assert_eq!(line["port"], port);
    assert_eq!(line["egress"], "ok");
    assert_eq!(line["status"], 200);
    assert_eq!(line["endpoint"], format!("127.0.0.1:{port}"));
    assert_eq!(line["verdict"], serde_json::Value::Null);
    assert!(line.get("egress_reason").is_none(), "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() > 100, "{line}");
    assert_eq!(outside.names.asked(), 1, "resolved once");
    assert_eq!(outside.gateway.egress("ok"), [1, 0, 0]);
}

#[tokio::test]
async fn whom_no_rule_allows_has_cost_nothing() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "");
    let outside = Outside::start(&["ok.test", "no.test"], "", &rules).await;

    let (reply, _stream) = outside.connect(&format!("no.test:{port}")).await;

    assert_eq!(reply.status, 403);
    let line = outside.line("no.test").await;
    assert_eq!(line["verdict"], "egress_refused");
    assert_eq!(line["egress_reason"], "host");
    assert_eq!(line["port"], port);
    assert!(line.get("egress").is_none(), "{line}");
    assert_eq!((outside.names.asked(), origin.connections()), (0, 0));
    assert_eq!(outside.gateway.egress(""), [0, 1, 0]);
    let reply = outside.get(&format!("http://no.test:{port}/")).await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("(host)"), "{}", reply.text());
}

#[tokio::test]
async fn connect_leads_to_port_443_unless_a_rule_lists_another() {
    let rules = "[egress.allow.ok]\nhosts = \"ok.test\"\naddresses = \"127.0.0.0/8\"\n";
    let outside = Outside::start(&["ok.test"], "", rules).await;
    for port in [22, 80, 8443] {
        let (reply, _stream) = outside.connect(&format!("ok.test:{port}")).await;
        assert_eq!(reply.status, 403, "{port}");
    }
    for line in outside.gateway.log().wait(3).await {
        assert_eq!(line["egress_reason"], "port", "{line}");
        assert_eq!(line["egress"], "ok", "{line}");
    }
    // Without rules everything is allowed but that, and what is not public.
    let outside = Outside::start(&["ok.test"], "", "").await;
    let (reply, _stream) = outside.connect("ok.test:8443").await;
    assert_eq!(reply.status, 403);
    assert_eq!(outside.line("ok.test").await["egress_reason"], "port");
    let (reply, _stream) = outside.connect("ok.test:443").await;
    assert_eq!(reply.status, 403);
    outside
        .gateway
        .log()
        .wait_for("egress_reason", "address")
        .await;
}

#[tokio::test]
async fn names_that_lead_inside_lead_nowhere() {
    let inside = [
        ("loopback.test", [127, 0, 0, 1]),
        ("unspecified.test", [0, 0, 0, 0]),
        ("private.test", [10, 1, 2, 3]),
        ("office.test", [192, 168, 1, 1]),
        ("docker.test", [172, 17, 0, 1]),
        ("carrier.test", [100, 64, 0, 1]),
        ("metadata.test", [169, 254, 169, 254]),
        ("alibaba.test", [100, 100, 100, 200]),
        ("multicast.test", [224, 0, 0, 1]),
        ("reserved.test", [240, 0, 0, 1]),
    ];
    let rules = "[egress.allow.all]\nhosts = \"*\"\nports = [\"1-65535\"]\n";
    let outside = Outside::start(&[], "", rules).await;
    for (name, address) in inside {
        let answer = Answer::Addresses(vec![Ipv4Addr::from(address)], 60);
        outside.names.says(name, answer);
        let (reply, _stream) = outside.connect(&format!("{name}:443")).await;
        assert_eq!(reply.status, 403, "{name}");
        let line = outside.line(name).await;
        assert_eq!(line["verdict"], "egress_address", "{line}");
        assert_eq!(line["egress_reason"], "address", "{line}");
        assert_eq!(outside.get(&format!("http://{name}/")).await.status, 403);
    }
}

/// An origin at this port of each of two addresses.
async fn twins() -> (u16, Origin, Origin) {
    loop {
        let first = TcpListener::bind((LOCAL, 0)).await.expect("a port");
        let port = first.local_addr().expect("an address").port();
        if let Ok(second) = TcpListener::bind((OTHER, port)).await {
            let answer = |mut peer: sluice_tests::origin::Peer| async move {
                while peer.request().await.is_some() {
                    peer.send(sluice_tests::origin::ok("hello")).await;
                }
            };
            return (port, Origin::on(first, answer), Origin::on(second, answer));
        }
    }
}

/// Only the second of both addresses is listed.
fn second_only(port: u16) -> String {
    format!(
        "[egress.allow.ok]\nhosts = \"*.test\"\nports = [{port}]\naddresses = [\"{OTHER}/32\"]\n"
    )
}

#[tokio::test]
async fn of_several_addresses_only_those_are_connected_to_that_may_be() {
    let (port, first, second) = twins().await;
    let outside = Outside::start(&[], "", &second_only(port)).await;
    let both = Answer::Addresses(vec![LOCAL, OTHER], 0);
    outside.names.says("both.test", both);
    for _ in 0..6 {
        let reply = outside.get(&format!("http://both.test:{port}/")).await;
        assert_eq!((reply.status, &*reply.text()), (200, "hello"));
        drop(outside.tunnel(&format!("both.test:{port}")).await);
    }
    assert_eq!(first.connections(), 0);
    assert!(second.connections() > 0);
}

#[tokio::test]
async fn a_name_that_is_bound_again_does_not_lead_inside() {
    let (port, first, second) = twins().await;
    let outside = Outside::start(&[], "", &second_only(port)).await;
    let (url, target) = (
        format!("http://turns.test:{port}/"),
        format!("turns.test:{port}"),
    );
    outside
        .names
        .says("turns.test", Answer::Turns(vec![OTHER, LOCAL]));
    // What was resolved to be allowed is what is connected to, whatever the next answer is.
    assert_eq!(outside.get(&url).await.status, 200);
    // Then the next answer counts, also for those who could go on over a connection of before.
    let deadline = Instant::now() + sluice_tests::PATIENCE;
    while outside.get(&url).await.status == 200 {
        assert!(Instant::now() < deadline, "the next answer never counts");
    }
    for _ in 0..5 {
        assert_eq!(outside.get(&url).await.status, 403);
        assert_eq!(outside.connect(&target).await.0.status, 403);
    }
    assert_eq!(first.connections(), 0);
    assert!(second.connections() > 0);
}

#[tokio::test]
async fn targets_that_could_be_read_in_two_ways_are_refused() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules =
        "[egress.allow.all]\nhosts = [\"*\", \"0.0.0.0/0\", \"::/0\"]\nports = [\"1-65535\"]\n";
    let outside = Outside::start(&["ok.test"], "", rules).await;
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25lo]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "user@ok.test",
        "user:pass@ok.test",
        "ok.test%2e",
        "ok..test",
        ".ok.test",
        "-ok.test",
        "ok.test,127.0.0.1",
        "ok.1",
        "１２７.0.0.1",
    ] {
        let mut client = outside.gateway.connect().await;
        let target = format!("{host}:{port}");
        client
            .send(format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            ))
            .await;
        let reply = client.reply().await;
        assert!(matches!(reply.status, 400 | 403), "{target}: {reply:?}");
        let mut client = outside.gateway.connect().await;
        let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
        client.send(request).await;
        let reply = client.reply().await;
        assert!(matches!(reply.status, 400 | 403), "{target}: {reply:?}");
    }
    for target in [
        "ok.test",
        "ok.test:",
        "ok.test:0",
        "ok.test:65536",
        "ok.test:x",
        ":443",
        "*",
    ] {
        let mut client = outside.gateway.connect().await;
        client
            .send(format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.reply().await.status, 400, "{target}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn what_is_sent_behind_a_refused_connect_is_no_request() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "");
    let outside = Outside::start(&["ok.test"], "", &rules).await;
    let mut client = outside.gateway.connect().await;
    client
        .send(format!(
            "CONNECT no.test:443 HTTP/1.1\r\nHost: no.test:443\r\n\r\n\
             GET http://ok.test:{port}/smuggled HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n"
        ))
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
    assert_eq!(origin.connections(), 0);
    assert_eq!(outside.gateway.log().wait(1).await.len(), 1);
}

/// A user `shop` with the password `open sesame`.
const BASIC: &str = "basic = { users = { shop = \"$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\" } }";

#[tokio::test]
async fn who_does_not_say_who_it_is_is_asked() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let rules = rule("ok", "\"ok.test\"", port, "from = { users = \"shop\" }");
    let outside = Outside::start(&["ok.test"], BASIC, &rules).await;
    let address = outside.gateway.address();
    let target = format!("ok.test:{port}");

    for credentials in ["", "Proxy-Authorization: Basic c2hvcDp3cm9uZw==\r\n"] {
        let (reply, _stream) = connect(address, &target, credentials).await;
        assert_eq!(reply.status, 407);
        let challenge = reply.header("proxy-authenticate").expect("a challenge");
        assert!(
            challenge.starts_with("Basic realm=\"sluice\""),
            "{challenge}"
        );
    }
    let credentials = "Proxy-Authorization: Basic c2hvcDpvcGVuIHNlc2FtZQ==\r\n";
    let (reply, stream) = connect(address, &target, credentials).await;
    assert_eq!(reply.status, 200);
    drop(stream);
    let url = format!("http://{target}/");
    let request = format!("GET {url} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n");
    assert_eq!(outside.gateway.ask(request).await.status, 200);

    // Nor is somebody told who nobody is what else is wrong.
    let (reply, _stream) = connect(address, "0x7f.1:443", "").await;
    assert_eq!(reply.status, 407);

    let log = outside.gateway.log();
    // Workers write in no order.
    let lines = log.wait(5).await;
    let mut denied: Vec<_> = lines
        .iter()
        .filter(|line| line["verdict"] == "proxy_authentication")
        .map(|line| line["port"].as_u64())
        .collect();
    denied.sort_unstable();
    assert_eq!(denied, [None, Some(port.into()), Some(port.into())]);
    // Whoever is not known has no part in what rules allow and refuse.
    for line in &lines {
        assert!(line.get("egress_reason").is_none(), "{line}");
    }
    assert_eq!(outside.gateway.unauthenticated(), 3);
    assert_eq!(outside.gateway.egress(""), [0, 0, 0]);
    assert_eq!(outside.gateway.egress("ok"), [2, 0, 0]);
    assert_eq!(log.wait_for("method", "GET").await["user"], "shop");
    let seen = String::from_utf8(origin.saw().concat()).unwrap();
    assert!(!seen.to_ascii_lowercase().contains("proxy-"), "{seen}");
}

#[tokio::test]
async fn who_shows_a_certificate_is_known_by_it_over_http2_too() {
    let pki = Pki::new();
    let (front, origin) = secure_origin(&pki, &["ok.test"]).await;
    let port = front.address().port();
    let shop = "spiffe://corp/shop";
    let rules = rule(
        "ok",
        "\"ok.test\"",
        port,
        &format!("from = {{ identities = \"{shop}\" }}"),
    );
    let listener = format!(
        "certificates = [\"p\"]\nclient_certificates = {{ mode = \"required\", ca = {} }}",
        pki.quoted("ca.pem")
    );
    let objects = pki.certificate("p", &["proxy.test"]) + &rules;
    let outside = Outside::start(&["ok.test"], &listener, &objects).await;
    let target = format!("ok.test:{port}");
    for (identity, status) in [(shop, 200), ("spiffe://corp/other", 403)] {
        let leaf = pki.authority.client(&[identity]);
        let known = pki.known_client(&leaf);
        let mut client =
            sluice_tests::tls::secure(&known, outside.gateway.address(), "proxy.test").await;
        client
            .send(format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            ))
            .await;
        let head = client.read_at_least(12).await;
        assert!(
            head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()),
            "{identity}"
        );

        let both = sluice_certs::testing::Client::with(
            &pki.authority,
            &["h2"],
            sluice_certs::testing::Speaks::Any,
            Some(&leaf),
        );
        let stream =
            sluice_tests::tls::connect(&both, outside.gateway.address(), "proxy.test").await;
        let (sender, connection) = Box::pin(h2::client::handshake(stream.expect("TLS")))
            .await
            .expect("HTTP/2");
        let tasks = Tasks::new();
        tasks.spawn(async move { drop(connection.await) });
        let request = http::Request::connect(&target).body(()).expect("a request");
        let mut sender = sender.ready().await.expect("room");
        let (answer, mut body) = sender.send_request(request, false).expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{identity}");
        if status == 200 {
            let hello = pki.client().first_message("ok.test");
            body.send_data(hello.into(), false).expect("sent");
            let mut answer = answer.into_body();
            let first = answer.data().await.expect("bytes").expect("bytes");
            assert_eq!(first[0], 22, "a handshake");
        }
        tasks.abort();
    }
    drop(origin);
}

#[tokio::test]
async fn a_thousand_hosts_are_not_kept() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let names = NameServer::start().await;
    let config = rule("all", "\"*.test\"", port, "") + &names.config();
    let gateway = Gateway::start(&proxy("", &config), 1).await;
    let mut client = gateway.connect().await;
    for number in 0..1500 {
        let host = format!("h{number}.test");
        names.says(&host, Answer::Addresses(vec![LOCAL], 60));
        client
            .send(format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.reply().await.status, 200, "{host}");
    }
    assert_eq!(origin.connections(), 1500);
    eventually("the oldest are closed", || {
        (origin.open_now() <= 1024).then_some(())
    })
    .await;
}
