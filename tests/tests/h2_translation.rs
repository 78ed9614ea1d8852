//! HTTP/2 to HTTP/1 by RFC 9113 §8: what an origin gets of a request, byte for byte, and what it must
//! never get.

use std::{fmt::Write as _, net::SocketAddr};

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Gateway, H2, Origin, gateway,
    h2::{
        Outcome,
        wire::{self, block, data, head, last_data, request},
    },
    http1,
};

type Fields = &'static [(&'static str, &'static str)];

/// A request field by field, and its body.
struct Case {
    name: &'static str,
    fields: Fields,
    body: Body,
}

/// What comes behind the head.
#[derive(Clone, Copy)]
enum Body {
    /// Nothing: the stream ends with the head.
    None,
    /// Pieces, the last of which ends the stream.
    Pieces(&'static [&'static str]),
    /// One piece, then trailers.
    Trailers(&'static str, Fields),
}

use Body::{Pieces, Trailers};

/// The pseudo-headers of a proper GET, then `$more`.
macro_rules! get {
    ($($more:expr),* $(,)?) => {
        &[(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/h"), $($more),*]
    };
}

/// The pseudo-headers of a proper POST, then `$more`.
macro_rules! post {
    ($($more:expr),* $(,)?) => {
        &[(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", "/h"), $($more),*]
    };
}

const fn bare(name: &'static str, fields: Fields) -> Case {
    with(name, fields, Body::None)
}

const fn with(name: &'static str, fields: Fields, body: Body) -> Case {
    Case { name, fields, body }
}

const NAMES: &[Case] = &[
    bare("upper case in a name", get![("X-Upper", "y")]),
    bare("a space in a name", get![("x y", "z")]),
    bare("a colon in a name", get![("x:y", "z")]),
    bare("a name that begins with a colon", get![(":x", "z")]),
    bare("a line break in a name", get![("x\r\nevil: yes\r\ny", "z")]),
    bare("NUL in a name", get![("x\0y", "z")]),
    bare("an empty name", get![("", "z")]),
    bare("a control character in a name", get![("x\x01y", "z")]),
    bare("DEL in a name", get![("x\x7fy", "z")]),
    bare("a byte beyond ASCII in a name", get![("x\u{e9}", "z")]),
    bare("CR LF in a value", get![("x", "y\r\nevil: yes")]),
    bare(
        "a whole request in a value",
        get![(
            "x",
            "y\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.example\r\n\r\n"
        )],
    ),
    bare("LF in a value", get![("x", "y\nevil: yes")]),
    bare("CR in a value", get![("x", "y\revil: yes")]),
    bare("NUL in a value", get![("x", "y\0z")]),
    bare("CR LF in a cookie", get![("cookie", "a=b\r\nevil: yes")]),
];

const CONNECTION: &[Case] = &[
    bare("connection", get![("connection", "close")]),
    bare(
        "connection that names a field",
        get![("connection", "x-forwarded-for")],
    ),
    bare("keep-alive", get![("keep-alive", "timeout=5")]),
    bare("proxy-connection", get![("proxy-connection", "close")]),
    bare("transfer-encoding", post![("transfer-encoding", "chunked")]),
    with(
        "transfer-encoding with a smuggled request in the body",
        post![("transfer-encoding", "chunked")],
        Pieces(&["0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.example\r\n\r\n"]),
    ),
    bare("upgrade", get![("upgrade", "websocket")]),
    bare("upgrade to the same protocol", get![("upgrade", "h2c")]),
    bare("te: gzip", get![("te", "gzip")]),
    bare("te: trailers, gzip", get![("te", "trailers, gzip")]),
];

const PSEUDO: &[Case] = &[
    bare(
        "no method",
        &[
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "no scheme",
        &[
            (":method", "GET"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "no path",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
        ],
    ),
    bare(
        "no authority and no host",
        &[(":method", "GET"), (":scheme", "http"), (":path", "/h")],
    ),
    bare("two methods", get![(":method", "POST")]),
    bare("two schemes", get![(":scheme", "http")]),
    bare("two paths", get![(":path", "/evil")]),
    bare("two authorities", get![(":authority", "b.example")]),
    bare("an unknown pseudo-header", get![(":evil", "yes")]),
    bare("a pseudo-header of responses", get![(":status", "200")]),
    bare(
        "a pseudo-header behind a field",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            ("x", "y"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an empty method",
        &[
            (":method", ""),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "a method with a space",
        &[
            (":method", "GET /evil HTTP/1.1"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "a method with a line break",
        &[
            (":method", "GET / HTTP/1.1\r\nevil: yes\r\nx"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "a protocol without CONNECT",
        get![(":protocol", "websocket")],
    ),
    bare(
        "CONNECT with a path",
        &[
            (":method", "CONNECT"),
            (":scheme", "http"),
            (":authority", "a.example:80"),
            (":path", "/h"),
        ],
    ),
    bare(
        "CONNECT",
        &[(":method", "CONNECT"), (":authority", "a.example:80")],
    ),
];

const TARGETS: &[Case] = &[
    bare(
        "an empty path",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", ""),
        ],
    ),
    bare(
        "a path without a slash",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "evil"),
        ],
    ),
    bare(
        "a whole URI as a path",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "http://b.example/h"),
        ],
    ),
    bare(
        "a path with a space",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h HTTP/1.1"),
        ],
    ),
    bare(
        "a path with a line break",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h HTTP/1.1\r\nevil: yes\r\nx: "),
        ],
    ),
    bare(
        "a path with NUL",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/h\0"),
        ],
    ),
    bare(
        "a path with an escaped slash",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/a/..%2fh"),
        ],
    ),
    bare(
        "a path that leaves the root",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/../h"),
        ],
    ),
    bare(
        "* without OPTIONS",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "*"),
        ],
    ),
    bare(
        "a scheme with a line break",
        &[
            (":method", "GET"),
            (":scheme", "http\r\nevil: yes"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an empty scheme",
        &[
            (":method", "GET"),
            (":scheme", ""),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "a URI as a scheme",
        &[
            (":method", "GET"),
            (":scheme", "http://b.example/?"),
            (":authority", "a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an authority with credentials",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "u:p@a.example"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an authority with a line break",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example\r\nevil: yes"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an authority with a path",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example/evil"),
            (":path", "/h"),
        ],
    ),
    bare(
        "a port that cannot be",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.example:99999"),
            (":path", "/h"),
        ],
    ),
    bare(
        "an empty authority",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", ""),
            (":path", "/h"),
        ],
    ),
    bare("another host", get![("host", "b.example")]),
    bare(
        "the host twice",
        get![("host", "a.example"), ("host", "a.example")],
    ),
    bare(
        "two hosts without an authority",
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/h"),
            ("host", "a.example"),
            ("host", "b.example"),
        ],
    ),
];

