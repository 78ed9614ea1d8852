//! TLS towards the endpoints of an upstream.

use std::path::PathBuf;

use serde::Serialize;

use super::{KeyPairFiles, SanPattern, TlsVersion};

/// How TLS is spoken with endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct UpstreamTls {
    /// The name that is asked for and that the certificate must be for, in lower case; none: the name
    /// or address of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Files with the CAs that are believed; empty: those of the system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<PathBuf>,
    /// What we show where an endpoint asks for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<KeyPairFiles>,
    /// Names one of which the certificate must have instead; empty: that of `sni`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub san: Vec<SanPattern>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// Every certificate is taken; then `ca` and `san` are empty.
    pub insecure: bool,
}
