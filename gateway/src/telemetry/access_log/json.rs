//! Values in JSON.

use std::io::{self, Write as _};

use serde::Serialize as _;

use super::line::{Value, moment};

/// Appends `value`.
pub(super) fn append(value: Value<'_>, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    let written = match value {
        Value::Nothing => buffer.write_all(b"null"),
        Value::Text(text) => {
            let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Escaping);
            text.serialize(&mut serializer).map_err(io::Error::from)
        }
        Value::Number(number) => write!(buffer, "{number}"),
        Value::Truth(truth) => write!(buffer, "{truth}"),
        Value::Address(address) => write!(buffer, "\"{address}\""),
        Value::Socket(address) => write!(buffer, "\"{address}\""),
        Value::Moment(time) => {
            buffer.push(b'"');
            let written = moment(time, buffer);
            buffer.push(b'"');
            written
        }
        Value::Time(time) => {
            let micros = time.as_micros();
            write!(buffer, "{}.{:03}", micros / 1000, micros % 1000)
        }
    };
    if written.is_err() {
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
        // Almost every value is plain ASCII.
        if rest.bytes().all(|byte| byte < 0x7f) {
            return writer.write_all(rest.as_bytes());
        }
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