const LENGTHS: &[Case] = &[
    with(
        "less than promised",
        post![("content-length", "10")],
        Pieces(&["body"]),
    ),
    with(
        "more than promised",
        post![("content-length", "2")],
        Pieces(&["body"]),
    ),
    with(
        "more than promised, in pieces",
        post![("content-length", "5")],
        Pieces(&["body", "body"]),
    ),
    with(
        "something where nothing was promised",
        post![("content-length", "0")],
        Pieces(&["body"]),
    ),
    bare(
        "nothing where something was promised",
        post![("content-length", "4")],
    ),
    with(
        "a length that is no number",
        post![("content-length", "four")],
        Pieces(&["body"]),
    ),
    with(
        "a length with a sign",
        post![("content-length", "+4")],
        Pieces(&["body"]),
    ),
    with(
        "a length beyond all numbers",
        post![("content-length", "18446744073709551620")],
        Pieces(&["body"]),
    ),
    with(
        "two lengths",
        post![("content-length", "4"), ("content-length", "5")],
        Pieces(&["body"]),
    ),
    with(
        "a list of lengths",
        post![("content-length", "4, 5")],
        Pieces(&["body"]),
    ),
    with(
        "a line break in trailers",
        post![],
        Trailers("body", &[("x", "y\r\nevil: yes")]),
    ),
    with(
        "upper case in trailers",
        post![],
        Trailers("body", &[("X", "y")]),
    ),
    with(
        "a pseudo-header in trailers",
        post![],
        Trailers("body", &[(":path", "/evil"), ("x", "y")]),
    ),
    with(
        "connection in trailers",
        post![],
        Trailers("body", &[("connection", "close")]),
    ),
    with(
        "less than promised, then trailers",
        post![("content-length", "10")],
        Trailers("body", &[("x", "y")]),
    ),
];

