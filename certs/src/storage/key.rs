//! The names under which objects are stored: short, and of characters that every storage takes.

use std::{borrow::Cow, fmt::Write as _};

use sha2::{Digest, Sha256};

/// File systems end names at 255 bytes, and version and kind need some.
const LONGEST: usize = 200;
/// How much of a long name stays readable.
const READABLE: usize = 60;

/// The name under which something is stored: its own, or, if that is too long, its beginning and a hash.
pub fn key(name: &str) -> Cow<'_, str> {
    if encode(name).len() <= LONGEST {
        return Cow::Borrowed(name);
    }
    let kept = name.bytes().filter(|byte| is_plain(*byte)).take(READABLE);
    let mut short: String = kept.map(char::from).collect();
    short.push('-');
    short.push_str(&hex(&Sha256::digest(name)));
    Cow::Owned(short)
}

/// A few characters that tell one text from another.
pub(crate) fn short_hash(text: &str) -> String {
    let hash = Sha256::digest(text);
    hex(hash.get(..6).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// A name as part of a file's: everything but letters, digits, `-`, `_` and inner dots is escaped.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (place, byte) in name.bytes().enumerate() {
        if is_plain(byte) || (byte == b'.' && place > 0) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

/// The name that was encoded, if it was.
pub(super) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in [
            "www.example.com",
            "*.example.com",
            "docker/web",
            "..",
            ".tmp",
            "::1",
            "a%2Fb",
            "ü",
        ] {
            let encoded = encode(name);
            assert!(
                !encoded.contains('/') && !encoded.starts_with('.'),
                "{encoded}"
            );
            assert_eq!(decode(&encoded).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_nobody_encoded_is_no_name() {
        for text in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn long_names_stay_apart_and_short_enough() {
        let (one, other) = (
            format!("{}.example", "a".repeat(245)),
            format!("{}.example", "a".repeat(244)),
        );
        assert_ne!(key(&one), key(&other));
        assert!(encode(&key(&one)).len() <= LONGEST);
        assert!(encode(&key(&"/".repeat(128))).len() <= LONGEST);
        assert_eq!(key("www.example.com"), "www.example.com");
    }
}
