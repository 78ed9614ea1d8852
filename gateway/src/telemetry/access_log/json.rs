//! Values in JSON.

use std::io;

use serde::Serialize as _;

use super::{digits, line::Value};

/// Appends `value`.
pub(super) fn append(value: Value<'_>, buffer: &mut Vec<u8>) {
    match value {
        Value::Nothing => buffer.extend_from_slice(b"null"),
        Value::Text(text) => string(text, buffer),
        Value::Number(number) => digits::number(number, buffer),
        Value::Truth(true) => buffer.extend_from_slice(b"true"),
        Value::Truth(false) => buffer.extend_from_slice(b"false"),
        Value::Address(address) => quoted(buffer, |buffer| digits::address(address, buffer)),
        Value::Socket(socket) => quoted(buffer, |buffer| digits::socket(socket, buffer)),
        Value::Moment(time) => quoted(buffer, |buffer| digits::moment(time, buffer)),
        Value::Time(time) => digits::millis(time, buffer),
    }
}

fn quoted(buffer: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    buffer.push(b'"');
    append(buffer);
    buffer.push(b'"');
}

fn string(text: &str, buffer: &mut Vec<u8>) {
    // Almost every value is plain. Looked at without a way out, so that many bytes go at a time.
    let plain = |byte: u8| matches!(byte, b' '..=b'!' | b'#'..=b'[' | b']'..=b'~');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        return quoted(buffer, |buffer| buffer.extend_from_slice(text.as_bytes()));
    }
    let start = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Escaping);
    if text.serialize(&mut serializer).is_err() {
        // A Vec takes every write, so this does not happen; half a value must not stay if it ever does.
        buffer.truncate(start);
        buffer.extend_from_slice(b"null");
    }
}

/// Escapes, besides what JSON demands, the characters that move a terminal's cursor or turn its text
/// around: DEL, C1 controls, line separators and directional overrides.
struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((position, found)) = rest.char_indices().find(|(_, c)| is_unprintable(*c)) {
            let (before, after) = rest.split_at(position);
            writer.write_all(before.as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(found))?;
            rest = after.strip_prefix(found).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

fn is_unprintable(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}
