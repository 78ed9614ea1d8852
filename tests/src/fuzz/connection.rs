//! What a client says first, read before it is clear whose it is.

use sluice_gateway::{
    connection::spoken::spoken,
    downstream::hello::{Flaw, LIMIT, Reader},
};

/// First messages of TLS, whole ones and others.
pub const HELLOS: &[&[u8]] = &[
    // One record: the host `a.b`, the protocol `h2`.
    b"\x16\x03\x01\x00\x48\x01\x00\x00\x44\x03\x0301234567890123456789012345678901\x00\x00\x02\x13\x01\x01\x00\x00\x19\
      \x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\x00\x10\x00\x05\x00\x03\x02h2\x0a\x0a\x00\x00",
    // Two records, no extensions.
    b"\x16\x03\x01\x00\x0f\x01\x00\x00\x29\x03\x03012345678\
      \x16\x03\x03\x00\x1e90123456789012345678901\x00\x00\x02\x13\x01\x01\x00",
    b"\x16\x03\x01\x00\x05\x01\x00\xff\xff\x03",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// Reading in pieces gives what reading at once gives; what was found is what a route can be asked for.
pub fn client_hello(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else {
        return;
    };
    let whole = Reader::default().read(bytes);
    let mut reader = Reader::default();
    let (mut end, step) = (0, usize::from(*step).max(1));
    let pieces = loop {
        let answer = reader.read(&bytes[..end]);
        if answer != Ok(None) || end == bytes.len() {
            break answer;
        }
        end = bytes.len().min(end + step);
    };
    assert_eq!(pieces, whole, "the pieces make a difference");
    match whole {
        Ok(Some(hello)) => {
            if let Some(name) = hello.sni {
                assert!(!name.is_empty() && !name.ends_with('.'), "{name}");
                assert_eq!(*name, *name.to_ascii_lowercase());
            }
        }
        Ok(None) => assert!(bytes.len() < LIMIT, "waits for ever"),
        Err(Flaw::NotTls) => assert!(bytes[0] != 22 || bytes.len() > 1),
        Err(Flaw::Malformed | Flaw::TooLarge) => assert_eq!(bytes[0], 22),
    }
}

/// First bytes of protocols.
pub const BEGINNINGS: &[&[u8]] = &[
    b"\x00GET / HTTP/1.1\r\n",
    b"\x00CONNECT a:1 HTTP/1.1\r\n",
    b"\x01GET https://a/ HTTP/1.1\r\n",
    b"\x00PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x01\x16\x03\x01\x02\x00\x01",
    b"\x01\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"\x00EHLO mail.example\r\n",
];

/// What is clear stays clear, and soon is.
pub fn sniff(input: &[u8]) {
    let Some((settings, bytes)) = input.split_first() else {
        return;
    };
    let postgres = settings & 1 == 1;
    let mut clear = None;
    for end in 0..=bytes.len().min(100) {
        let now = spoken(&bytes[..end], postgres);
        assert!(clear.is_none() || clear == now, "{clear:?}, then {now:?}");
        assert!(now.is_some() || end < 48, "nothing is clear");
        clear = now;
    }
}
