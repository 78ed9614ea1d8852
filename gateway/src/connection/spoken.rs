//! Tells by the first bytes of a client what it speaks, where a listener takes more than one protocol.
//!
//! Pure. What must stay true: more bytes never change what was clear with fewer; what is not one of the
//! others is raw with its first byte that does not fit; nothing has to be kept to ask again.

use crate::frames::PREFACE;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A request of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// The beginning of a TLS handshake.
    Tls,
    /// A request of `PostgreSQL` for encryption, or whatever else its clients begin with.
    Postgres,
    /// None of the others.
    Raw,
}

/// The longest method that a request can begin with.
const METHOD: usize = 32;

/// What is spoken where what `bytes` begin with is spoken; none while it may be several of them.
/// `postgres` says whether `PostgreSQL` is one of them.
pub fn spoken(bytes: &[u8], postgres: bool) -> Option<Spoken> {
    let first = bytes.first()?;
    if *first == 0 && postgres {
        return self::postgres(bytes);
    }
    if *first == HANDSHAKE {
        return tls(bytes);
    }
    if bytes.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    http1(bytes)
}

/// A record of the handshake.
const HANDSHAKE: u8 = 22;

/// Its head, then its first message, each byte with its least and its most (RFC 8446 §5.1).
const TLS: [(u8, u8); 6] = [
    (HANDSHAKE, HANDSHAKE),
    (3, 3),
    (0, 4),
    (0, 0x40),
    (0, 255),
    (1, 1),
];

fn tls(bytes: &[u8]) -> Option<Spoken> {
    let mut known = bytes.iter().zip(TLS);
    if !known.all(|(byte, (least, most))| (least..=most).contains(byte)) {
        return Some(Spoken::Raw);
    }
    (bytes.len() >= TLS.len()).then_some(Spoken::Tls)
}

/// The length of a message, which is short, then a version or the number of a request.
fn postgres(bytes: &[u8]) -> Option<Spoken> {
    let kinds = [[0, 3], [4, 210]];
    let is_short = bytes.get(1).is_none_or(|high| *high == 0);
    let kind = bytes.get(4..bytes.len().min(6)).unwrap_or_default();
    if is_short && kinds.iter().any(|it| it == kind) {
        return Some(Spoken::Postgres);
    }
    let is_open = is_short && kinds.iter().any(|it| it.starts_with(kind));
    (!is_open).then_some(Spoken::Raw)
}

/// A method, a space, and a target as a request can have it (RFC 9112 §3.2). Other protocols of lines
/// begin with a word and a space, too, so that a word alone is not enough.
fn http1(bytes: &[u8]) -> Option<Spoken> {
    let end = bytes.iter().position(|byte| !is_token(*byte));
    let method = bytes.get(..end.unwrap_or(bytes.len()))?;
    if method.is_empty() || method.len() > METHOD {
        return Some(Spoken::Raw);
    }
    let [b' ', target @ ..] = bytes.get(end?..)? else {
        return Some(Spoken::Raw);
    };
    let is_http = match target.first()? {
        b'/' => true,
        b'*' => method == b"OPTIONS",
        _ if method == b"CONNECT" => true,
        _ => return absolute(target),
    };
    Some(if is_http { Spoken::Http1 } else { Spoken::Raw })
}

fn absolute(target: &[u8]) -> Option<Spoken> {
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let same = |one: &[u8], two: &[u8]| one.eq_ignore_ascii_case(two);
    if schemes
        .iter()
        .any(|it| target.get(..it.len()).is_some_and(|head| same(head, it)))
    {
        return Some(Spoken::Http1);
    }
    let begins = |it: &&[u8]| {
        it.get(..target.len())
            .is_some_and(|head| same(head, target))
    };
    if schemes.iter().any(begins) {
        return None;
    }
    Some(Spoken::Raw)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
