use proptest::prelude::*;

use super::*;
use Spoken::{Http1, Http2, Postgres, Raw, Tls};

#[test]
fn what_is_spoken_is_clear_as_soon_as_it_can_be() {
    for (bytes, postgres, expected) in [
        (&b""[..], false, None),
        (b"GET /", false, Some(Http1)),
        (b"GET ", false, None),
        (b"G", false, None),
        (b"M-SEARCH /", false, Some(Http1)),
        (b"OPTIONS *", false, Some(Http1)),
        (b"CONNECT a", false, Some(Http1)),
        (b"GET http://", false, Some(Http1)),
        (b"GET HTTPS://a", false, Some(Http1)),
        (b"GET htt", false, None),
        // Words and spaces of other protocols.
        (b"GET key", false, Some(Raw)),
        (b"GET *", false, Some(Raw)),
        (b"EHLO mail.example", false, Some(Raw)),
        (b"EHLO http.example", false, Some(Raw)),
        (b"PING\r\n", false, Some(Raw)),
        (b"*1\r\n$4\r\nPING\r\n", false, Some(Raw)),
        (b"SSH-2.0-OpenSSH\r\n", false, Some(Raw)),
        (&[b'A'; 33], false, Some(Raw)),
        (&[b'A'; 32], false, None),
        (b" /", false, Some(Raw)),
        (b"\r\n", false, Some(Raw)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, Some(Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", false, None),
        (b"PRI * HTTP/1.1", false, Some(Raw)),
        (b"PRI /", false, Some(Http1)),
        (b"\x16\x03\x01\x02\x00\x01", false, Some(Tls)),
        (b"\x16\x03\x01\x02\x00", false, None),
        (b"\x16\x03\x01\x02\x00\x02", false, Some(Raw)),
        (b"\x16\x02", false, Some(Raw)),
        (b"\x00", false, Some(Raw)),
        (b"\x00", true, None),
        (b"\x00\x01", true, Some(Raw)),
        (b"\x00\x00\x00\x08\x04", true, None),
        (b"\x00\x00\x00\x08\x04\xd2", true, Some(Postgres)),
        (b"\x00\x00\x00\x29\x00\x03", true, Some(Postgres)),
        (b"\x00\x00\x00\x29\x00\x02", true, Some(Raw)),
        (b"\x00\x00\x00\x29\x01", true, Some(Raw)),
        (b"\xff", true, Some(Raw)),
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(spoken(bytes, postgres), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn more_bytes_change_nothing(
        known in prop_oneof![
            Just(&b"GET /"[..]), Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]), Just(&b"GET http"[..]),
            Just(&[22, 3, 1, 0, 9, 1][..]), Just(&[0, 0, 0, 8, 4, 210, 22, 47][..]), Just(&b""[..]),
        ],
        keep in 0..30_usize,
        more in prop::collection::vec(any::<u8>(), 0..60),
        postgres: bool,
    ) {
        let bytes = [&known[..keep.min(known.len())], &more].concat();
        let mut clear = None;
        for end in 0..=bytes.len() {
            let now = spoken(&bytes[..end], postgres);
            prop_assert!(clear.is_none() || clear == now, "{:?} then {:?}", clear, now);
            clear = now;
        }
        // Nobody is waited for who has said this much.
        prop_assert!(clear.is_some() || bytes.len() < 48);
    }
}
