//! Headers of proxies in front: who is believed, what of it is seen, and what becomes of the others.

use std::{net::IpAddr, time::Duration};

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, Gateway, H2, Origin, gateway,
    tls::{self, Pki},
};
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use super::{ADDRESSES, binary};

const LINE: &str = "PROXY TCP4 198.51.100.7 203.0.113.9 1000 443\r\n";
/// The address and the address with its port, where somebody is named.
type Named<'a> = Option<(&'a str, &'a str)>;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A listener that is told by proxies on 127.0.0.1 who its clients are, before `origin`.
fn listening(keys: &str, origin: &Origin) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.1\"\n{keys}\n\
         [routes.r]\nto = \"{}\"\n",
        origin.address()
    )
}

async fn required(origin: &Origin) -> Gateway {
    gateway(&listening("proxy_protocol = true", origin)).await
}

/// A connection from another address of this machine, whom nobody trusts.
async fn stranger(gateway: &Gateway) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 2], 0).into()).expect("an address");
    let stream = socket.connect(gateway.address()).await;
    Client::from(stream.expect("accepted"))
}

#[tokio::test]
async fn everybody_sees_the_client_whom_the_header_names() {
    let origin = Origin::echo().await;
    let gateway = required(&origin).await;
    let six = [[0x20; 16].as_slice(), &[0x30; 16], &[0, 5, 1, 187]].concat();
    let six_text = "2020:2020:2020:2020:2020:2020:2020:2020";
    let cases: &[(Vec<u8>, Named<'_>)] = &[
        (LINE.into(), Some(("198.51.100.7", "198.51.100.7:1000"))),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 77 443\r\n".to_vec(),
            Some(("2001:db8::1", "[2001:db8::1]:77")),
        ),
        (
            b"PROXY TCP6 ::ffff:198.51.100.8 ::1 78 443\r\n".to_vec(),
            Some(("198.51.100.8", "198.51.100.8:78")),
        ),
        (
            binary(0x21, 0x11, &ADDRESSES),
            Some(("198.51.100.7", "198.51.100.7:1000")),
        ),
        (
            binary(0x21, 0x21, &six),
            Some((six_text, &format!("[{six_text}]:5"))),
        ),
        (
            binary(
                0x21,
                0x11,
                &[&ADDRESSES[..], &[4, 0, 200], &[9; 200]].concat(),
            ),
            Some(("198.51.100.7", "198.51.100.7:1000")),
        ),
        // Nobody is named: it is the proxy's own connection.
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (binary(0x20, 0x00, &[]), None),
        (binary(0x20, 0x11, &ADDRESSES), None),
        (binary(0x21, 0x00, b"anything"), None),
        (binary(0x21, 0x31, &[b'/'; 216]), None),
    ];
    for (number, (header, expected)) in cases.iter().enumerate() {
        let mut client = gateway.connect().await;
        let own = client.local();
        let (ip, peer) = match expected {
            Some((ip, peer)) => ((*ip).to_owned(), (*peer).to_owned()),
            None => (own.ip().to_string(), own.to_string()),
        };
        client.send([header, REQUEST.as_bytes()].concat()).await;
        let seen = client.reply().await.text();
        assert!(
            seen.contains(&format!("x-forwarded-for: {ip}\r\n")),
            "{seen}"
        );
        assert!(seen.contains(&format!("x-real-ip: {ip}\r\n")), "{seen}");
        let lines = gateway.log().wait(number + 1).await;
        let line = &lines[number];
        assert_eq!((&line["client"], &line["peer"]), (&ip.into(), &peer.into()));
    }
    assert_eq!(gateway.count(Counter::ProxyHeaders), cases.len() as u64);
    assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 0);
}

