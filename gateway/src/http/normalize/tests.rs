use http::{HeaderMap, Request, Version, request::Parts};
use sluice_config::{
    model::{Listener, Underscores},
    names::ListenerName,
};

use super::*;

fn listener() -> Listener {
    let name = ListenerName::new("web").expect("a name");
    Listener::new(name, "127.0.0.1:80".parse().expect("an address"))
}

fn request(line: &str, headers: &[(&str, &str)]) -> Parts {
    let (method, target) = line.split_once(' ').expect("method and target");
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn refusal(parts: Parts) -> Malformed {
    refusal_by(parts, &listener())
}

fn refusal_by(mut parts: Parts, listener: &Listener) -> Malformed {
    match normalize(&mut parts, listener) {
        Err(ProxyError::BadRequest(malformed)) => malformed,
        other => panic!("{:?}: {other:?}", parts.uri),
    }
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("text"))
    };
    headers.iter().map(line).collect()
}

#[test]
fn refuses_requests_without_exactly_one_authority() {
    for (line, headers, expected) in [
        ("GET /", &[][..], Malformed::NoHost),
        (
            "GET /",
            &[("host", "a"), ("host", "a")],
            Malformed::ManyHosts,
        ),
        (
            "GET /",
            &[("host", "a"), ("host", "b")],
            Malformed::ManyHosts,
        ),
        ("GET /", &[("host", "")], Malformed::BadHost),
        ("GET /", &[("host", "a:99999")], Malformed::BadHost),
        ("GET /", &[("host", "u@a")], Malformed::BadHost),
        ("GET http://a/", &[], Malformed::NoHost),
        ("GET http://a/", &[("host", "b")], Malformed::ManyHosts),
        ("GET http://a:81/", &[("host", "a")], Malformed::ManyHosts),
        ("GET http://u@a/", &[("host", "a")], Malformed::BadHost),
    ] {
        assert_eq!(
            refusal(request(line, headers)),
            expected,
            "{line} {headers:?}"
        );
    }
}

#[test]
fn writes_the_one_authority_in_one_form() {
    for (line, host, written, name, port) in [
        (
            "GET /",
            "Shop.Example.",
            "shop.example",
            "shop.example",
            None,
        ),
        ("GET /", "A:8080", "a:8080", "a", Some(8080)),
        ("GET http://A/x", "a:80", "a:80", "a", Some(80)),
        ("GET https://a:443/x", "a", "a", "a", None),
        ("GET /", "[0::1]:80", "[::1]:80", "[::1]", Some(80)),
    ] {
        let mut parts = request(line, &[("host", host)]);
        let normalized = normalize(&mut parts, &listener()).expect(host);
        assert_eq!(lines(&parts.headers), [format!("host: {written}")]);
        assert_eq!(normalized.host.as_deref(), Some(name));
        assert_eq!(normalized.port, port);
        assert!(parts.uri.authority().is_none());
    }
}

#[test]
fn serves_http_1_0_without_a_host() {
    let mut parts = request("GET /", &[]);
    parts.version = Version::HTTP_10;
    let normalized = normalize(&mut parts, &listener()).expect("served");
    assert_eq!(normalized.host, None);
    assert!(normalized.close);

    let mut parts = request("GET http://a:81/x", &[("connection", "keep-alive")]);
    parts.version = Version::HTTP_10;
    let normalized = normalize(&mut parts, &listener()).expect("served");
    assert_eq!(normalized.host.as_deref(), Some("a"));
    assert_eq!(lines(&parts.headers), ["host: a:81"]);
    assert!(!normalized.close);
}

#[test]
fn serves_origin_and_absolute_form_and_the_asterisk_of_options() {
    for (line, expected) in [
        ("GET /a?b=/../c", "/a?b=/../c"),
        ("GET http://a", "/"),
        ("GET http://a/%61/../b?%61", "/b?%61"),
        ("GET http://a?q", "/?q"),
        ("OPTIONS *", "*"),
        ("CONNECT A.:080", "a:80"),
    ] {
        let mut parts = request(line, &[("host", "a")]);
        normalize(&mut parts, &listener()).expect(line);
        assert_eq!(parts.uri.to_string(), expected, "{line}");
    }
    for line in [
        "GET *",
        "GET a",
        "GET ftp://a/",
        "CONNECT a",
        "CONNECT a:",
        "CONNECT /x",
        "CONNECT http://a:80/",
    ] {
        assert_eq!(
            refusal(request(line, &[("host", "a")])),
            Malformed::Target,
            "{line}"
        );
    }
}

#[test]
fn refuses_every_transfer_coding_but_one_chunked() {
    for codings in [
        &["gzip"][..],
        &["xchunked"],
        &["chunked, chunked"],
        &["gzip, chunked"],
        &["chunked;a=b"],
        &["chunked", "chunked"],
        &["identity"],
        &[""],
    ] {
        let mut headers = vec![("host", "a")];
        headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
        let malformed = refusal(request("POST /", &headers));
        assert_eq!(malformed, Malformed::TransferCoding, "{codings:?}");
    }
    let mut old = request("POST /", &[("host", "a"), ("transfer-encoding", "chunked")]);
    old.version = Version::HTTP_10;
    assert_eq!(refusal(old), Malformed::TransferCoding);
}

