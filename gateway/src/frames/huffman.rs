//! The Huffman code of HPACK (RFC 7541 §5.2 and appendix B), to read it.
//!
//! The code is canonical: of each length the codes follow each other in the order of their symbols, and
//! those of the next length begin behind them. So the symbols by length are the whole table.

/// The symbols of each length.
#[rustfmt::skip] // a table is read as a table
static SYMBOLS: [(u8, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (23, b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef"),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (28, b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9"),
    (30, b"\n\r\x16"),
];

/// For each byte that text may begin with the symbol, and the length of its code; 0 where that is longer
/// than the byte.
#[expect(
    clippy::indexing_slicing,
    reason = "made by the compiler, which would not take a wrong index"
)]
static SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let (mut next, mut row) = (0, 0);
    while row < 4 {
        let (length, symbols) = SYMBOLS[row];
        let mut which = 0;
        while which < symbols.len() {
            let end = next + (1 << (8 - length));
            while next < end {
                table[next] = (symbols[which], length);
                next += 1;
            }
            which += 1;
        }
        row += 1;
    }
    table
};

/// Appends what `coded` stands for; none when it is no such code.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Option<()> {
    // No code is shorter than five bits.
    text.reserve(coded.len().saturating_mul(8) / 5);
    let mut rest = coded.iter();
    // Bits not yet read, the next one first; behind them ones, as padding has to be.
    let (mut window, mut left) = (u64::MAX, 0_u32);
    loop {
        while left <= 56 {
            let Some(byte) = rest.next() else { break };
            let shift = 56 - left;
            window &= !(0xff << shift) | u64::from(*byte) << shift;
            left += 8;
        }
        // RFC 7541 §5.2: less than a byte of ones is padding.
        if left < 8 && window == u64::MAX {
            return Some(());
        }
        let [byte, ..] = window.to_be_bytes();
        let short = SHORT.get(usize::from(byte)).copied();
        let short = short.filter(|(_, length)| *length > 0);
        let (symbol, length) = short.or_else(|| long(window))?;
        let length = u32::from(length);
        left = left.checked_sub(length)?;
        window = !(!window << length);
        text.push(symbol);
    }
}

/// The symbol that these bits begin with, and its length; none for the end of the string, which stands
/// in none.
fn long(window: u64) -> Option<(u8, u8)> {
    let (mut begins, mut before) = (0_u64, 0);
    for (length, symbols) in &SYMBOLS {
        begins <<= length - before;
        before = *length;
        let place = (window >> (64 - length)).checked_sub(begins)?;
        let symbol = usize::try_from(place).ok().and_then(|it| symbols.get(it));
        if let Some(symbol) = symbol {
            return Some((*symbol, *length));
        }
        begins += u64::try_from(symbols.len()).ok()?;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `text` in code.
    pub(in crate::frames) fn encode(text: &[u8]) -> Vec<u8> {
        let code = |wanted: u8| {
            let (mut code, mut before) = (0_u64, 0);
            for (length, symbols) in &SYMBOLS {
                code <<= length - before;
                before = *length;
                if let Some(place) = symbols.iter().position(|symbol| *symbol == wanted) {
                    return (code + u64::try_from(place).unwrap(), *length);
                }
                code += u64::try_from(symbols.len()).unwrap();
            }
            panic!("every byte has a code")
        };
        let mut bits = Vec::new();
        for byte in text {
            let (code, length) = code(*byte);
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        let byte = |bits: &[bool]| bits.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit));
        bits.chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_standard() {
        // RFC 7541 appendix C.4 and C.6.
        for (text, coded) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                "d07abe941054d444a8200595040b8166e082a62d1bff",
            ),
            ("307", "640eff"),
        ] {
            let bytes = (0..coded.len()).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(&coded[at..at + 2], 16).unwrap());
            let bytes: Vec<u8> = bytes.collect();
            assert_eq!(decoded(&bytes).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn every_byte_comes_back_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for before in 0..9 {
                let mut text = vec![b'a'; before];
                text.extend([byte, byte, b'z']);
                assert_eq!(decoded(&encode(&text)).unwrap(), text);
            }
        }
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_no_code_is_none() {
        // A byte of padding; padding with zeros; the end of the string; a code that is cut.
        for coded in [
            &[0xff][..],
            &[0x18],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff],
            &[0xff, 0xfe],
        ] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
    }
}
