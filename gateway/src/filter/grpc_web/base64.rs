//! Base64 (RFC 4648 §4) piece by piece. Pieces that were padded one by one stand behind each other in
//! one body: gRPC-Web allows it, and whoever streams has to.

use bytes::{BufMut as _, Bytes, BytesMut};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A decoder in the middle of its text.
#[derive(Debug, Default)]
pub struct Base64 {
    /// The bits of the letters of a group that is not complete.
    bits: u32,
    /// Letters and padding of that group so far: 0 to 3.
    letters: u8,
    padded: bool,
}

impl Base64 {
    /// The bytes of the groups that `text` completes. None: it is no base64.
    pub fn decode(&mut self, text: &[u8]) -> Option<Bytes> {
        let mut bytes = BytesMut::with_capacity(text.len() / 4 * 3 + 3);
        for letter in text {
            if *letter == b'=' {
                self.pad(&mut bytes)?;
            } else {
                if self.padded {
                    return None;
                }
                self.bits = (self.bits << 6) | u32::from(value(*letter)?);
                self.letters += 1;
                if self.letters == 4 {
                    let [_, first, second, third] = self.bits.to_be_bytes();
                    bytes.put_slice(&[first, second, third]);
                }
            }
            if self.letters == 4 {
                *self = Self::default();
            }
        }
        Some(bytes.freeze())
    }

    fn pad(&mut self, bytes: &mut BytesMut) -> Option<()> {
        match (self.padded, self.letters) {
            (true, _) => {}
            (false, 2) => {
                let [.., only] = (self.bits >> 4).to_be_bytes();
                bytes.put_u8(only);
            }
            (false, 3) => {
                let [.., first, second] = (self.bits >> 2).to_be_bytes();
                bytes.put_slice(&[first, second]);
            }
            (false, _) => return None,
        }
        self.padded = true;
        self.letters += 1;
        Some(())
    }

    /// Whether the text may end here.
    pub fn is_complete(&self) -> bool {
        self.letters == 0
    }

    /// Bytes as base64, padded.
    pub fn encode(bytes: &[u8]) -> Bytes {
        let mut text = BytesMut::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
        for group in bytes.chunks(3) {
            let (first, second, third) = match group {
                [first, second, third] => (*first, *second, *third),
                [first, second] => (*first, *second, 0),
                [first] => (*first, 0, 0),
                _ => (0, 0, 0),
            };
            let bits = u32::from_be_bytes([0, first, second, third]);
            let letters = [bits >> 18, bits >> 12, bits >> 6, bits].map(letter);
            let used = group.len() + 1;
            text.put_slice(letters.get(..used).unwrap_or_default());
            text.put_bytes(b'=', 4_usize.saturating_sub(used));
        }
        text.freeze()
    }
}

fn letter(bits: u32) -> u8 {
    let index = usize::try_from(bits & 63).unwrap_or_default();
    LETTERS.get(index).copied().unwrap_or(b'=')
}

fn value(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Option<Vec<u8>> {
        let mut decoder = Base64::default();
        let bytes = decoder.decode(text.as_bytes())?;
        decoder.is_complete().then(|| bytes.to_vec())
    }

    #[test]
    fn texts_of_the_standard_decode_and_others_do_not() {
        for (text, bytes) in [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8=", Some("fo")),
            ("Zm9v", Some("foo")),
            ("Zm9vYmE=", Some("fooba")),
            ("Zg==Zm8=Zm9v", Some("ffofoo")),
            ("Zg", None),
            ("Zg=", None),
            ("Z===", None),
            ("=", None),
            ("Zg=v", None),
            ("Zm 9", None),
            ("Zm9-", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes.map(str::as_bytes), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_wherever_it_is_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            cut in 1_usize..7,
        ) {
            let text: Vec<u8> = pieces.iter().flat_map(|piece| Base64::encode(piece)).collect();
            let mut decoder = Base64::default();
            let mut bytes = Vec::new();
            for part in text.chunks(cut) {
                bytes.extend(decoder.decode(part).expect("base64"));
            }
            prop_assert!(decoder.is_complete());
            prop_assert_eq!(bytes, pieces.concat());
        }
    }
}
