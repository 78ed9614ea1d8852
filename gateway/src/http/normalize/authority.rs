//! One authority: a host and perhaps a port, as `Host` or an absolute target carries it.

use std::{fmt, net::Ipv6Addr};

use crate::error::{Malformed, ProxyError};

/// The longest host name DNS can carry, without a trailing dot.
const MAX_HOST: usize = 253;

/// A checked authority. Never with user information; never in another than the canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Lower case, without trailing dot; an IPv6 address compressed and in brackets.
    pub host: Box<str>,
    /// As written; an empty one counts as none.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host[:port]`. Names are ASCII: IDNA has been applied by the client or not at all.
    pub fn parse(text: &[u8]) -> Result<Self, ProxyError> {
        read(text).ok_or(ProxyError::BadRequest(Malformed::BadHost))
    }

    /// Whether both name the same place when an absent port stands for `default_port`.
    pub fn same(&self, other: &Self, default_port: u16) -> bool {
        self.host == other.host
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn read(text: &[u8]) -> Option<Authority> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match port {
            "" => None,
            port => read_port(port.strip_prefix(':')?).ok()?,
        };
        return Some(Authority {
            host: format!("[{address}]").into(),
            port,
        });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, read_port(port).ok()?),
        None => (text, None),
    };
    Some(Authority {
        host: name(host)?,
        port,
    })
}

/// RFC 3986 §3.2.3 lets a port be empty; nobody can connect to port 0.
fn read_port(text: &str) -> Result<Option<u16>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(()),
        Ok(port) => Ok(Some(port)),
    }
}

/// Letters, digits, `-`, `_` in labels that are not empty. What else RFC 3986 admits (escapes,
/// sub-delimiters) names no host that DNS knows, and parsers disagree about it.
fn name(text: &str) -> Option<Box<str>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let good = text.len() <= MAX_HOST && text.split('.').all(label);
    good.then(|| text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_into_one_form() {
        for (text, host, port) in [
            ("a", "a", None),
            ("Shop.Example.COM", "shop.example.com", None),
            ("shop.example.com.", "shop.example.com", None),
            ("a:80", "a", Some(80)),
            ("a:00080", "a", Some(80)),
            ("a:", "a", None),
            ("a_b-c.d:65535", "a_b-c.d", Some(65535)),
            ("10.0.0.1:8080", "10.0.0.1", Some(8080)),
            ("[::1]", "[::1]", None),
            ("[0:0:0:0:0:0:0:1]:8080", "[::1]", Some(8080)),
            ("[2001:DB8::A]", "[2001:db8::a]", None),
        ] {
            let authority = Authority::parse(text.as_bytes()).expect(text);
            assert_eq!((&*authority.host, authority.port), (host, port), "{text}");
            let again = Authority::parse(authority.to_string().as_bytes()).expect(text);
            assert_eq!(again, authority, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_host() {
        let long = format!("{}.a", "a".repeat(260));
        for text in [
            "",
            ".",
            "a..",
            "a..b",
            ".a",
            ":80",
            "a:0",
            "a:65536",
            "a:99999",
            "a:123456",
            "a:+80",
            "a:8 0",
            "a b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "u@a",
            "u:p@a",
            "a,b",
            "a%41",
            "é.example",
            "a:80:80",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[a]",
            "a\tb",
            "\u{0}",
            &long,
        ] {
            assert!(Authority::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Authority::parse(b"a\xff").is_err());
    }
}
