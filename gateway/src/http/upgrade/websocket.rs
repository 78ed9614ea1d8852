//! The part of WebSocket's opening that HTTP/1.1 needs and HTTP/2 does not (RFC 6455 §4, RFC 8441 §5): a
//! key, and the proof that whoever answered has read it.

use http::{HeaderName, HeaderValue};
use sha1::{Digest as _, Sha1};

use crate::filter::Base64;

pub(super) const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(super) const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What RFC 6455 §1.3 has appended to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A fresh key.
pub(super) fn key() -> HeaderValue {
    let random: [u8; 16] = rand::random();
    // Letters, digits and a few marks: always a header value.
    HeaderValue::from_maybe_shared(Base64::encode(&random))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The proof for `key`.
pub(super) fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    HeaderValue::from_maybe_shared(Base64::encode(&digest)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_sixteen_bytes_and_differ() {
        let (one, other) = (key(), key());
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }
}