#[tokio::test]
async fn what_is_no_header_closes_the_connection_and_nothing_goes_upstream() {
    let origin = Origin::text("ok").await;
    let gateway = required(&origin).await;
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
    let beyond = binary(0x21, 0x11, &[&ADDRESSES[..], b"\x02\0\x0612345"].concat());
    let short = binary(0x21, 0x11, &[&ADDRESSES[..], b"\x02\0\x041234\0"].concat());
    let sum = binary(0x21, 0x11, &[&ADDRESSES[..], b"\x03\0\x041234"].concat());
    let mut longest = binary(0x21, 0x11, &ADDRESSES);
    longest[14..16].copy_from_slice(&[0xff, 0xff]);
    let cases: &[&[u8]] = &[
        // No header at all.
        b"",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        // Version 1.
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 443\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 443\r",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 1000\r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 443 5\r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 65536\r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 01000 443\r\n",
        b"PROXY TCP4 198.051.100.7 203.0.113.9 1000 443\r\n",
        b"PROXY TCP4 ::1 ::2 1000 443\r\n",
        b"PROXY TCP5 198.51.100.7 203.0.113.9 1000 443\r\n",
        b"proxy TCP4 198.51.100.7 203.0.113.9 1000 443\r\n",
        long.as_bytes(),
        // Version 2.
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
        &binary(0x11, 0x11, &ADDRESSES),
        &binary(0x22, 0x11, &ADDRESSES),
        &binary(0x21, 0x15, &ADDRESSES),
        &binary(0x21, 0x51, &ADDRESSES),
        &binary(0x21, 0x11, &ADDRESSES[..11]),
        &binary(0x21, 0x21, &ADDRESSES),
        &binary(0x21, 0x31, &ADDRESSES),
        &binary(0x21, 0x11, &[0; 4097]),
        &longest,
        &beyond,
        &short,
        &sum,
    ];
    for (number, case) in cases.iter().enumerate() {
        let mut client = gateway.connect().await;
        client.send([case, REQUEST.as_bytes()].concat()).await;
        let answer = client.rest().await;
        assert_eq!(answer, b"", "{case:?} is answered");
        let refused = number as u64 + 1;
        gateway.counts(Counter::ProxyHeadersRefused, refused).await;
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(gateway.count(Counter::Requests), 0);
}

#[tokio::test]
async fn a_header_that_ends_too_early_or_too_late_closes_the_connection() {
    let origin = Origin::text("ok").await;
    let keys = "proxy_protocol = true\ntimeouts = { proxy_header = \"300ms\" }";
    let gateway = gateway(&listening(keys, &origin)).await;
    let whole = binary(0x21, 0x11, &ADDRESSES);
    for length in [1, 5, 12, 15, 16, 20, whole.len() - 1] {
        let mut ended = gateway.connect().await;
        ended.send(&whole[..length]).await;
        ended.finish().await;
        assert_eq!(ended.rest().await, b"");

        let mut silent = gateway.connect().await;
        silent.send(&whole[..length]).await;
        assert_eq!(silent.rest().await, b"");
    }
    // Also without a first byte.
    let mut silent = gateway.connect().await;
    assert_eq!(silent.rest().await, b"");
    gateway.counts(Counter::ProxyHeadersRefused, 15).await;
    // Who only looks whether somebody listens has done nothing wrong.
    let mut look = gateway.connect().await;
    look.finish().await;
    assert_eq!(look.rest().await, b"");
    assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 15);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn pieces_make_no_difference_and_what_is_behind_a_header_is_kept() {
    let origin = Origin::echo().await;
    let gateway = required(&origin).await;
    for header in [LINE.as_bytes().to_vec(), binary(0x21, 0x11, &ADDRESSES)] {
        let all = [&header, REQUEST.as_bytes(), REQUEST.as_bytes()].concat();
        for size in [1, 2, 7, 15, 16, 17, 40, all.len()] {
            let mut client = gateway.connect().await;
            for piece in all.chunks(size) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            for _ in 0..2 {
                let seen = client.reply().await.text();
                assert!(seen.contains("x-forwarded-for: 198.51.100.7\r\n"), "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_but_trusted_proxies_is_listened_to() {
    let origin = Origin::echo().await;
    for mode in ["true", "\"optional\""] {
        let keys = format!("proxy_protocol = {mode}");
        let gateway = gateway(&listening(&keys, &origin)).await;
        let before = origin.connections();
        for header in [LINE.as_bytes().to_vec(), binary(0x21, 0x11, &ADDRESSES)] {
            let mut client = stranger(&gateway).await;
            client.send([&header, REQUEST.as_bytes()].concat()).await;
            assert_eq!(client.reply().await.status, 400);
        }
        assert_eq!(origin.connections(), before);
        // They are asked for none either.
        let seen = stranger(&gateway).await.get("a", "/").await.text();
        assert!(seen.contains("x-forwarded-for: 127.0.0.2\r\n"), "{seen}");
        assert_eq!(gateway.count(Counter::ProxyHeaders), 0);
        assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 0);
    }
}

#[tokio::test]
async fn without_the_setting_a_header_is_just_bytes() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&listening("", &origin)).await;
    let reply = gateway.ask([LINE, REQUEST].concat()).await;
    assert_eq!(reply.status, 400);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn forwarding_headers_behind_a_header_are_the_clients_own() {
    let origin = Origin::echo().await;
    let gateway = required(&origin).await;
    let mut client = gateway.connect().await;
    let spoof = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n";
    client.send([LINE, spoof].concat()).await;
    let seen = client.reply().await.text();
    assert!(seen.contains("x-forwarded-for: 198.51.100.7\r\n"), "{seen}");
    assert!(!seen.contains("9.9.9.9"), "{seen}");
}

#[tokio::test]
async fn where_it_may_be_missing_both_are_served() {
    let origin = Origin::echo().await;
    let keys = "proxy_protocol = \"optional\"";
    let gateway = gateway(&listening(keys, &origin)).await;
    let with = gateway.ask([LINE, REQUEST].concat()).await.text();
    assert!(with.contains("x-forwarded-for: 198.51.100.7\r\n"), "{with}");
    // Methods that begin like a header, whole and byte by byte.
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXYING / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        for size in [1, request.len()] {
            let mut client = gateway.connect().await;
            for piece in request.as_bytes().chunks(size) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            let seen = client.reply().await.text();
            assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
        }
    }
    let mut malformed = gateway.connect().await;
    malformed.send(["PROXY TCP4 x\r\n", REQUEST].concat()).await;
    assert_eq!(malformed.rest().await, b"");
    assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 1);
}

#[tokio::test]
async fn matches_and_limits_are_about_the_client_of_the_header() {
    let config = "[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.1\"\n\
         proxy_protocol = true\nlimits = { connections_per_client = 1 }\n\
         [[routes.r.rules]]\nmatch = { client = \"198.51.100.0/24\" }\nrespond = { status = 201 }\n\
         [[routes.r.rules]]\nrespond = { status = 202 }\n";
    let gateway = gateway(config).await;
    let line = |client: &str| format!("PROXY TCP4 {client} 203.0.113.9 1000 443\r\n{REQUEST}");

    let mut near = gateway.connect().await;
    near.send(line("198.51.100.7")).await;
    assert_eq!(near.reply().await.status, 201);
    // The proxy is not the client of them all.
    let mut far = gateway.connect().await;
    far.send(line("192.0.2.1")).await;
    assert_eq!(far.reply().await.status, 202);
    let mut again = gateway.connect().await;
    again.send(line("198.51.100.7")).await;
    assert_eq!(again.rest().await, b"");
    assert_eq!(gateway.count(Counter::ConnectionsRefused), 1);

    // Its place is free again.
    drop(near);
    for _ in 0..200 {
        let mut next = gateway.connect().await;
        next.send(line("198.51.100.7")).await;
        if let Some(Ok(reply)) = next.try_reply_for(Duration::from_secs(5)).await {
            assert_eq!(reply.status, 201);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of a client that left stays taken");
}

#[tokio::test]
async fn a_header_stands_before_tls() {
    let (origin, pki) = (Origin::echo().await, Pki::new());
    let keys = "proxy_protocol = true\ntrusted_proxies = \"127.0.0.1\"";
    let objects = pki.certificate("a", &["a.example"])
        + &format!(
            "[routes.r]\nhosts = [\"a.example\"]\nto = \"{}\"\n",
            origin.address()
        );
    let gateway = gateway(&tls::https(keys, &objects)).await;

    let mut stream = tokio::net::TcpStream::connect(gateway.address())
        .await
        .expect("accepted");
    stream.write_all(LINE.as_bytes()).await.expect("taken");
    let stream = pki
        .client()
        .connect(stream, "a.example")
        .await
        .expect("TLS");
    let seen = Client::over(stream).get("a.example", "/").await.text();
    assert!(seen.contains("x-forwarded-for: 198.51.100.7\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");

    let none = tls::connect(&pki.client(), gateway.address(), "a.example").await;
    none.expect_err("without a header there is no TLS");
    assert_eq!(gateway.count(Counter::ProxyHeadersRefused), 1);
}

#[tokio::test]
async fn http2_is_spoken_behind_a_header() {
    let origin = Origin::echo().await;
    let gateway = required(&origin).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address())
        .await
        .expect("accepted");
    stream.write_all(LINE.as_bytes()).await.expect("taken");
    let mut client = H2::from(stream);
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let outcome = client.get(1, "/").await;
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    let lines = gateway.log().wait(1).await;
    let client: IpAddr = lines[0]["client"]
        .as_str()
        .expect("a text")
        .parse()
        .expect("one");
    assert_eq!(client, IpAddr::from([198, 51, 100, 7]));
}
