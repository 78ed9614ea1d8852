//! The PROXY protocol: whatever comes, in whatever pieces, one answer; and what is read can be written.

use sluice_gateway::downstream::proxy_protocol::{About, MOST, Start, Version, missing, read};

/// Headers to begin with.
pub const HEADERS: &[&[u8]] = &[
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n",
    b"PROXY UNKNOWN whatever\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\x7f\0\0\x01\x7f\0\0\x01\0\x2a\x05\x39\x02\0\x0512345\x16\x03\x01",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb\0\x01\0\x02",
    b"GET / HTTP/1.1\r\n",
];

/// What chance would hardly spell.
pub const WORDS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "\r\n",
    "\r\n\r\n\0\r\nQUIT\n",
    "\u{21}\u{11}\0\u{c}",
    "\u{3}\0\u{4}",
    "\u{4}\0\0",
    " 65535",
    "::",
];

/// The beginning of a connection.
///
/// # Panics
/// When pieces make a difference, or a header does not come back as it was.
pub fn header(input: &[u8]) {
    let all = read(input);
    // The whole of a header, and not each length of what is behind it.
    let interesting = input.len().min(300);
    for length in 0..interesting {
        let piece = input.get(..length).unwrap_or_default();
        let now = read(piece);
        if now == Ok(Start::Unfinished) {
            assert!(
                (1..=MOST).contains(&missing(piece)),
                "after {length} bytes nothing more is wanted"
            );
        } else {
            assert_eq!(now, all, "after {length} bytes");
        }
    }
    let Ok(Start::Header(header, length)) = all else {
        return;
    };
    assert!(length <= input.len() && length <= MOST);
    let binary = header.write(Version::V2);
    assert_eq!(
        read(&binary),
        Ok(Start::Header(header.clone(), binary.len()))
    );
    let line = header.write(Version::V1);
    let Ok(Start::Header(again, _)) = read(&line) else {
        panic!("{line:?} is not read");
    };
    if matches!(header.about, About::Client { .. }) {
        assert_eq!(again.about, header.about);
    } else {
        assert_eq!(again.about, About::Unnamed);
    }
}
