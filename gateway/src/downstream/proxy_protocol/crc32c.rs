//! The checksum of RFC 9260, appendix A (CRC-32C, Castagnoli).

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The sum of `pieces` one behind the other.
pub(super) fn sum<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = pieces.into_iter().flatten();
    // Bit by bit: a header is short, and few have a sum.
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let odd = sum & 1 == 1;
            (sum >> 1) ^ if odd { POLYNOMIAL } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_others_have() {
        // The check value of the catalogue of CRCs; RFC 3720, appendix B.4.
        assert_eq!(sum([&b"12345"[..], b"6789"]), 0xe306_9283);
        assert_eq!(sum([&[0_u8; 32][..]]), 0x8a91_36aa);
        assert_eq!(sum([&[0xff_u8; 32][..]]), 0x62a8_ab43);
        assert_eq!(sum([]), 0);
    }
}
