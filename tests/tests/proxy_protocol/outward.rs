//! Headers towards endpoints: what stands in them, and whose connections are used for whom.

use std::{net::SocketAddr, time::Duration};

use sluice_certs::testing::{Authority, Server};
use sluice_tests::{
    Client, Gateway, H2, Origin,
    eventually::becomes,
    gateway,
    tls::{Pki, secure},
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    ADDRESSES,
    behind::{Behind, Speaks},
    binary,
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// One worker, so that every request finds the same pool.
async fn to(address: SocketAddr, keys: &str) -> Gateway {
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.1\"\n\
         proxy_protocol = \"optional\"\n\
         [routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{address}\"\n{keys}\n"
    );
    Gateway::start(&config, 1).await
}

fn line(client: &Client, gateway: &Gateway) -> String {
    let (from, to) = (client.local(), gateway.address());
    format!(
        "PROXY TCP4 {} {} {} {}",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    )
}

/// A connection that begins with a line about this client.
async fn named(gateway: &Gateway, client: &str) -> Client {
    let mut connection = gateway.connect().await;
    connection
        .send(format!("PROXY TCP4 {client} 203.0.113.9 1000 443\r\n"))
        .await;
    connection
}

#[tokio::test]
async fn the_header_is_the_first_on_the_wire_and_names_the_client() {
    let behind = Behind::start(Speaks::Http1(usize::MAX)).await;
    let gateway = to(behind.address, "proxy_protocol = \"v1\"").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    assert_eq!(behind.lines(), [line(&client, &gateway)]);
    // The proxy in front is believed, and so is what we say.
    let mut client = named(&gateway, "198.51.100.7").await;
    assert_eq!(client.get("a", "/").await.status, 200);
    let second = "PROXY TCP4 198.51.100.7 203.0.113.9 1000 443";
    assert_eq!(behind.lines()[1], second);
    let mut client = gateway.connect().await;
    client
        .send("PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n")
        .await;
    assert_eq!(client.get("a", "/").await.status, 200);
    assert_eq!(behind.lines()[2], "PROXY TCP6 2001:db8::1 2001:db8::2 5 6");
}

#[tokio::test]
async fn version_2_passes_on_what_was_said_besides() {
    let behind = Behind::start(Speaks::Http1(usize::MAX)).await;
    let gateway = to(behind.address, "proxy_protocol = \"v2\"").await;
    let said = b"\x05\0\x03abc\xe5\0\x01!";
    // Padding is about the header, and stays here.
    let padded = [&ADDRESSES[..], &said[..6], b"\x04\0\x02..", &said[6..]].concat();
    let mut client = gateway.connect().await;
    client.send(binary(0x21, 0x11, &padded)).await;
    assert_eq!(client.get("a", "/").await.status, 200);
    let expected = binary(0x21, 0x11, &[&ADDRESSES[..], said].concat());
    assert_eq!(behind.seen()[0].header, expected);

    let mut unix = gateway.connect().await;
    let from_unix = binary(0x21, 0x31, &[b'/'; 216]);
    unix.send(&from_unix).await;
    assert_eq!(unix.get("a", "/").await.status, 200);
    assert_eq!(behind.seen()[1].header, from_unix);
}

#[tokio::test]
async fn a_connection_is_used_for_nobody_but_the_client_it_began_with() {
    for speaks in [Speaks::Http1(usize::MAX), Speaks::Http2] {
        let http2 = matches!(speaks, Speaks::Http2);
        let behind = Behind::start(speaks).await;
        let protocol = if http2 { "protocol = \"http2\"\n" } else { "" };
        let keys = format!("{protocol}proxy_protocol = \"v1\"");
        let gateway = to(behind.address, &keys).await;
        let mut one = gateway.connect().await;
        let mut other = gateway.connect().await;
        for _ in 0..3 {
            assert_eq!(one.get("a", "/").await.status, 200);
            assert_eq!(other.get("a", "/").await.status, 200);
        }
        assert_eq!(
            behind.lines(),
            [line(&one, &gateway), line(&other, &gateway)]
        );
        let requests: Vec<_> = behind.seen().iter().map(|seen| seen.requests).collect();
        assert_eq!(requests, [3, 3], "http2: {http2}");
    }
}

