//! What one line says, and how it is written.

use std::{
    borrow::Cow,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// What one line says. Absent facts are `null`, so that every line has the same keys.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// When the request's head had arrived: RFC 3339, UTC, milliseconds.
    #[serde(serialize_with = "timestamp")]
    pub time: OffsetDateTime,
    /// The listener it came in by.
    pub listener: &'a str,
    /// The client's address, as trusted proxies tell it.
    pub client: IpAddr,
    /// The connected peer.
    pub peer: SocketAddr,
    /// The id of its connection, unique in this process.
    pub connection: u64,
    /// `http` or `https`, as the client sees it.
    pub scheme: Option<&'a str>,
    /// The method; none when the head could not be read.
    pub method: Option<&'a str>,
    /// The host without its port, normalised.
    pub host: Option<&'a str>,
    /// The path, normalised, before rewriting. The query is never logged: it carries secrets.
    pub path: Option<&'a str>,
    /// `HTTP/1.0` or `HTTP/1.1`
    pub protocol: Option<&'static str>,
    /// What the client was told; 499 when it left before that.
    pub status: u16,
    /// Why the gateway answered or broke off; null when the upstream's answer went out whole.
    pub verdict: Option<&'static str>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the end of the request's head to the end of the response's body.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// The route.
    pub route: Option<&'a str>,
    /// The rule of it.
    pub rule: Option<&'a str>,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether the last attempt took a connection that had served before.
    pub reused: bool,
    /// `X-Request-Id`
    pub request_id: Option<&'a str>,
    /// `User-Agent`, with what is no UTF-8 replaced.
    pub user_agent: Option<Cow<'a, str>>,
    /// The version of the configuration it was served under.
    pub version: Option<&'a str>,
}

impl Line<'_> {
    /// Appends the line and its end.
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Escaping);
        if self.serialize(&mut serializer).is_err() {
            // A Vec takes every write and no key is foreign, so this does not happen; half a line
            // must not stay if it ever does.
            buffer.truncate(start);
            buffer.extend_from_slice(b"{}");
        }
        buffer.push(b'\n');
    }
}

/// Compact JSON that escapes, besides what JSON demands, the characters that move a terminal's cursor
/// or turn its text around: DEL, C1 controls, line separators and directional overrides.
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

fn timestamp<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    // `time`'s own RFC 3339 form has as many decimals as it needs; ours has three, so that lines sort.
    let mut text = [0_u8; 24];
    let written = write!(
        text.as_mut_slice(),
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    let text = written
        .ok()
        .and_then(|()| std::str::from_utf8(&text).ok())
        .unwrap_or_default();
    serializer.serialize_str(text)
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(micros) / 1000.0)
}
