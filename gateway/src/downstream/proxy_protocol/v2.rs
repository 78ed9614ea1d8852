//! Version 2: binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::{About, Extra, Header, Malformed, crc32c, v1::six};

/// How it begins.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, protocol and length.
pub(super) const HEAD: usize = 16;

/// How much may be behind that.
pub(super) const MOST_BEHIND: usize = 4096;

/// In the upper half of the byte of the command.
const VERSION: u8 = 0x20;
const LOCAL: u8 = VERSION;
const PROXY: u8 = VERSION | 1;

/// What is passed on, in the lower half of the byte of the protocol; the family is in the upper one.
pub(super) const STREAM: u8 = 0x01;
pub(super) const DATAGRAM: u8 = 0x02;

const INET: u8 = 0x10;
const INET6: u8 = 0x20;
const UNIX: u8 = 0x30;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = INET | STREAM;
const UDP4: u8 = INET | DATAGRAM;
const TCP6: u8 = INET6 | STREAM;
const UDP6: u8 = INET6 | DATAGRAM;
const UNIX_STREAM: u8 = UNIX | STREAM;
const UNIX_DATAGRAM: u8 = UNIX | DATAGRAM;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;

/// The length of the header that `bytes` begin, as it says itself.
pub(super) fn length(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<HEAD>() {
        Some([.., high, low]) => HEAD.saturating_add(u16::from_be_bytes([*high, *low]).into()),
        None => HEAD,
    }
}

/// Reads a header; none when its end is missing.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let [.., command, protocol, _, _] = *head;
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed::Kind);
    }
    let length = length(bytes);
    if length > HEAD + MOST_BEHIND {
        return Err(Malformed::TooLong);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let unsaid = |about| Header {
        about,
        extras: Bytes::new(),
    };
    // Of these the rest counts for nothing, whatever it looks like.
    let header = match (command, protocol) {
        (LOCAL, _) => unsaid(About::Proxy),
        (_, UNSPECIFIED) => unsaid(About::Unnamed),
        _ => {
            let mut behind = whole.get(HEAD..).unwrap_or_default();
            Header {
                about: about(protocol, &mut behind)?,
                extras: extras(whole, behind)?,
            }
        }
    };
    Ok(Some((header, length)))
}

fn about(protocol: u8, behind: &mut &[u8]) -> Result<About, Malformed> {
    let (source, destination) = match protocol {
        TCP4 | UDP4 => {
            let mut address = || take::<4>(behind).map(|it| IpAddr::V4(Ipv4Addr::from(it)));
            (address()?, address()?)
        }
        TCP6 | UDP6 => {
            let mut address = || take::<16>(behind).map(|it| IpAddr::V6(Ipv6Addr::from(it)));
            (address()?, address()?)
        }
        UNIX_STREAM | UNIX_DATAGRAM => return Ok(About::Unix(Box::new(take(behind)?))),
        _ => return Err(Malformed::Kind),
    };
    let mut port = || take(behind).map(u16::from_be_bytes);
    Ok(About::Client {
        source: SocketAddr::new(source, port()?),
        destination: SocketAddr::new(destination, port()?),
    })
}

fn take<const N: usize>(behind: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = behind.split_first_chunk().ok_or(Malformed::Address)?;
    *behind = rest;
    Ok(*taken)
}

/// One type, length and value.
struct Entry<'a> {
    kind: u8,
    value: &'a [u8],
    /// As it stands in the header.
    all: &'a [u8],
}

/// The entry at the front of `bytes`, and what is behind it.
fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(length)?;
    let all = bytes.get(..length.checked_add(3)?)?;
    let kind = *kind;
    Some((Entry { kind, value, all }, rest))
}

/// Everything behind the addresses that is about the connection.
fn extras(whole: &[u8], mut left: &[u8]) -> Result<Bytes, Malformed> {
    let mut kept = Vec::new();
    let mut checked = false;
    while !left.is_empty() {
        let (Entry { kind, value, all }, rest) = entry(left).ok_or(Malformed::Extra)?;
        left = rest;
        match kind {
            CRC32C if checked => return Err(Malformed::Extra),
            CRC32C => {
                let sum = value.try_into().map_err(|_| Malformed::Extra)?;
                let from = whole.len().saturating_sub(rest.len()).saturating_sub(4);
                let before = whole.get(..from).unwrap_or_default();
                // The field itself counts as zeros.
                let counted = [before, &[0; 4], rest];
                if crc32c::sum(counted) != u32::from_be_bytes(sum) {
                    return Err(Malformed::Checksum);
                }
                checked = true;
            }
            NOOP => {}
            _ => kept.extend_from_slice(all),
        }
    }
    Ok(kept.into())
}

/// What there is besides `unwanted`.
pub(super) fn without(mut extras: &[u8], unwanted: Extra) -> Vec<u8> {
    let mut kept = Vec::with_capacity(extras.len());
    while let Some((found, rest)) = entry(extras) {
        if found.kind != code(unwanted) {
            kept.extend_from_slice(found.all);
        }
        extras = rest;
    }
    kept
}

/// Puts `value` behind the others, unless it is longer than anybody could say.
pub(super) fn append(extras: &mut Vec<u8>, kind: Extra, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        extras.push(code(kind));
        extras.extend_from_slice(&length.to_be_bytes());
        extras.extend_from_slice(value);
    }
}

const fn code(kind: Extra) -> u8 {
    match kind {
        Extra::Alpn => ALPN,
        Extra::Authority => AUTHORITY,
    }
}

/// `kind` is what the header stands in front of.
pub(super) fn write(header: &Header, kind: u8) -> Bytes {
    let mut behind = Vec::with_capacity(64);
    let (command, protocol) = match &header.about {
        About::Proxy => (LOCAL, UNSPECIFIED),
        About::Unnamed => (PROXY, UNSPECIFIED),
        About::Client {
            source,
            destination,
        } => {
            let family = write_client(&mut behind, *source, *destination);
            (PROXY, family | kind)
        }
        About::Unix(addresses) => {
            behind.extend_from_slice(addresses.as_slice());
            (PROXY, UNIX | kind)
        }
    };
    // Where there are no addresses, readers take whatever comes for them.
    if protocol != UNSPECIFIED {
        behind.extend_from_slice(&header.extras);
    }
    let Ok(length) = u16::try_from(behind.len()) else {
        // More than the format has room for: the addresses matter most.
        let short = Header {
            about: header.about.clone(),
            extras: Bytes::new(),
        };
        return write(&short, kind);
    };
    let mut bytes = Vec::with_capacity(HEAD.saturating_add(behind.len()));
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&[command, protocol]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&behind);
    bytes.into()
}

/// Gives the family.
fn write_client(behind: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) -> u8 {
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            behind.extend_from_slice(&source.octets());
            behind.extend_from_slice(&destination.octets());
            INET
        }
        (source, destination) => {
            behind.extend_from_slice(&six(source).octets());
            behind.extend_from_slice(&six(destination).octets());
            INET6
        }
    };
    behind.extend_from_slice(&source.port().to_be_bytes());
    behind.extend_from_slice(&destination.port().to_be_bytes());
    family
}
