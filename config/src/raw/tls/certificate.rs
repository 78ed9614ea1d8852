//! `[certificates.NAME]`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::OneOrMany;

/// A certificate by name: from files, or one that looks after itself. Exactly one of `files`, `auto`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Certificate {
    /// The hosts it is served for: `shop.example.com`, `*.example.com`, or an address. The certificate
    /// must cover each of them. With `auto` they are what is ordered, and required.
    /// Default the names in the certificate.
    pub hosts: Option<OneOrMany<String>>,
    /// Its files, or a list of such pairs, which are one certificate with keys of several kinds (ECDSA
    /// and RSA): each client gets the first it can verify.
    pub files: Option<OneOrMany<KeyPair>>,
    /// The issuer it is ordered from: the name of an `[acme.NAME]`, or `local`, the development CA of
    /// this machine.
    pub auto: Option<String>,
    /// `true` serves nothing for its hosts. The canonical form says so of a certificate that was
    /// refused and contained. Default `false`.
    pub refused: Option<bool>,
}

/// A certificate and its key, as files in PEM. They are read again when they change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct KeyPair {
    /// The certificate, followed by those that sign it. Required.
    pub chain: Option<String>,
    /// Its private key, not encrypted: ECDSA, RSA or Ed25519. Required.
    pub key: Option<String>,
}
