//! TLS towards the endpoints of an upstream.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{KeyPair, TlsVersion};
use crate::raw::OneOrMany;

/// How TLS is spoken with endpoints. What is not written here has its default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct UpstreamTls {
    /// The name that is asked for (SNI) and that the certificate must be for.
    /// Default the name or address of the endpoint.
    pub sni: Option<String>,
    /// Files in PEM with the CAs that are believed. Default those of the system.
    pub ca: Option<OneOrMany<String>>,
    /// The certificate that we show where an endpoint asks for one. Default none.
    pub certificate: Option<KeyPair>,
    /// Names one of which the certificate must have, instead of `sni`: a host, a wildcard for one or more
    /// labels, a URI (`spiffe://shop/web`), or a URI with `*` as its last segment. Default `sni`.
    pub san: Option<OneOrMany<String>>,
    /// The oldest version that is spoken. Default `1.2`.
    pub min_version: Option<TlsVersion>,
    /// `true` takes every certificate, whoever made it: anybody on the way can read and change what
    /// passes. Default `false`.
    pub insecure: Option<bool>,
}