/// What is legal, and its one form on the other side.
const GOOD: &[(Case, &str)] = &[
    (
        bare("a plain request", get![("x", "y")]),
        "GET /h HTTP/1.1\r\nhost: a.example\r\nx: y\r\n\r\n",
    ),
    (
        bare("a host that is the authority", get![("host", "a.example")]),
        "GET /h HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    (
        bare(
            "a host instead of an authority",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/h"),
                ("host", "a.example"),
            ],
        ),
        "GET /h HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    (
        bare(
            "cookie crumbs become one",
            get![
                ("cookie", "a=b"),
                ("x", "y"),
                ("cookie", "c=d"),
                ("cookie", "e=f")
            ],
        ),
        "GET /h HTTP/1.1\r\nhost: a.example\r\ncookie: a=b; c=d; e=f\r\nx: y\r\n\r\n",
    ),
    (
        bare("te: trailers is said anew", get![("te", "trailers")]),
        "GET /h HTTP/1.1\r\nconnection: te\r\nhost: a.example\r\nte: trailers\r\n\r\n",
    ),
    (
        with(
            "a body with its length",
            post![("content-length", "8")],
            Pieces(&["body", "body"]),
        ),
        "POST /h HTTP/1.1\r\nhost: a.example\r\ncontent-length: 8\r\n\r\nbodybody",
    ),
    (
        with("a body without a length", post![], Pieces(&["body"])),
        "POST /h HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ),
    (
        with(
            "bytes that look like chunks are a body",
            post![("content-length", "5")],
            Pieces(&["0\r\n\r\n"]),
        ),
        "POST /h HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        bare(
            "dot segments and escapes are resolved",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "A.Example."),
                (":path", "/x/../%68?q=%20"),
            ],
        ),
        "GET /h?q=%20 HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    (
        bare(
            "* for OPTIONS",
            &[
                (":method", "OPTIONS"),
                (":scheme", "http"),
                (":authority", "a.example"),
                (":path", "*"),
            ],
        ),
        "OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
];

/// Every name and value is sent as bytes: what is no UTF-8 on the wire is none here either.
fn frames(case: &Case) -> Vec<u8> {
    let block_of = |fields: Fields| block(fields);
    let fields = block_of(case.fields);
    match case.body {
        Body::None => request(1, &fields),
        Pieces(pieces) => {
            let mut bytes = head(1, &fields);
            let (last, others) = pieces.split_last().expect("a piece");
            bytes.extend(others.iter().flat_map(|piece| data(1, piece)));
            bytes.extend(last_data(1, last));
            bytes
        }
        Trailers(body, trailers) => [
            head(1, &fields),
            data(1, body),
            request(1, &block_of(trailers)),
        ]
        .concat(),
    }
}

async fn start() -> (Origin, Gateway) {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    (origin, gateway)
}

