//! `[certificates.NAME]`: certificates by name.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::{
    model::HostPattern,
    names::{CertificateName, IssuerName},
};

/// A certificate by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Its name.
    #[serde(skip)]
    pub name: CertificateName,
    /// The hosts it is served for, never `*`. Empty: from files, and the names in them; or refused, and
    /// they could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// Where it comes from.
    #[serde(flatten)]
    pub source: CertificateSource,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Pairs of files with keys of different kinds, the preferred first; never empty.
    Files(Vec<KeyPairFiles>),
    /// Ordered from an issuer, one certificate for all its hosts.
    Auto(IssuerName),
    /// It was refused by `check` and contained: nothing is served for its hosts.
    Refused,
}

/// The key of a certificate that says it.
impl Serialize for CertificateSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Files(pairs) => serializer.collect_map([("files", pairs)]),
            Self::Auto(issuer) => serializer.collect_map([("auto", issuer)]),
            Self::Refused => serializer.collect_map([("refused", true)]),
        }
    }
}

/// A certificate and its key, both in PEM, read by the load step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KeyPairFiles {
    /// The certificate and those that sign it.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}
