//! How a listener speaks TLS, and whose certificates it or a route asks for.

use std::{path::PathBuf, sync::Arc};

use serde::{Serialize, Serializer};

use super::{SanPattern, SpkiPin};
use crate::names::{CertificateName, IssuerName};

/// What a listener that ends TLS has besides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ListenerTls {
    /// The certificates it serves.
    pub certificates: ListenerCertificates,
    /// How TLS is spoken.
    #[serde(rename = "tls")]
    pub terms: TlsTerms,
    /// Whose certificates it asks for, where a route does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

/// Which certificates a listener serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ListenerCertificates {
    /// The issuer of certificates for routed hosts that none of the named ones stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<IssuerName>,
    /// The named ones.
    #[serde(skip_serializing_if = "CertificateNames::is_all")]
    pub names: CertificateNames,
    /// For clients that ask for a name that no certificate stands for, or for none; one of `names`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<CertificateName>,
}

/// A choice of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CertificateNames {
    /// Every one of the configuration.
    #[default]
    All,
    /// These, in the order written.
    Listed(Vec<CertificateName>),
}

impl CertificateNames {
    /// Whether it is every one of the configuration.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// Whether it has the certificate of that name.
    pub fn has(&self, name: &CertificateName) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => names.contains(name),
        }
    }
}

impl Serialize for CertificateNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_none(),
            Self::Listed(names) => names.serialize(serializer),
        }
    }
}

/// How TLS is spoken on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsTerms {
    /// The oldest version.
    pub min_version: TlsVersion,
    /// What is offered inside, the best first; empty offers nothing.
    pub alpn: Vec<Alpn>,
    /// Whether sessions can be resumed.
    pub session_tickets: bool,
}

impl TlsTerms {
    /// What a listener offers that speaks HTTP.
    pub fn http() -> Self {
        Self {
            alpn: vec![Alpn::H2, Alpn::Http11],
            ..Self::default()
        }
    }
}

impl Default for TlsTerms {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::default(),
            alpn: Vec::new(),
            session_tickets: true,
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum TlsVersion {
    /// What everything of the last fifteen years speaks; older versions are broken (RFC 8996).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// The newest.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A protocol inside TLS, as ALPN names it (RFC 7301).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http11,
    /// Another one; only on listeners that pass a raw stream.
    Other(Arc<str>),
}

impl Alpn {
    /// Refuses what is empty, or longer than 255 bytes, or not plain ASCII.
    pub fn new(text: &str) -> Option<Self> {
        match text {
            "h2" => Some(Self::H2),
            "http/1.1" => Some(Self::Http11),
            text => {
                let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
                (plain && (1..=255).contains(&text.len())).then(|| Self::Other(Arc::from(text)))
            }
        }
    }

    /// The name that ALPN has for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::H2 => "h2",
            Self::Http11 => "http/1.1",
            Self::Other(name) => name,
        }
    }
}

impl Serialize for Alpn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientCertificates {
    /// Whether a client must have one.
    pub mode: ClientCertificateMode,
    /// Files with the CAs that are believed; not empty unless the mode is off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<PathBuf>,
    /// Files with lists of certificates that were taken back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<PathBuf>,
    /// Names one of which it must have; empty means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub san: Vec<SanPattern>,
    /// Keys one of which it must have; empty means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spki: Vec<SpkiPin>,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificateMode {
    /// It is not asked.
    Off,
    /// It is asked, and may have none.
    Optional,
    /// It must have one. Who writes `client_certificates` means it.
    #[default]
    Required,
}