/// A request behind the others proves that nothing of theirs is still on its way.
async fn last(address: SocketAddr) -> Result<(), String> {
    let outcome = H2::connect(address).await.get(1, "/last").await;
    match outcome.status() {
        Some(200) => Ok(()),
        _ => Err(format!("another client got {outcome:?}")),
    }
}

/// RFC 9113 §8.1.1: the stream ends, and nothing else.
async fn refuse(address: SocketAddr, case: &Case) -> Result<(), String> {
    let mut client = H2::connect(address).await;
    client.send(frames(case)).await;
    match client.outcome(1).await {
        Outcome::Reset(wire::code::PROTOCOL) => {}
        Outcome::Answer(answer) if [400, 405, 501].contains(&answer.status) => {}
        other => return Err(format!("wanted a stream error or 400, got {other:?}")),
    }
    if !client.lives().await {
        return Err("the connection did not survive".to_owned());
    }
    last(address).await
}

/// What reached the origin since it had seen `before`.
fn since(before: &[Vec<u8>], origin: &Origin) -> Vec<u8> {
    let mut fresh = Vec::new();
    for (number, bytes) in origin.saw().iter().enumerate() {
        let start = before.get(number).map_or(0, Vec::len);
        fresh.extend_from_slice(&bytes[start..]);
    }
    fresh
}

