//! What a certificate must have: one of several names, one of several keys.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{base64, model::HostPattern};

/// A name that a certificate must have (SAN).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SanPattern {
    /// A host, or a wildcard for one or more labels; never `*`.
    Dns(HostPattern),
    /// This URI.
    Uri(String),
    /// Every URI that begins with this text, which ends with `/`.
    UriBelow(String),
}

impl SanPattern {
    /// Whether it admits a DNS name of a certificate. Its case does not count.
    pub fn admits_dns(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self {
            Self::Dns(HostPattern::Exact(host)) => *host == name,
            Self::Dns(HostPattern::Wildcard(suffix)) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| !labels.is_empty()),
            Self::Dns(HostPattern::Any) | Self::Uri(_) | Self::UriBelow(_) => false,
        }
    }

    /// Whether it admits a URI of a certificate, byte for byte.
    pub fn admits_uri(&self, uri: &str) -> bool {
        match self {
            Self::Uri(exact) => exact == uri,
            Self::UriBelow(start) => uri.len() > start.len() && uri.starts_with(start.as_str()),
            Self::Dns(_) => false,
        }
    }
}

impl fmt::Display for SanPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(host) => host.fmt(f),
            Self::Uri(uri) => f.write_str(uri),
            Self::UriBelow(start) => write!(f, "{start}*"),
        }
    }
}

impl Serialize for SanPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpkiPin(pub [u8; 32]);

/// `sha256/` and base64, as RFC 7469 and curl write it.
impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", base64::encode(&self.0))
    }
}

impl Serialize for SpkiPin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_admits_what_it_says_and_nothing_else() {
        let wildcard = SanPattern::Dns(HostPattern::Wildcard(".example.com".to_owned()));
        for (name, admitted) in [
            ("a.example.com", true),
            ("B.A.Example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("a.example.com.evil", false),
        ] {
            assert_eq!(wildcard.admits_dns(name), admitted, "{name}");
            assert!(!wildcard.admits_uri(name));
        }
        let below = SanPattern::UriBelow("spiffe://shop/ns/".to_owned());
        for (uri, admitted) in [
            ("spiffe://shop/ns/web/sa/a", true),
            ("spiffe://shop/ns/", false),
            ("spiffe://shop/nsx/web", false),
            ("spiffe://other/ns/web", false),
        ] {
            assert_eq!(below.admits_uri(uri), admitted, "{uri}");
            assert!(!below.admits_dns(uri));
        }
        let exact = SanPattern::Uri("spiffe://shop/web".to_owned());
        assert!(exact.admits_uri("spiffe://shop/web"));
        assert!(!exact.admits_uri("spiffe://shop/web/"));
    }
}
