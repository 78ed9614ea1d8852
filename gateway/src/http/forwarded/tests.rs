use http::Request;
use sluice_config::{
    model::{Limit, Listener},
    names::ListenerName,
};

use super::*;

/// The addresses `10.0.0.0/8` and `fd00::/8` are trusted proxies.
fn listener() -> Listener {
    let name = ListenerName::new("web").expect("a name");
    let mut listener = Listener::new(name, "127.0.0.1:80".parse().expect("an address"));
    listener.trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
        .map(|net| net.parse().expect("a network"))
        .to_vec();
    listener
}

fn parts(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn from(peer: &str, parts: &mut Parts, listener: &Listener) -> Downstream {
    let peer = peer.parse().expect("a peer");
    let local = "127.0.0.1:80".parse().expect("an address");
    let connection = Arc::new(Connection::new(1, listener.name.clone(), peer, local));
    downstream(parts, &connection, listener, || {
        HeaderValue::from_static("made-here")
    })
}

fn value<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut values = parts.headers.get_all(name).iter();
    let value = values.next()?.to_str().ok();
    assert!(values.next().is_none(), "{name} stands there twice");
    value
}

#[test]
fn believes_nothing_from_untrusted_peers() {
    let mut parts = parts(&[
        ("x-forwarded-for", "1.1.1.1"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x-forwarded_host", "evil"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/admin"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x_real_ip", "1.1.1.1"),
        ("x-request-id", "theirs"),
        ("x-other", "kept"),
        ("from", "kept"),
    ]);
    let downstream = from("192.0.2.7:5", &mut parts, &listener());
    assert_eq!(parts.headers.len(), 2);
    assert_eq!(downstream.client.to_string(), "192.0.2.7");
    assert_eq!((downstream.trusted, downstream.scheme), (false, "http"));
    assert_eq!(downstream.request_id(), "made-here");

    announce(&mut parts, &downstream, Some("a"), Some(8080));
    for (name, expected) in [
        ("x-forwarded-for", Some("192.0.2.7")),
        ("x-real-ip", Some("192.0.2.7")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("a:8080")),
        ("x-forwarded-port", Some("8080")),
        ("x-request-id", Some("made-here")),
        ("forwarded", None),
    ] {
        assert_eq!(value(&parts, name), expected, "{name}");
    }
}

#[test]
fn appends_to_what_a_trusted_peer_says() {
    let mut parts = parts(&[
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "8443"),
        ("x-request-id", "theirs"),
        ("x_forwarded_for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
    ]);
    let downstream = from("[::ffff:10.0.0.1]:5", &mut parts, &listener());
    assert_eq!(downstream.client.to_string(), "2.2.2.2");
    assert_eq!((downstream.trusted, downstream.scheme), (true, "https"));
    announce(&mut parts, &downstream, Some("inner"), None);
    for (name, expected) in [
        ("x-forwarded-for", Some("1.1.1.1, 2.2.2.2, 10.0.0.1")),
        ("x-real-ip", Some("2.2.2.2")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("shop.example")),
        ("x-forwarded-port", Some("8443")),
        ("x-request-id", Some("theirs")),
        ("x_forwarded_for", None),
        ("forwarded", None),
    ] {
        assert_eq!(value(&parts, name), expected, "{name}");
    }
}

#[test]
fn finds_the_client_behind_trusted_proxies() {
    let any = Limit::Off;
    for (chain, hops, expected) in [
        ("", any, "10.0.0.1"),
        ("1.1.1.1", any, "1.1.1.1"),
        ("9.9.9.9, 1.1.1.1, 10.0.0.2, 10.0.0.3", any, "1.1.1.1"),
        ("9.9.9.9, 1.1.1.1, 10.0.0.2", Limit::At(1), "10.0.0.2"),
        ("9.9.9.9, 1.1.1.1, 10.0.0.2", Limit::At(2), "1.1.1.1"),
        ("10.0.0.3, 10.0.0.2", any, "10.0.0.3"),
        ("1.1.1.1, garbage, 10.0.0.2", any, "10.0.0.2"),
        ("1.1.1.1, unknown", any, "10.0.0.1"),
        ("1.1.1.1:55", any, "1.1.1.1"),
        ("[2001:db8::1]:55, fd00::1", any, "2001:db8::1"),
        ("2001:db8::1", any, "2001:db8::1"),
        ("::ffff:1.2.3.4", any, "1.2.3.4"),
    ] {
        let mut listener = listener();
        listener.trusted_hops = hops;
        let mut parts = parts(&[("x-forwarded-for", chain)]);
        let downstream = from("10.0.0.1:5", &mut parts, &listener);
        assert_eq!(downstream.client.to_string(), expected, "{chain}");
    }
}

#[test]
fn reads_and_continues_the_standard_header() {
    let mut parts = parts(&[
        (
            "forwarded",
            r#"for="[2001:db8::1]:55";proto=HTTPS;host="a,b""#,
        ),
        ("forwarded", "For=10.0.0.2"),
    ]);
    let downstream = from("10.0.0.1:5", &mut parts, &listener());
    assert_eq!(downstream.client.to_string(), "2001:db8::1");
    assert_eq!(downstream.scheme, "https");
    announce(&mut parts, &downstream, None, None);
    let expected =
        r#"for="[2001:db8::1]:55";proto=HTTPS;host="a,b", For=10.0.0.2, for=10.0.0.1;proto=https"#;
    assert_eq!(value(&parts, "forwarded"), Some(expected));
}

#[test]
fn takes_the_scheme_of_the_hop_that_the_client_spoke_to() {
    for (schemes, expected) in [
        ("https", "https"),
        ("https, http", "https"),
        ("gopher, http", "http"),
        ("", "http"),
    ] {
        let mut parts = parts(&[
            ("x-forwarded-for", "1.1.1.1, 10.0.0.2"),
            ("x-forwarded-proto", schemes),
        ]);
        let downstream = from("10.0.0.1:5", &mut parts, &listener());
        assert_eq!(downstream.scheme, expected, "{schemes}");
    }
}

#[test]
fn refuses_request_ids_that_would_disturb_a_log() {
    for id in ["", "a b", "a\"b", &"a".repeat(129)] {
        let mut parts = parts(&[("x-request-id", id)]);
        let downstream = from("10.0.0.1:5", &mut parts, &listener());
        assert_eq!(downstream.request_id(), "made-here", "{id:?}");
    }
}
