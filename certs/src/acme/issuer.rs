//! What callers say: whom to order from, what to keep, and what may be ordered on demand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::challenge::{ChallengeKind, Dns};
use crate::{fetch::Client, name, storage::Storage};

/// Somebody who issues certificates over ACME.
#[derive(Clone)]
pub struct Issuer {
    /// Its name in the configuration.
    pub name: String,
    /// The address of its directory.
    pub directory: String,
    /// Whom it may tell, such as `mailto:ops@example.com`.
    pub contact: Vec<String>,
    /// How control of a host is proven.
    pub challenge: ChallengeKind,
    /// How DNS records are written, for DNS-01.
    pub dns: Option<Dns>,
    /// The account there that ours belongs to.
    pub external_account: Option<ExternalAccount>,
    /// The profile to order under.
    pub profile: Option<String>,
    /// The kind of the certificates' keys.
    pub key: KeyChoice,
    /// The names of other issuers, tried in this order after failures.
    pub fallback: Vec<String>,
    /// What may be ordered when a client asks for it.
    pub on_demand: Option<OnDemand>,
    /// With what it is called; trusts whom it is to be trusted by.
    pub client: Client,
}

/// An account that an issuer gave out by other means (RFC 8555 §7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its name.
    pub key_id: String,
    /// Its key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("directory", &self.directory)
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// Kinds of keys for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyChoice {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA of 2048 bits.
    Rsa2048,
}

/// What may be ordered when a client asks for it: what the list has and who is asked admits. With neither,
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct OnDemand {
    /// Hosts and wildcards (one or more labels). Empty: any that `ask` admits.
    pub allow: Vec<String>,
    /// Asked with `?domain=HOST`, and with what; 200 means yes.
    pub ask: Option<(String, Client)>,
    /// So many orders in so much time, at most. None: no limit but the issuer's.
    pub rate: Option<(u32, Duration)>,
}

impl OnDemand {
    /// Whether `host` may be ordered, as far as the list says.
    pub fn allows(&self, host: &str) -> bool {
        if self.allow.is_empty() {
            return self.ask.is_some();
        }
        let host = name::normal(host);
        self.allow.iter().any(|allowed| {
            let allowed = name::normal(allowed);
            match allowed.strip_prefix("*.") {
                None => allowed == host,
                Some(parent) => host
                    .strip_suffix(parent)
                    .and_then(|labels| labels.strip_suffix('.'))
                    .is_some_and(|labels| !labels.is_empty()),
            }
        })
    }
}

/// A certificate to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The hosts it is for: names, wildcards and addresses. The first gives its name in a storage.
    pub hosts: Vec<String>,
    /// From whom.
    pub issuer: String,
}

/// Everything that is wanted. Replaced whole when the configuration changes.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Where it is kept. The same one as before, unless it is another.
    pub storage: Arc<dyn Storage>,
    /// By name.
    pub issuers: BTreeMap<String, Arc<Issuer>>,
    /// By the certificate's name.
    pub wanted: BTreeMap<String, Wanted>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_demand_is_for_hosts_of_the_list() {
        let on_demand = OnDemand {
            allow: vec!["shop.example".to_owned(), "*.customers.example".to_owned()],
            ..OnDemand::default()
        };
        for (host, allowed) in [
            ("shop.example", true),
            ("SHOP.example.", true),
            ("a.customers.example", true),
            ("a.b.customers.example", true),
            ("customers.example", false),
            ("xcustomers.example", false),
            (".customers.example", false),
            ("a.shop.example", false),
        ] {
            assert_eq!(on_demand.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn without_a_list_who_is_asked_decides() {
        let nobody = OnDemand::default();
        assert!(!nobody.allows("shop.example"));
        let asked = OnDemand {
            ask: Some(("http://127.0.0.1/".to_owned(), Client::plain())),
            ..OnDemand::default()
        };
        assert!(asked.allows("shop.example"));
    }
}
