//! HTTP/2 as bytes: frames and header blocks, right or wrong as the test wants them.

/// What every client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub mod kind {
    #![expect(missing_docs, reason = "the names of RFC 9113 §6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    #![expect(missing_docs, reason = "the names of RFC 9113 §6")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes.
pub mod code {
    #![expect(missing_docs, reason = "the names of RFC 9113 §7")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const INTERNAL: u32 = 2;
    pub const FLOW_CONTROL: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION: u32 = 9;
    pub const CONNECT: u32 = 10;
    pub const CALM: u32 = 11;
}

/// Settings.
pub mod setting {
    #![expect(missing_docs, reason = "the names of RFC 9113 §6.5.2 and RFC 8441")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

use flag::{ACK, END_HEADERS, END_STREAM};

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame");
    frame_claiming(length, kind, flags, stream, payload)
}

/// A frame that says it is `length` bytes long, whatever follows.
pub fn frame_claiming(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A whole request head without a body: `HEADERS` with `END_STREAM` and `END_HEADERS`.
pub fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// A whole request head with a body to follow.
pub fn head(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, stream, block)
}

/// A piece of a body.
pub fn data(stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(kind::DATA, 0, stream, payload.as_ref())
}

/// The last piece of a body.
pub fn last_data(stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(kind::DATA, END_STREAM, stream, payload.as_ref())
}

/// More of a header block, with the flags given.
pub fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::CONTINUATION, flags, stream, block)
}

/// The end of a stream by force.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// Settings, by number.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in values {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// That the other side's settings are in force.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, ACK, 0, b"")
}

/// A ping.
pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, &payload)
}

/// More window for a stream, or for the connection at 0.
pub fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// What a stream depends on.
pub fn priority(stream: u32, on: u32) -> Vec<u8> {
    let mut payload = on.to_be_bytes().to_vec();
    payload.push(15);
    frame(kind::PRIORITY, 0, stream, &payload)
}

/// The head of a GET of `http://a.example{path}`, by the static table.
pub fn get(path: &str) -> Vec<u8> {
    start(0x82, path)
}

/// The head of a POST to `http://a.example{path}`.
pub fn post(path: &str) -> Vec<u8> {
    start(0x83, path)
}

fn start(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x86, 0x01];
    block.extend(string(b"a.example"));
    block.push(0x04);
    block.extend(string(path.as_bytes()));
    block
}

/// A header block of fields as they are, never indexed in any table.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let one = |(name, value): &(N, V)| field(name.as_ref(), value.as_ref());
    fields.iter().flat_map(one).collect()
}

/// One field as it is, not indexed.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0x00], string(name), string(value)].concat()
}

/// One field as it is, put into the dynamic table.
pub fn indexed_field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// The field at `index`: up to 61 the static table, from 62 the dynamic one, the newest first.
pub fn index(index: usize) -> Vec<u8> {
    integer(7, 0x80, index)
}

/// A change of the size of the dynamic table.
pub fn table_size(size: usize) -> Vec<u8> {
    integer(5, 0x20, size)
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = integer(7, 0, bytes.len());
    out.extend_from_slice(bytes);
    out
}

/// An integer with a prefix of so many bits below the bits of `first` (RFC 7541 §5.1).
fn integer(bits: u8, first: u8, value: usize) -> Vec<u8> {
    let most = (1_usize << bits) - 1;
    let byte = |value: usize| u8::try_from(value).expect("a byte");
    if value < most {
        return vec![first | byte(value)];
    }
    let mut out = vec![first | byte(most)];
    let mut rest = value - most;
    while rest >= 128 {
        out.push(byte(rest % 128) | 0x80);
        rest /= 128;
    }
    out.push(byte(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_frames_are_those_of_the_standards() {
        assert_eq!(integer(5, 0, 10), [10]);
        assert_eq!(integer(5, 0, 1337), [31, 154, 10]);
        assert_eq!(index(62), [0xbe]);
        assert_eq!(ping(*b"12345678")[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
        assert_eq!(
            settings(&[(setting::INITIAL_WINDOW_SIZE, 7)]),
            [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 7]
        );
    }
}