#[test]
fn leaves_one_framing() {
    let length = |value| ("content-length", value);
    for (headers, expected, chunked) in [
        (vec![length("5")], vec!["content-length: 5"], false),
        (
            vec![length("5"), length("5")],
            vec!["content-length: 5"],
            false,
        ),
        (
            vec![length("5"), ("transfer-encoding", "Chunked")],
            vec![],
            true,
        ),
    ] {
        let mut all = vec![("host", "a")];
        all.extend(headers);
        let mut parts = request("POST /", &all);
        let normalized = normalize(&mut parts, &listener()).expect("served");
        parts.headers.remove("host");
        assert_eq!(lines(&parts.headers), expected);
        assert_eq!(normalized.chunked, chunked);
    }
    for lengths in [
        &["5", "6"][..],
        &["5, 5"],
        &["-1"],
        &["+5"],
        &["5 5"],
        &[""],
        &["0x5"],
        &["18446744073709551616"],
    ] {
        let mut headers = vec![("host", "a")];
        headers.extend(lengths.iter().map(|value| length(*value)));
        let malformed = refusal(request("POST /", &headers));
        assert_eq!(malformed, Malformed::ContentLength, "{lengths:?}");
    }
}

#[test]
fn strips_hop_by_hop_headers_but_not_what_they_may_not_name() {
    let mut parts = request(
        "GET /",
        &[
            ("host", "a"),
            (
                "connection",
                "close, X-Hop, Host, Content-Length, X-Forwarded-For",
            ),
            ("connection", "upgrade,,x-other"),
            ("content-length", "0"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers;q=1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("expect", "100-Continue"),
        ],
    );
    let normalized = normalize(&mut parts, &listener()).expect("served");
    let mut left = lines(&parts.headers);
    left.sort();
    assert_eq!(
        left,
        [
            "content-length: 0",
            "host: a",
            "x-forwarded-for: 1.1.1.1",
            "x-kept: 1"
        ]
    );
    assert!(normalized.trailers && normalized.close);
}

#[test]
fn refuses_expectations_it_cannot_meet() {
    for value in ["y 100-continue", "100-continue, y", "", "200-ok"] {
        let mut parts = request("GET /", &[("host", "a"), ("expect", value)]);
        let refused = normalize(&mut parts, &listener());
        assert!(matches!(refused, Err(ProxyError::Expectation)), "{value:?}");
    }
}

#[test]
fn treats_underscores_as_the_listener_says() {
    let headers = &[
        ("host", "a"),
        ("x_a", "1"),
        ("x_a", "2"),
        ("content_length", "5"),
    ];
    for (policy, dropped, left) in [(Underscores::Drop, 3, 1), (Underscores::Keep, 0, 4)] {
        let mut listener = listener();
        listener.normalize.underscores = policy;
        let mut parts = request("GET /", headers);
        let normalized = normalize(&mut parts, &listener).expect("served");
        assert_eq!(normalized.underscores_dropped, dropped);
        assert_eq!(parts.headers.len(), left);
    }
    let mut listener = listener();
    listener.normalize.underscores = Underscores::Refuse;
    assert_eq!(
        refusal_by(request("GET /", headers), &listener),
        Malformed::Underscore
    );
}

#[test]
fn bounds_target_head_and_number_of_headers() {
    let mut listener = listener();
    listener.limits.uri = 10;
    listener.limits.headers = 2;
    listener.limits.head = 60;
    let judge = |line: &str, headers: &[(&str, &str)]| {
        normalize(&mut request(line, headers), &listener).map(|_| ())
    };
    assert!(judge("GET /123456789", &[("host", "a")]).is_ok());
    let long = judge("GET /1234567890", &[("host", "a")]);
    assert!(matches!(long, Err(ProxyError::UriTooLong { limit: 10 })));
    let many = judge("GET /", &[("host", "a"), ("b", ""), ("c", "")]);
    assert!(matches!(many, Err(ProxyError::HeadTooLarge)));
    let large = judge("GET /", &[("host", "a"), ("b", &"x".repeat(60))]);
    assert!(matches!(large, Err(ProxyError::HeadTooLarge)));
}

#[test]
fn cleans_responses_and_trailers() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("proxy-authenticate", "Basic"),
        ("etag", "1"),
    ] {
        headers.insert(name, value.parse().expect("a value"));
    }
    strip_response(&mut headers);
    assert_eq!(lines(&headers), ["etag: 1"]);

    let mut trailers = HeaderMap::new();
    for name in [
        "content-length",
        "host",
        "x_forwarded_for",
        "transfer_encoding",
        "grpc-status",
    ] {
        trailers.insert(name, HeaderValue::from_static("1"));
    }
    clean_trailers(&mut trailers, false);
    assert_eq!(lines(&trailers), ["grpc-status: 1"]);
}
