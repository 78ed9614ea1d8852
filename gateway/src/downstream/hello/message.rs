//! The body of a `ClientHello`. What is not looked for is passed over: of a message that carries an
//! encrypted one (RFC 9849), what stands outside is what counts, and that there is one is told.

use std::net::IpAddr;

use super::number;
use crate::downstream::Hello;

const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;
const APPLICATION_PROTOCOLS: usize = 16;
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;

/// The longest name of a host.
const NAME: usize = 253;

/// None where the message breaks its own lengths, or says something twice.
pub(super) fn read(body: &[u8]) -> Option<Hello> {
    let mut rest = Rest(body);
    // Its version and its random number, then a session, cipher suites and compressions.
    rest.take(2 + 32)?;
    rest.vector(1)?;
    rest.vector(2)?;
    rest.vector(1)?;
    let (mut name, mut protocols, mut encrypted) = (None, None, false);
    // Before TLS 1.3 a message may end here.
    if !rest.is_over() {
        let mut extensions = rest.only_vector(2)?;
        while !extensions.is_over() {
            let kind = number(extensions.take(2)?);
            let value = extensions.vector(2)?;
            let before = match kind {
                SERVER_NAME => name.replace(value).is_some(),
                APPLICATION_PROTOCOLS => protocols.replace(value).is_some(),
                ENCRYPTED_CLIENT_HELLO => std::mem::replace(&mut encrypted, true),
                _ => false,
            };
            if before {
                return None;
            }
        }
    }
    let name = match name {
        Some(value) => Some(self::name(value)?),
        None => None,
    };
    // Whoever sends an address names nobody.
    let name = name.filter(|name| !is_address(name));
    let sni = name.map(|name| name.to_ascii_lowercase().into());
    let protocols = match protocols {
        Some(value) => self::protocols(value)?,
        None => &[],
    };
    Some(Hello {
        encrypted,
        ..Hello::new(sni, protocols)
    })
}

/// The host of `server_name` (RFC 6066 §3), without the dot at its end.
fn name(value: Rest<'_>) -> Option<&str> {
    let mut names = value.only_vector(2)?;
    if names.is_over() || number(names.take(1)?) != HOST_NAME {
        return None;
    }
    let name = names.only_vector(2)?;
    let name = std::str::from_utf8(name.0).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(fine);
    let is_host = name.len() <= NAME && name.split('.').all(is_label);
    (is_host || is_address(name)).then_some(name)
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

/// The list of ALPN (RFC 7301 §3.1) as it was sent, in which no name is empty.
fn protocols(value: Rest<'_>) -> Option<&[u8]> {
    let list = value.only_vector(2)?;
    let mut names = Rest(list.0);
    while !names.is_over() {
        if names.vector(1)?.is_over() {
            return None;
        }
    }
    (!list.is_over()).then_some(list.0)
}

/// What was not read yet.
#[derive(Clone, Copy)]
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn is_over(self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// As many bytes as the number before them says, which has this many bytes.
    fn vector(&mut self, width: usize) -> Option<Self> {
        let length = number(self.take(width)?);
        self.take(length).map(Self)
    }

    /// The same, and there is nothing behind them.
    fn only_vector(mut self, width: usize) -> Option<Self> {
        let vector = self.vector(width)?;
        self.is_over().then_some(vector)
    }
}