#[tokio::test]
async fn the_requests_of_one_client_over_http2_share_a_connection() {
    let behind = Behind::start(Speaks::Http2).await;
    let gateway = to(
        behind.address,
        "protocol = \"http2\"\nproxy_protocol = \"v2\"",
    )
    .await;
    let mut clients = [
        H2::connect(gateway.address()).await,
        H2::connect(gateway.address()).await,
    ];
    for client in &mut clients {
        for stream in [1, 3, 5] {
            let outcome = client.get(stream, "/").await;
            assert_eq!(outcome.status(), Some(200), "{outcome:?}");
        }
    }
    let requests: Vec<_> = behind.seen().iter().map(|seen| seen.requests).collect();
    assert_eq!(requests, [3, 3]);
}

#[tokio::test]
async fn connections_close_when_their_client_has_left() {
    for speaks in [Speaks::Http1(usize::MAX), Speaks::Http2] {
        let http2 = matches!(speaks, Speaks::Http2);
        let behind = Behind::start(speaks).await;
        let protocol = if http2 { "protocol = \"http2\"\n" } else { "" };
        let keys = format!("{protocol}proxy_protocol = \"v1\"\npool = {{ idle_timeout = \"1h\" }}");
        let gateway = to(behind.address, &keys).await;
        let mut leaves = gateway.connect().await;
        let mut stays = gateway.connect().await;
        assert_eq!(leaves.get("a", "/").await.status, 200);
        assert_eq!(stays.get("a", "/").await.status, 200);
        drop(leaves);
        behind.closes(0).await;
        assert!(behind.seen()[1].open, "that of another client stays");
        assert_eq!(stays.get("a", "/").await.status, 200);
        assert_eq!(behind.seen().len(), 2);
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_gets_none_of_another_client() {
    let behind = Behind::start(Speaks::Http1(usize::MAX)).await;
    let keys = "proxy_protocol = \"v1\"\nlimits = { connections = 1, pending_requests = 10 }";
    let gateway = to(behind.address, keys).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = named(&gateway, &format!("198.51.100.{number}")).await;
        client.send(REQUEST).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    let mut lines = behind.lines();
    lines.sort();
    let expected: Vec<_> = (0..5)
        .map(|number| format!("PROXY TCP4 198.51.100.{number} 203.0.113.9 1000 443"))
        .collect();
    assert_eq!(lines, expected);
    assert!(behind.seen().iter().all(|seen| seen.requests == 1));
}

#[tokio::test]
async fn a_repeated_request_goes_out_behind_a_header_of_its_own() {
    let behind = Behind::start(Speaks::Http1(1)).await;
    let gateway = to(behind.address, "proxy_protocol = \"v1\"").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    // The origin closes the connection instead of an answer.
    assert_eq!(client.get("a", "/").await.status, 200);
    let line = line(&client, &gateway);
    assert_eq!(behind.lines(), [line.clone(), line]);
}

#[tokio::test]
async fn the_header_stands_before_the_tls_of_an_endpoint() {
    let authority = Authority::default();
    let server = Server::new(
        &authority.server(&["127.0.0.1"]),
        &["http/1.1"],
        None,
        false,
    );
    let behind = Behind::start(Speaks::Http1InTls(server)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let keys = format!(
        "proxy_protocol = \"v2\"\ntls = {{ ca = {:?} }}",
        ca.display().to_string()
    );
    let gateway = to(behind.address, &keys).await;
    let mut client = named(&gateway, "198.51.100.7").await;
    assert_eq!(client.get("a", "/").await.status, 200);
    assert_eq!(client.get("a", "/").await.status, 200);
    assert_eq!(behind.seen().len(), 1);
    assert_eq!(behind.seen()[0].header, binary(0x21, 0x11, &ADDRESSES));
}

/// A listener that ends TLS for `a.example`, before an upstream with these keys.
async fn ending(pki: &Pki, protocol: &str, address: SocketAddr, keys: &str) -> Gateway {
    let certificate = pki.certificate("a", &["a.example"]);
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\n\
         [routes.r]\nlisteners = \"web\"\nhosts = [\"a.example\"]\nto = \"u\"\n\
         [upstreams.u]\nendpoints = \"{address}\"\n{keys}\n{certificate}"
    ))
    .await
}

#[tokio::test]
async fn what_was_agreed_on_in_tls_is_told_in_version_2() {
    let (pki, behind) = (Pki::new(), Behind::start(Speaks::Http1(usize::MAX)).await);
    let gateway = ending(&pki, "https", behind.address, "proxy_protocol = \"v2\"").await;
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    assert_eq!(client.get("a.example", "/").await.status, 200);
    let header = &behind.seen()[0].header;
    let said = b"\x01\0\x08http/1.1\x02\0\x09a.example";
    assert_eq!(&header[28..], said, "{header:?}");
}

#[tokio::test]
async fn raw_streams_begin_with_a_header_too() {
    for version in ["v1", "v2"] {
        let (pki, behind) = (Pki::new(), Behind::start(Speaks::Echo).await);
        let keys = format!("proxy_protocol = \"{version}\"");
        let gateway = ending(&pki, "tls", behind.address, &keys).await;
        let client = pki.client();
        let mut client = secure(&client, gateway.address(), "a.example").await;
        client.send("hello").await;
        assert_eq!(client.read_at_least(5).await, b"hello");
        let header = behind.seen()[0].header.clone();
        if version == "v1" {
            assert!(
                header.starts_with(b"PROXY TCP4 127.0.0.1 127.0.0.1 "),
                "{header:?}"
            );
        } else {
            assert!(header.ends_with(b"\x02\0\x09a.example"), "{header:?}");
        }
    }
}

#[tokio::test]
async fn without_the_setting_no_header_is_sent_and_connections_are_for_everybody() {
    let origin = Origin::text("ok").await;
    let gateway = to(origin.address(), "").await;
    for client in ["198.51.100.7", "198.51.100.8"] {
        let mut client = named(&gateway, client).await;
        assert_eq!(client.get("a", "/").await.status, 200);
    }
    assert_eq!(origin.connections(), 1);
    assert!(origin.saw()[0].starts_with(b"GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_changed_setting_counts_for_the_next_connection() {
    let behind = Behind::start(Speaks::Http1(usize::MAX)).await;
    let config = |version: &str| {
        format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.r]\nto = \"u\"\n\
             [upstreams.u]\nendpoints = \"{}\"\nproxy_protocol = \"{version}\"\n",
            behind.address
        )
    };
    let gateway = Gateway::start(&config("v1"), 1).await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    gateway.reload(&config("v2")).await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    let seen = behind.seen();
    assert!(seen[0].header.starts_with(b"PROXY TCP4 "));
    assert!(seen[1].header.starts_with(super::SIGNATURE));
    becomes("those with the old header are closed", false, || {
        behind.seen()[0].open
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_takes_no_header_costs_no_more_than_the_time_to_connect() {
    // Accepts and never reads: the header fits into its buffers, so that the answer is what is missing.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let keys = "proxy_protocol = \"v2\"\ntimeouts = { response_head = \"300ms\" }";
    let gateway = to(address, keys).await;
    let asking = gateway.get("a", "/");
    let (reply, mut stream) = tokio::join!(asking, async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut signature = [0; 12];
        stream.read_exact(&mut signature).await.expect("a header");
        assert_eq!(signature, super::SIGNATURE);
        stream
    });
    assert_eq!(reply.status, 504);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
    drop(ended.await.expect("closed"));
}
