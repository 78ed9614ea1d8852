//! The table of hostile requests: what is sent, what the client is told, what the origin sees.
//!
//! The origin's side is byte for byte, but for the header lines that the gateway itself adds to
//! every request (they are checked in `forwarded.rs` and taken off before the comparison).

/// One request, or what pretends to be one.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) send: &'static [u8],
    pub(crate) answer: Answer,
    pub(crate) origin: Saw,
}

/// What the client gets.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// This status, then the connection is closed.
    Refused(u16),
    /// These statuses, one per request.
    Answers(&'static [u16]),
    /// This status, then the connection is closed although the request was served.
    Last(u16),
}

/// What the origin gets.
#[derive(Clone, Copy)]
pub(crate) enum Saw {
    /// No byte.
    Nothing,
    /// Exactly this.
    Exactly(&'static str),
    /// The beginning of a request that never became complete.
    NoCompleteRequest,
}

/// Refused before an origin hears of it.
const fn refused(name: &'static str, send: &'static [u8], status: u16) -> Case {
    Case {
        name,
        send,
        answer: Answer::Refused(status),
        origin: Saw::Nothing,
    }
}

/// Refused after its head was sent on: the body turned out to be malformed.
const fn broken_body(name: &'static str, send: &'static [u8]) -> Case {
    Case {
        name,
        send,
        answer: Answer::Refused(400),
        origin: Saw::NoCompleteRequest,
    }
}

/// Harmless once brought into one form.
const fn reframed(name: &'static str, send: &'static [u8], origin: &'static str) -> Case {
    Case {
        name,
        send,
        answer: Answer::Answers(&[200]),
        origin: Saw::Exactly(origin),
    }
}

/// Served with one framing, but not trusted with another request.
const fn last(name: &'static str, send: &'static [u8], origin: &'static str) -> Case {
    Case {
        name,
        send,
        answer: Answer::Last(200),
        origin: Saw::Exactly(origin),
    }
}

/// The bytes after the first request are a second one, and everybody agrees on that.
const fn two(
    name: &'static str,
    send: &'static [u8],
    answers: &'static [u16],
    origin: &'static str,
) -> Case {
    Case {
        name,
        send,
        answer: Answer::Answers(answers),
        origin: Saw::Exactly(origin),
    }
}

pub(crate) const FRAMING: &[Case] = &[
    last(
        "CL.TE: the coding wins, what follows is no part of the body and nobody reads it",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    last(
        "CL.TE: a smuggled request reaches nobody",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 45\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    last(
        "TE.CL: the coding wins",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    refused(
        "TE.TE: two codings, the second unknown",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "TE.TE: two codings, the first unknown",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "an unknown transfer coding",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "identity is no transfer coding",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
        400,
    ),
    refused(
        "chunked twice in one field",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "chunked twice in two fields",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a coding before chunked",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "chunked is not last",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a coding in quotes",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a coding with a parameter",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a coding behind a vertical tab",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "an empty coding",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a space before the colon",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "a coding on a folded line",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    reframed(
        "the case of a coding does not matter",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: ChUnKeD\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ),
    refused(
        "HTTP/1.0 with a transfer coding",
        b"POST /a HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    refused(
        "HTTP/1.0 with both framings",
        b"POST /a HTTP/1.0\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    reframed(
        "the same length twice",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc",
    ),
    refused(
        "two lengths",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
    ),
    refused(
        "two lengths in one field",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3, 4\r\n\r\nabc",
        400,
    ),
    refused(
        "a length with a sign",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: +3\r\n\r\nabc",
        400,
    ),
    refused(
        "a negative length",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: -1\r\n\r\nabc",
        400,
    ),
    refused(
        "a hexadecimal length",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0x3\r\n\r\nabc",
        400,
    ),
    refused(
        "a length of two words",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3 3\r\n\r\nabc",
        400,
    ),
    refused(
        "an empty length",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length:\r\n\r\nabc",
        400,
    ),
    refused(
        "a length beyond 64 bits",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 18446744073709551617\r\n\r\nabc",
        400,
    ),
    two(
        "an alias of the coding has no effect",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\nTransfer_Encoding: chunked\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        &[200, 200],
        "POST /a HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\nGET /b HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "0.CL: a GET with a body keeps its framing",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 38\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n..",
        "GET /a HTTP/1.1\r\nhost: a.example\r\ncontent-length: 38\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n..",
    ),
    reframed(
        "0.TE: a GET with chunks keeps its framing",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    refused(
        "the same length twice in one field",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3, 3\r\n\r\nabc",
        400,
    ),
    reframed(
        "Connection cannot take the length away",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc",
    ),
    reframed(
        "Connection cannot take the coding away",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    reframed(
        "Connection cannot take the host away",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Host\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
];

pub(crate) const CHUNKS: &[Case] = &[
    reframed(
        "a chunk extension is not sent on",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3;name=value\r\nabc\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a bare line feed in a chunk extension",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3;\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a bare line feed after a chunk size",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk size with a prefix",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk size with a sign",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a negative chunk size",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk size beyond 64 bits",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk size that is no number",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "no chunk size",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk longer than its size",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    ),
    broken_body(
        "a chunk that ends with a bare line feed",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
    ),
    reframed(
        "framing and forwarding fields in trailers are not sent on",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: b.example\r\nX-Forwarded-For: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    reframed(
        "zeros before a chunk size",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
];

pub(crate) const HOSTS: &[Case] = &[
    refused("no host", b"GET /a HTTP/1.1\r\n\r\n", 400),
    refused(
        "two hosts",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        400,
    ),
    refused(
        "the same host twice",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused("an empty host", b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400),
    refused(
        "a host with a space",
        b"GET /a HTTP/1.1\r\nHost: a example\r\n\r\n",
        400,
    ),
    refused(
        "a host with a path",
        b"GET /a HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
        400,
    ),
    refused(
        "a host with a user",
        b"GET /a HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
        400,
    ),
    refused(
        "two hosts in one field",
        b"GET /a HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
        400,
    ),
    refused(
        "a port that cannot be",
        b"GET /a HTTP/1.1\r\nHost: a.example:99999\r\n\r\n",
        400,
    ),
    refused(
        "a port that is no number",
        b"GET /a HTTP/1.1\r\nHost: a.example:8x\r\n\r\n",
        400,
    ),
    refused(
        "two ports",
        b"GET /a HTTP/1.1\r\nHost: a.example:80:81\r\n\r\n",
        400,
    ),
    refused(
        "half an address",
        b"GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n",
        400,
    ),
    refused(
        "a host with a NUL",
        b"GET /a HTTP/1.1\r\nHost: a.example\0\r\n\r\n",
        400,
    ),
    refused(
        "another host in the target",
        b"GET http://b.example/a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a user in the target",
        b"GET http://u:p@a.example/a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    reframed(
        "the absolute form with the same host",
        b"GET http://a.example/a?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a?q HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    refused(
        "CONNECT",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        501,
    ),
    refused(
        "an asterisk without OPTIONS",
        b"GET * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a target without a slash",
        b"GET a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a host in the alias of a host",
        b"GET /a HTTP/1.1\r\nHost : a.example\r\n\r\n",
        400,
    ),
    reframed(
        "an asterisk with OPTIONS",
        b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    last(
        "HTTP/1.0",
        b"GET /a HTTP/1.0\r\nHost: a.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
];

pub(crate) const PATHS: &[Case] = &[
    refused(
        "an escaped slash",
        b"GET /a%2fb HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "an escaped slash in capitals",
        b"GET /a%2Fb HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "an escaped backslash",
        b"GET /a%5cb HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "an escaped NUL",
        b"GET /a%00b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a backslash",
        b"GET /a\\b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "dots that leave the root",
        b"GET /../a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "dots that leave the root later",
        b"GET /a/../../b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "escaped dots that leave the root",
        b"GET /%2e%2E/a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "half an escape",
        b"GET /a%2 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "an escape that is none",
        b"GET /a%zz HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a space in the target",
        b"GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    refused(
        "a NUL in the target",
        b"GET /a\0b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        400,
    ),
    reframed(
        "dots inside the root",
        b"GET /x/./y/../a?p=/../q HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /x/a?p=/../q HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "escaped dots inside the root",
        b"GET /x/%2e%2e/a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "repeated slashes",
        b"GET //x///a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /x/a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "an escaped letter",
        b"GET /%61dmin HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /admin HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "an escaped line break stays escaped",
        b"GET /a%0d%0aX:%20y HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a%0D%0AX:%20y HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
];

pub(crate) const FIELDS: &[Case] = &[
    refused("a NUL in a value", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: a\0b\r\n\r\n", 400),
    refused("a control character in a value", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: a\x01b\r\n\r\n", 400),
    refused("a delete character in a value", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: a\x7fb\r\n\r\n", 400),
    refused("a carriage return in a value", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: a\rY: b\r\n\r\n", 400),
    refused("a control character in a name", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX\x01: a\r\n\r\n", 400),
    refused("a byte beyond ASCII in a name", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX\xff: a\r\n\r\n", 400),
    refused("an empty name", b"GET /a HTTP/1.1\r\nHost: a.example\r\n: a\r\n\r\n", 400),
    refused("a line without a colon", b"GET /a HTTP/1.1\r\nHost: a.example\r\nnothing\r\n\r\n", 400),
    refused("a folded line", b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: a\r\n b\r\n\r\n", 400),
    refused("a folded line before the first field", b"GET /a HTTP/1.1\r\n X: a\r\nHost: a.example\r\n\r\n", 400),
    reframed(
        "fields that Connection names",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nX-Kept: 2\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\nx-kept: 2\r\n\r\n",
    ),
    reframed(
        "Connection cannot take our own fields away",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: X-Forwarded-For, X-Request-Id, X-Forwarded-Proto\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "hop-by-hop fields",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: X\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\ntrailer: X\r\n\r\n",
    ),
    reframed(
        "an upgrade to h2c",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "an upgrade to h2c that Connection does not name",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    last(
        "bytes behind an upgrade that is not allowed are nobody's",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: irc\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "forwarding fields of a stranger, and their aliases",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nX-Forwarded_Proto: https\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4\r\nX-Request-Id: mine\r\nX-Real-Ip: 1.2.3.4\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "names with underscores",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\nX_Role: admin\r\nX-Role: user\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\nx-role: user\r\n\r\n",
    ),
    refused(
        "an expectation that is none",
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nExpect: y 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        417,
    ),
];

pub(crate) const LINES: &[Case] = &[
    refused("HTTP/0.9", b"GET /a\r\n\r\n", 400),
    refused("HTTP/1.2", b"GET /a HTTP/1.2\r\nHost: a.example\r\n\r\n", 400),
    refused("HTTP/2.0", b"GET /a HTTP/2.0\r\nHost: a.example\r\n\r\n", 400),
    refused("HTTP/1.10", b"GET /a HTTP/1.10\r\nHost: a.example\r\n\r\n", 400),
    refused("a version in small letters", b"GET /a http/1.1\r\nHost: a.example\r\n\r\n", 400),
    refused("a fourth word", b"GET /a HTTP/1.1 x\r\nHost: a.example\r\n\r\n", 400),
    refused("no method", b" /a HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
    refused("a method that is no token", b"G(T /a HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
    refused("nearly the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n", 400),
    refused(
        "a TLS hello",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\x5f\x1c\x9a\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\r\n\r\n",
        400,
    ),
    refused("a PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /a HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
    refused("noise", b"\x00\xff\xfe\x01\x02\r\n\r\n\r\n", 400),
    reframed(
        "empty lines before the request",
        b"\r\n\r\nGET /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    reframed(
        "bare line feeds between fields leave as proper ends",
        b"GET /a HTTP/1.1\nHost: a.example\nX: y\n\n",
        "GET /a HTTP/1.1\r\nhost: a.example\r\nx: y\r\n\r\n",
    ),
    reframed(
        "a method is forwarded as it is written",
        b"get /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "get /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    two(
        "noise behind a good request",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n\x00\x01\x02\r\n\r\n",
        &[200, 400],
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
    two(
        "pipelined requests keep their order",
        b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\nPOST /b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhiGET /c HTTP/1.1\r\nHost: a.example\r\n\r\n",
        &[200, 200, 200],
        "GET /a HTTP/1.1\r\nhost: a.example\r\n\r\nPOST /b HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nhiGET /c HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ),
];
