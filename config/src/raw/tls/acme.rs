//! `[acme.NAME]`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::{DurationText, OneOrMany, Table};

/// An issuer of certificates that speaks ACME (RFC 8555). `auto = "NAME"` on a listener or certificate
/// orders from it, and renews in time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Acme {
    /// The URL of its directory: `https://acme-v02.api.letsencrypt.org/directory`. Required.
    pub directory: Option<String>,
    /// Whom it writes to when something is wrong: `mailto:ops@example.com`. Default nobody.
    pub contact: Option<OneOrMany<String>>,
    /// How it is proven that a host is ours: `tls-alpn-01` on port 443, `http-01` on port 80, or `dns-01`
    /// by a record in its zone, which wildcards need. Default `tls-alpn-01`.
    pub challenge: Option<AcmeChallenge>,
    /// Files in PEM with the CAs that the directory's own certificate is held against.
    /// Default those of the system.
    pub ca: Option<OneOrMany<String>>,
    /// The account at the issuer that the new one is bound to, where it asks for that.
    pub external_account: Option<ExternalAccount>,
    /// A profile that the directory offers: `shortlived`. Default the issuer's own choice.
    pub profile: Option<String>,
    /// The kind of key that certificates have. Default `ecdsa-p256`.
    pub key: Option<AcmeKey>,
    /// Issuers to order from when this one fails, in order: names of other `[acme.*]`. Default none.
    pub fallback: Option<OneOrMany<String>>,
    /// How records are set. Required with `dns-01`. Exactly one of its keys.
    pub dns: Option<AcmeDns>,
    /// Orders certificates for names that nobody has written when clients first ask for them.
    /// Default never.
    pub on_demand: Option<OnDemand>,
}

/// How it is proven that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcmeChallenge {
    /// The issuer comes to port 443 and speaks TLS.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// The issuer comes to port 80 and speaks HTTP.
    #[serde(rename = "http-01")]
    Http01,
    /// The issuer looks a record up.
    #[serde(rename = "dns-01")]
    Dns01,
}

/// The kind of key that certificates have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AcmeKey {
    /// ECDSA on P-256, which every client takes.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA with 2048 bits, for very old clients; several times the work.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

/// An account at the issuer outside of ACME (RFC 8555 §7.3.4).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ExternalAccount {
    /// The id of its key, as the issuer gave it. Required.
    pub key_id: Option<String>,
    /// The key in base64url, as the issuer gave it, or `file:/PATH`. A secret. Required.
    pub key: Option<String>,
}

/// How records are set for `dns-01`. Exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AcmeDns {
    /// By an update of the zone at its name server (RFC 2136).
    pub rfc2136: Option<Rfc2136>,
    /// By a program of yours.
    pub exec: Option<DnsExec>,
    /// By a request to a service of yours.
    pub webhook: Option<DnsWebhook>,
}

/// Updates at a name server, signed with a shared key (TSIG).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Rfc2136 {
    /// The name server that takes updates: an address with an optional port. Required.
    pub server: Option<String>,
    /// The zone that is updated: `example.com`. Required.
    pub zone: Option<String>,
    /// The name of the key, as the name server knows it. Required.
    pub key_name: Option<String>,
    /// The key in base64, or `file:/PATH`. A secret. Required.
    pub key: Option<String>,
    /// How updates are signed. Default `hmac-sha256`.
    pub algorithm: Option<TsigAlgorithm>,
}

/// How updates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// A program that sets a record, and takes it away again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct DnsExec {
    /// The program and its arguments; to these are added `present` or `cleanup`, the name of the record and
    /// its value. No shell reads them. Required.
    pub command: Option<OneOrMany<String>>,
    /// How long it may take. Range `1s` to `1h`. Default `1m`.
    pub timeout: Option<DurationText>,
}

/// A service that sets a record, and takes it away again: it gets a POST with
/// `{"action": "present", "name": "…", "value": "…"}`, or `cleanup`, and answers with a status of success.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct DnsWebhook {
    /// Its URL. Required.
    pub url: Option<String>,
    /// Headers of each request, by name: secrets, each a text or `file:/PATH`. Default none.
    pub headers: Option<Table<String>>,
}

/// Certificates for names that nobody has written. At least one of `allow` and `ask`: else anybody who
/// points a name here spends what the issuer allows.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct OnDemand {
    /// The hosts that may be ordered: exact ones, and wildcards for one or more labels. Default any that
    /// `ask` admits.
    pub allow: Option<OneOrMany<String>>,
    /// A URL that is asked with `?domain=NAME` before an order; it admits the name with status 200.
    /// Default nobody is asked.
    pub ask: Option<String>,
    /// How many orders at most. Range `1/h` to `1000/s`. Default `10/h`.
    pub rate: Option<String>,
}
