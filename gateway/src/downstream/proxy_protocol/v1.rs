//! Version 1: a line of text.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::Bytes;

use super::{About, Header, Malformed};

/// How it begins.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, with its end.
pub(super) const MOST: usize = 107;

/// Reads a line; none when its end is missing.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    // The two bytes at the end count, too.
    let within = bytes.get(..MOST - 1).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if within.len() < MOST - 1 {
            Ok(None)
        } else {
            Err(Malformed::TooLong)
        };
    };
    let (line, rest) = bytes.split_at(end);
    match rest {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => return Ok(None),
        _ => return Err(Malformed::LineEnd),
    }
    let header = Header {
        about: about(line)?,
        extras: Bytes::new(),
    };
    Ok(Some((header, end.saturating_add(2))))
}

fn about(line: &[u8]) -> Result<About, Malformed> {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let parse: fn(&str) -> Option<IpAddr> = match words.next() {
        // The rest is for nobody to look at.
        Some(b"UNKNOWN") => return Ok(About::Unnamed),
        Some(b"TCP4") => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(b"TCP6") => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(Malformed::Kind),
    };
    let mut next = || {
        let word = words.next().ok_or(Malformed::Address)?;
        str::from_utf8(word).map_err(|_| Malformed::Address)
    };
    let mut address = || parse(next()?).ok_or(Malformed::Address);
    let (source, destination) = (address()?, address()?);
    let mut port = || port(next()?).ok_or(Malformed::Address);
    let about = About::Client {
        source: SocketAddr::new(source, port()?),
        destination: SocketAddr::new(destination, port()?),
    };
    match words.next() {
        Some(_) => Err(Malformed::Address),
        None => Ok(about),
    }
}

/// Digits, and no zero in front: readers disagree about what that means.
fn port(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let plain = word == "0" || !word.starts_with('0');
    word.parse().ok().filter(|_| digits && plain)
}

pub(super) fn write(about: &About) -> Bytes {
    let About::Client {
        source,
        destination,
    } = about
    else {
        return Bytes::from_static(b"PROXY UNKNOWN\r\n");
    };
    let mut line = String::with_capacity(MOST);
    let (from, to) = (source.port(), destination.port());
    // Writing to a text cannot fail.
    let _written = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            write!(line, "PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        (source, destination) => {
            let (source, destination) = (six(source), six(destination));
            write!(line, "PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    line.into()
}

/// An address of either family as one of version 6.
pub(super) fn six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
