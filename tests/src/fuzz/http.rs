//! What a request's head may hold: normalisation, forwarding headers, authorities.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Version, header, request::Parts};
use sluice_config::{
    model::{Escapes, Listener, Underscores},
    names::ListenerName,
};
use sluice_gateway::{
    downstream::Connection,
    http::{
        forwarded,
        normalize::{authority::Authority, clean_trailers, normalize as bring, strip_response},
    },
};

/// A first byte of settings, then a request as text.
pub const REQUESTS: &[&[u8]] = &[
    b"\x00GET /a/../b?c=/../d\nHost: shop.example.com\nConnection: close, x-hop\nX-Hop: 1",
    b"\x01POST //%61dmin/%2e/x%2f\nHost: A.:8080\nTransfer-Encoding: chunked\nContent-Length: 5",
    b"\x3ePUT http://a:80/x\nHost: a\nX-Forwarded-For: 1.1.1.1, 10.0.0.2\nX_Forwarded_For: 2.2.2.2",
    b"\x0fOPTIONS *\nHost: [::1]:80\nForwarded: for=\"[::1]:5\";proto=https;host=\"a,b\"\nTE: trailers",
    b"\x7fGET /\\%5c%00\nHost: a_b\nExpect: 100-continue\nUpgrade: h2c\nHTTP2-Settings: x\nCookie: a=b",
    b"\x80GET /x\nX-Request-Id: 1\nContent-Length: 5\nContent-Length: 5",
];

/// What requests are made of.
pub const WORDS: &[&str] = &[
    "\n",
    "Host: ",
    "%2e",
    "%2f",
    "%5c",
    "%00",
    "%25",
    "/../",
    "/./",
    "//",
    "..;",
    "\\",
    "?",
    "*",
    "http://",
    "https://",
    "@",
    ":99999",
    "[::1]",
    "Connection: ",
    "close",
    "Transfer-Encoding: ",
    "chunked",
    "Content-Length: ",
    "Expect: ",
    "100-continue",
    "Forwarded: ",
    "for=",
    "proto=",
    "X-Forwarded-For: ",
    "x_forwarded_for: ",
    "X-Forwarded-Proto: ",
    "10.0.0.1",
    "TE: trailers",
    "OPTIONS ",
    "CONNECT ",
    "Upgrade: h2c",
];

/// Normalising twice changes nothing more than normalising once, and what is left is one request:
/// one path, one host, one framing, no hop-by-hop header, no forwarding header of a stranger.
pub fn normalize(input: &[u8]) {
    let Some((settings, text)) = input.split_first() else {
        return;
    };
    let listener = listener(*settings);
    let Some(mut parts) = request(*settings, text) else {
        return;
    };
    let query = parts.uri.query().map(str::to_owned);
    let Ok(first) = bring(&mut parts, &listener) else {
        return;
    };
    assert_eq!(parts.uri.query(), query.as_deref(), "the query was touched");
    assert_one_request(&parts);
    let once = (parts.uri.clone(), parts.headers.clone());
    let second = bring(&mut parts, &listener).expect("what came out goes in again");
    assert_eq!(once, (parts.uri.clone(), parts.headers.clone()));
    assert_eq!((&first.host, first.port), (&second.host, second.port));

    let peer = "10.0.0.1:5".parse().expect("an address");
    let local = "127.0.0.1:80".parse().expect("an address");
    let connection = Arc::new(Connection::new(1, listener.name.clone(), peer, local));
    let downstream = forwarded::downstream(&mut parts, &connection, &listener, || {
        HeaderValue::from_static("id")
    });
    if !downstream.trusted {
        assert_eq!(downstream.client, connection.peer.ip());
        let claimed =
            |name: &HeaderName| forwarded::is_forwarding(&name.as_str().replace('_', "-"));
        assert!(!parts.headers.keys().any(claimed), "{:?}", parts.headers);
    }
    forwarded::announce(&mut parts, &downstream, first.host.as_deref(), first.port);
    let chain = parts.headers.get("x-forwarded-for").expect("announced");
    assert!(chain.as_bytes().ends_with(b"10.0.0.1"), "{chain:?}");

    let mut trailers = parts.headers.clone();
    clean_trailers(&mut trailers, false);
    assert!(!trailers.contains_key(header::HOST));
    strip_response(&mut parts.headers);
}

fn assert_one_request(parts: &Parts) {
    let path = parts.uri.path();
    assert!(parts.uri.authority().is_none(), "{:?}", parts.uri);
    assert!(path == "*" || path.starts_with('/'), "{path}");
    assert!(path.split('/').all(|it| it != "." && it != ".."), "{path}");
    for name in [header::HOST, header::CONTENT_LENGTH] {
        assert!(
            parts.headers.get_all(&name).iter().count() < 2,
            "{name} twice"
        );
    }
    for name in [
        "connection",
        "transfer-encoding",
        "upgrade",
        "te",
        "http2-settings",
        "expect",
    ] {
        assert!(!parts.headers.contains_key(name), "{name} is left");
    }
}

fn listener(settings: u8) -> Listener {
    let bit = |number: u8| settings & (1 << number) != 0;
    let escapes = |number| {
        if bit(number) {
            Escapes::Keep
        } else {
            Escapes::Refuse
        }
    };
    let name = ListenerName::new("web").expect("a name");
    let mut listener = Listener::new(name, "127.0.0.1:80".parse().expect("an address"));
    listener.normalize.merge_slashes = bit(0);
    listener.normalize.escaped_slash = escapes(1);
    listener.normalize.escaped_backslash = escapes(2);
    listener.normalize.escaped_nul = escapes(3);
    listener.normalize.backslash = escapes(4);
    listener.normalize.underscores = if bit(5) {
        Underscores::Keep
    } else {
        Underscores::Drop
    };
    if bit(6) {
        listener.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
    }
    listener
}

fn request(settings: u8, text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let line = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    if settings & 0x80 != 0 {
        request = request.version(Version::HTTP_10);
    }
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Authorities, good and bad.
pub const AUTHORITIES: &[&[u8]] = &[
    b"shop.example.com:8080",
    b"[2001:db8::1]:443",
    b"A_b-c.D.",
    b"user@a:80",
    b"a:99999",
    b"10.0.0.1",
    b"",
];

/// What authorities are made of.
pub const PIECES: &[&str] = &[
    ":", "[", "]", "::", ".", "..", "@", "%", "0", "65535", "xn--", "é",
];

/// What is accepted is in one form, and means itself when it is read again.
pub fn authority(input: &[u8]) {
    let Ok(authority) = Authority::parse(input) else {
        return;
    };
    let text = authority.to_string();
    let again = Authority::parse(text.as_bytes()).expect("what came out goes in again");
    assert_eq!(authority, again);
    assert!(HeaderValue::from_str(&text).is_ok(), "{text}");
    assert!(
        !authority.host.is_empty() && !authority.host.ends_with('.'),
        "{text}"
    );
    assert!(authority.host.is_ascii(), "{text}");
    assert_eq!(authority.host.to_ascii_lowercase(), *authority.host);
    assert!(
        !authority
            .host
            .contains(['@', '/', '\\', '?', '#', '%', ' ']),
        "{text}"
    );
}
