//! Names of hosts as certificates and clients write them.

use std::{borrow::Cow, net::IpAddr};

/// A host as everything here compares it: lower case, without the dot at its end.
pub(crate) fn normal(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// Whether a name in a certificate can be the name of a host. What else stands there (an embedded NUL,
/// spaces, an empty label) covers nothing.
pub(crate) fn is_host(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let fine = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && rest.split('.').all(fine)
}

/// Whether a name of a certificate covers `host`, both normal. Its wildcard stands for exactly one
/// label (RFC 9525 §6.3).
pub(crate) fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        None => name == host,
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
    }
}

/// An address, also as it stands in a URL.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_of_a_certificate_stands_for_one_label() {
        for (name, host, expected) in [
            ("a.example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("example.com", "a.example.com", false),
        ] {
            assert_eq!(covers(name, host), expected, "{name} and {host}");
        }
    }

    #[test]
    fn what_is_no_host_covers_nothing() {
        for (name, expected) in [
            ("a.example.com", true),
            ("*.example.com", true),
            ("xn--bcher-kva.example", true),
            ("bank.example\0.evil.example", false),
            ("*", false),
            ("a..example", false),
            ("a b.example", false),
            ("w*.example.com", false),
        ] {
            assert_eq!(is_host(name), expected, "{name:?}");
        }
    }

    #[test]
    fn case_and_the_last_dot_do_not_matter() {
        assert_eq!(normal("WWW.Example.COM."), "www.example.com");
        assert_eq!(normal("www.example.com"), "www.example.com");
    }
}
