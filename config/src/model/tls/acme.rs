//! `[acme.NAME]`: issuers of certificates.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    model::{HeaderName, HostPattern, SecretText, canonical},
    names::IssuerName,
    unit,
};
use std::net::SocketAddr;

/// An issuer that speaks ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acme {
    /// Its name, never that of the development CA.
    #[serde(skip)]
    pub name: IssuerName,
    /// The URL of its directory, with the scheme https.
    pub directory: String,
    /// URIs of whom it writes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// How it is proven that a host is ours.
    pub challenge: AcmeChallenge,
    /// Files with the CAs that the directory is held against; empty: those of the system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<PathBuf>,
    /// The account that the new one is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccount>,
    /// A profile that the directory offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The kind of key that certificates have.
    pub key: AcmeKey,
    /// Whom to order from when this one fails, in order; never itself, never the development CA.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<IssuerName>,
    /// How records are set; there exactly with [`AcmeChallenge::Dns01`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<AcmeDns>,
    /// Which names that nobody has written may be ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<OnDemand>,
}

impl Acme {
    /// Whether a certificate for `host` can be had from it in advance. Only records prove a wildcard
    /// (RFC 8555 §7.1.3), and nothing but them cannot prove an address (RFC 8738 §4).
    pub fn can_order(&self, host: &HostPattern) -> bool {
        match (host, self.challenge) {
            (HostPattern::Exact(name), AcmeChallenge::Dns01) => !is_address(name),
            (HostPattern::Exact(_), _) | (HostPattern::Wildcard(_), AcmeChallenge::Dns01) => true,
            (HostPattern::Wildcard(_) | HostPattern::Any, _) => false,
        }
    }

    /// Takes its secrets away.
    pub(crate) fn redact(&mut self) {
        if let Some(account) = &mut self.external_account {
            account.key.redact();
        }
        match &mut self.dns {
            Some(AcmeDns::Rfc2136(update)) => update.key.redact(),
            Some(AcmeDns::Webhook(hook)) => {
                for (_, secret) in &mut hook.headers {
                    secret.redact();
                }
            }
            Some(AcmeDns::Exec(_)) | None => {}
        }
    }
}

/// Whether an exact host is a literal address.
pub(crate) fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// How it is proven that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum AcmeChallenge {
    /// The issuer comes to port 443 and speaks TLS: needs no second port.
    #[default]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum AcmeKey {
    /// What every client takes, at the least cost.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

/// An account at the issuer outside of ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalAccount {
    /// The id of its key.
    pub key_id: String,
    /// The key in base64url.
    pub key: SecretText,
}

/// How records are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AcmeDns {
    /// By updates of the zone.
    Rfc2136(Rfc2136),
    /// By a program.
    Exec(DnsExec),
    /// By requests to a service.
    Webhook(DnsWebhook),
}

/// Updates at a name server (RFC 2136), signed with a shared key (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rfc2136 {
    /// The name server.
    pub server: SocketAddr,
    /// The zone, in lower case, without a trailing dot.
    pub zone: String,
    /// The name of the key.
    pub key_name: String,
    /// The key in base64.
    pub key: SecretText,
    /// How updates are signed.
    pub algorithm: TsigAlgorithm,
}

/// How updates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum TsigAlgorithm {
    /// What name servers make keys for unless told otherwise.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// A program that sets records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsExec {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// How long it may take.
    #[serde(serialize_with = "canonical::time")]
    pub timeout: Duration,
}

impl DnsExec {
    /// Long enough for interfaces that wait until all name servers know.
    pub const TIMEOUT: Duration = Duration::from_mins(1);
}

/// A service that sets records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsWebhook {
    /// Its URL, with the scheme http or https.
    pub url: String,
    /// Headers of each request.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub headers: Vec<(HeaderName, SecretText)>,
}

/// Which names that nobody has written may be ordered. `allow` is not empty, or there is `ask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnDemand {
    /// Hosts, never `*`; empty: any that `ask` admits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<HostPattern>,
    /// A URL that is asked first, with the scheme http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// How many orders at most.
    pub rate: Rate,
}

impl OnDemand {
    /// What Let's Encrypt allows for new names of one domain in a week is 50: a day's worth for who is found
    /// by a scanner.
    pub const RATE: Rate = Rate {
        count: 10,
        per: Duration::from_hours(1),
    };

    /// Whether every host below a wildcard may be ordered, as far as is known here.
    pub fn admits_below(&self, suffix: &str) -> bool {
        let below = |allowed: &HostPattern| match allowed {
            HostPattern::Wildcard(wide) => suffix.ends_with(wide.as_str()),
            HostPattern::Exact(_) | HostPattern::Any => false,
        };
        (self.allow.is_empty() && self.ask.is_some()) || self.allow.iter().any(below)
    }

    /// Whether a name may be ordered as far as `allow` says.
    pub fn allows(&self, name: &str) -> bool {
        let admits = |allowed: &HostPattern| match allowed {
            HostPattern::Exact(host) => host == name,
            HostPattern::Wildcard(suffix) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| !labels.is_empty()),
            HostPattern::Any => false,
        };
        self.allow.is_empty() || self.allow.iter().any(admits)
    }
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// A second, a minute, an hour or a day.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&unit::rate_text(self.count, self.per))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
