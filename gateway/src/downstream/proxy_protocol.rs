//! The header by which a proxy in front says whose connection it passes on: the PROXY protocol, versions 1
//! and 2 (`doc/proxy-protocol.txt` of its inventors). Pure.
//!
//! What must stay true: what is read of a header depends on its bytes alone and not on the pieces they came
//! in; nothing behind a header is looked at; what is kept of one is bounded by [`MOST`].

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::SocketAddr;

use bytes::Bytes;

/// The longest header that is read: the fixed part of version 2 and 4 KiB behind it. The specification hopes
/// for 536 bytes together, but what is said of a client's certificate may need more.
pub const MOST: usize = v2::HEAD + v2::MOST_BEHIND;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is.
    pub about: About,
    /// What version 2 says besides: type, length and value of each, as they came. The checksum and the padding
    /// are about the header itself and not among them.
    pub extras: Bytes,
}

/// Whose connection a header is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// That of the proxy itself, such as a health check (`LOCAL`).
    Proxy,
    /// That of somebody whom the proxy cannot name (`UNKNOWN`, `AF_UNSPEC`).
    Unnamed,
    /// That of a client on the network.
    Client {
        /// Its address.
        source: SocketAddr,
        /// The address that it connected to.
        destination: SocketAddr,
    },
    /// That of a client on a unix socket of the proxy's machine: both addresses, 108 bytes each.
    Unix(Box<[u8; 216]>),
}

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text. Has no room for extras.
    V1,
    /// Binary.
    V2,
    /// The same in front of the first datagram of a session.
    V2Datagram,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Too few to tell.
    Unfinished,
    /// The beginning of something else.
    Other,
    /// A header, and how many bytes of them it is.
    Header(Header, usize),
}

/// Why something that begins like a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No end of the line within 107 bytes, or more than [`MOST`] announced.
    #[error("the header is too long")]
    TooLong,
    /// The line ends with one of CR and LF only.
    #[error("the line does not end with CR and LF")]
    LineEnd,
    /// Neither TCP4, TCP6 nor UNKNOWN; or a version, command or family that does not exist.
    #[error("the version, command or protocol is unknown")]
    Kind,
    /// An address or port that cannot be, or too few bytes for one.
    #[error("an address is malformed")]
    Address,
    /// A type, length and value that end behind the header, or a checksum twice.
    #[error("an addition is malformed")]
    Extra,
    /// The checksum is that of another header.
    #[error("the checksum is wrong")]
    Checksum,
}

/// What the bytes that have come so far are. More bytes change nothing but [`Start::Unfinished`].
pub fn read(bytes: &[u8]) -> Result<Start, Malformed> {
    let signatures: [(&[u8], Reader); 2] = [(v1::SIGNATURE, v1::read), (v2::SIGNATURE, v2::read)];
    for (signature, reader) in signatures {
        if bytes.starts_with(signature) {
            let whole = reader(bytes)?;
            return Ok(whole.map_or(Start::Unfinished, |(header, length)| {
                Start::Header(header, length)
            }));
        }
        if signature.starts_with(bytes) {
            return Ok(Start::Unfinished);
        }
    }
    Ok(Start::Other)
}

/// Reads what begins with its signature; none when the end is missing.
type Reader = fn(&[u8]) -> Result<Option<(Header, usize)>, Malformed>;

/// How many more bytes may be read of a connection without touching what is behind its header, where that
/// can be told; where it cannot, as many as the longest line could still have.
pub fn missing(bytes: &[u8]) -> usize {
    let whole = if bytes.len() < v2::HEAD {
        // One more than the shortest line, for the length of version 2.
        v2::HEAD
    } else if bytes.starts_with(v2::SIGNATURE) {
        v2::length(bytes)
    } else {
        v1::MOST
    };
    whole.saturating_sub(bytes.len())
}

impl Header {
    /// As it stands at the beginning of a connection or session.
    pub fn write(&self, version: Version) -> Bytes {
        match version {
            Version::V1 => v1::write(&self.about),
            Version::V2 => v2::write(self, v2::STREAM),
            Version::V2Datagram => v2::write(self, v2::DATAGRAM),
        }
    }

    /// Puts one more thing behind the others, in place of what there was of its kind.
    pub fn set_extra(&mut self, kind: Extra, value: &[u8]) {
        let mut extras = v2::without(&self.extras, kind);
        v2::append(&mut extras, kind, value);
        self.extras = extras.into();
    }
}

/// What version 2 can say besides, as far as we say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// The protocol that was agreed on inside TLS.
    Alpn,
    /// The host that the client asked for.
    Authority,
}