/// Plays malformed requests. No complete one may reach the origin, nor any byte of one that was
/// malformed from its head on.
async fn refuse_all(cases: &[Case]) {
    let (origin, gateway) = start().await;
    let mut wrong = String::new();
    for case in cases {
        let before = origin.saw();
        if let Err(why) = refuse(gateway.address(), case).await {
            writeln!(wrong, "{}: {why}", case.name).expect("a text");
        }
        let bytes = since(&before, &origin);
        let (_, of_the_last) = bytes.split_at(http1::find(&bytes, b"GET /last ").unwrap_or(0));
        let others = &bytes[..bytes.len() - of_the_last.len()];
        let headless = matches!(case.body, Body::None) && !others.is_empty();
        let text = String::from_utf8_lossy(&bytes);
        if headless || !http1::requests(others).0.is_empty() || text.contains("evil") {
            writeln!(wrong, "{}: the origin saw {text:?}", case.name).expect("a text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(gateway.count(Counter::Panics), 0);
}

#[tokio::test]
async fn names_and_values_that_would_break_lines_reach_nobody() {
    refuse_all(NAMES).await;
}

#[tokio::test]
async fn fields_of_one_connection_are_refused() {
    refuse_all(CONNECTION).await;
}

#[tokio::test]
async fn pseudo_headers_are_there_once_and_first() {
    refuse_all(PSEUDO).await;
}

#[tokio::test]
async fn a_request_has_one_target_of_one_form() {
    refuse_all(TARGETS).await;
}

#[tokio::test]
async fn a_body_is_as_long_as_it_says_and_ends_as_it_may() {
    refuse_all(LENGTHS).await;
}

/// A request with its fields in alphabetical order: theirs means nothing.
fn in_order(request: &str) -> String {
    let (start, rest) = request.split_once("\r\n").unwrap_or((request, ""));
    let (fields, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let mut fields: Vec<_> = fields.split("\r\n").collect();
    fields.sort_unstable();
    format!("{start}\r\n{}\r\n\r\n{body}", fields.join("\r\n"))
}

#[tokio::test]
async fn what_is_legal_has_one_form_at_the_origin() {
    let mut wrong = String::new();
    for (case, wanted) in GOOD {
        let (origin, gateway) = start().await;
        let mut client = H2::connect(gateway.address()).await;
        client.send(frames(case)).await;
        let outcome = client.outcome(1).await;
        if outcome.status() != Some(200) {
            writeln!(wrong, "{}: {outcome:?}", case.name).expect("a text");
        }
        let got = in_order(&http1::without_added(&origin.saw().concat()));
        if got != in_order(wanted) {
            writeln!(wrong, "{}: wanted {wanted:?}\n   got {got:?}", case.name).expect("a text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn what_lies_about_the_scheme_changes_nothing_behind_the_gateway() {
    for scheme in ["http", "https", "ftp", "h2c"] {
        let (origin, gateway) = start().await;
        let mut client = H2::connect(gateway.address()).await;
        let fields = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", "a.example"),
            (":path", "/h"),
        ];
        client.send(request(1, &block(&fields))).await;
        let outcome = client.outcome(1).await;
        let refused = match &outcome {
            Outcome::Answer(answer) => answer.status == 400,
            Outcome::Reset(_) => true,
            _ => false,
        };
        for request in origin.requests() {
            assert_eq!(
                request.header("x-forwarded-proto"),
                Some("http"),
                "{scheme}"
            );
            assert_eq!(request.start, "GET /h HTTP/1.1", "{scheme}");
        }
        assert!(
            refused || outcome.status() == Some(200),
            "{scheme}: {outcome:?}"
        );
        assert!(!refused || origin.requests().is_empty(), "{scheme}");
    }
}

#[tokio::test]
async fn a_fragment_reaches_nobody() {
    let (origin, gateway) = start().await;
    let mut client = H2::connect(gateway.address()).await;
    client.send(request(1, &wire::get("/h#evil"))).await;
    client.outcome(1).await;
    assert!(client.lives().await);
    let bytes = String::from_utf8_lossy(&origin.saw().concat()).into_owned();
    assert!(!bytes.contains("evil") && !bytes.contains('#'), "{bytes}");
}

#[tokio::test]
async fn connection_fields_of_an_origin_do_not_reach_a_client_of_http2() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: y\r\n\
         Proxy-Connection: x\r\nX-Stays: z\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    let mut client = H2::connect(gateway.address()).await;
    let Outcome::Answer(answer) = client.get(1, "/").await else {
        panic!("no answer: {:?}", client.seen)
    };
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("x-stays"), Some("z"));
    for name in [
        "connection",
        "keep-alive",
        "x-hop",
        "proxy-connection",
        "transfer-encoding",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert!(
        answer
            .headers
            .iter()
            .all(|(name, _)| name.to_ascii_lowercase() == *name)
    );
}

#[tokio::test]
async fn trailers_of_an_origin_reach_a_client_of_http2() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    let mut client = H2::connect(gateway.address()).await;
    let outcome = client.get(1, "/").await;
    let Outcome::Answer(answer) = outcome else {
        panic!("no answer: {outcome:?}")
    };
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn trailers_larger_than_a_head_may_be_are_refused_and_reach_nobody() {
    let (origin, gateway) = start().await;
    let mut client = H2::connect(gateway.address()).await;
    let value = "evil".repeat(2000);
    // Each is within every bound of one field; together they are more than `limits.head`.
    let names = ["x-a", "x-b", "x-c", "x-d", "x-e"];
    let trailers = block(&names.map(|name| (name, value.as_str())));
    let (first, rest) = trailers.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    let body = [head(1, &wire::post("/h")), data(1, "body")].concat();
    client.send(body).await;
    let (over, last_piece) = (wire::flag::END_STREAM, wire::flag::END_HEADERS);
    let frames = [
        wire::frame(wire::kind::HEADERS, over, 1, first),
        wire::continuation(1, 0, second),
        wire::continuation(1, last_piece, third),
    ];
    client.send(frames.concat()).await;
    let outcome = client.outcome(1).await;
    assert_eq!(outcome.status(), Some(431), "{outcome:?}");
    assert!(client.lives().await);
    last(gateway.address()).await.expect("others are served");
    let bytes = String::from_utf8_lossy(&origin.saw().concat()).into_owned();
    assert!(!bytes.contains("evil"), "{bytes}");
    let line = gateway.log().wait_for("verdict", "head_too_large").await;
    assert_eq!(line["status"], 431);
}
