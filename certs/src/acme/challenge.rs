//! Proving that we control a host: publishes what the issuer's validating server will look for, and
//! withdraws it afterwards.
//!
//! HTTP-01 and TLS-ALPN-01 answers go into [`Pending`] and, where replicas share a storage, there first:
//! the validating server may come to any of them. DNS-01 answers go to a name server, a program or a
//! webhook.

mod alpn;
pub(super) mod dns;
mod hook;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schedule::Moment;
use super::{pending::Pending, words::chain};
use crate::storage::{Kind, Lock, Storage, StorageError, key};

pub use dns::{Dns, DnsError, TsigAlgorithm, Update};
pub use hook::{Exec, Webhook};

/// An answer of an orderer that died is forgotten after so many seconds. No order takes as long.
const FORGOTTEN: Moment = 3_600;

/// How control of a host is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChallengeKind {
    /// A file under `/.well-known/acme-challenge/` on port 80.
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate on port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record. The only one for wildcards.
    #[serde(rename = "dns-01")]
    Dns01,
}

/// What is to be answered for one host, as it lies in a storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Challenge {
    pub(super) kind: ChallengeKind,
    pub(super) host: String,
    pub(super) token: String,
    /// The token and the thumbprint of the account's key: what HTTP-01 answers. Public by nature.
    pub(super) authorisation: String,
    /// Whoever finds it later may remove it.
    pub(super) until: Moment,
}

/// Why an answer could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The storage did not take it.
    #[error("publishing the challenge")]
    Storage(#[from] StorageError),
    /// The name server, program or webhook did not take it.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The issuer has no `dns`.
    #[error("the issuer has no way to write DNS records")]
    NoDns,
    /// The certificate for TLS-ALPN-01 could not be made.
    #[error("making the certificate of the challenge")]
    Certificate(#[source] rcgen::Error),
    /// Its key cannot sign.
    #[error("using the key of the challenge")]
    Key(#[source] rustls::Error),
}

/// Where answers go.
#[derive(Clone, Copy)]
pub(super) struct Board<'a> {
    pub(super) pending: &'a Pending,
    pub(super) storage: &'a dyn Storage,
    pub(super) lock: &'a Lock,
    pub(super) dns: Option<&'a Dns>,
}

/// An answer that this replica shows no longer than this lives.
pub(super) struct Shown<'a> {
    pub(super) challenge: Challenge,
    pending: &'a Pending,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.challenge.hide(self.pending);
    }
}

impl Challenge {
    pub(super) fn new(
        kind: ChallengeKind,
        host: &str,
        token: &str,
        authorisation: &str,
        now: Moment,
    ) -> Self {
        Self {
            kind,
            host: host.to_owned(),
            token: token.to_owned(),
            authorisation: authorisation.to_owned(),
            until: now.saturating_add(FORGOTTEN),
        }
    }

    /// Its name in a storage, from which whoever is asked finds it.
    fn place(&self) -> String {
        match self.kind {
            ChallengeKind::TlsAlpn01 => place_of_name(&alpn::server_name(&self.host)),
            ChallengeKind::Http01 | ChallengeKind::Dns01 => place_of_token(&self.token),
        }
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.authorisation).into()
    }

    /// Answers it from now on, on this replica.
    pub(super) fn show(&self, pending: &Pending) -> Result<(), PublishError> {
        match self.kind {
            ChallengeKind::Http01 => pending.change(|answers| {
                let answer = (self.host.clone(), self.authorisation.as_str().into());
                answers.http.insert(self.token.clone(), answer);
            }),
            ChallengeKind::TlsAlpn01 => {
                let certificate = alpn::certificate(&self.host, &self.digest())?;
                pending.change(|answers| {
                    let name = alpn::server_name(&self.host);
                    answers.alpn.insert(name, certificate);
                });
            }
            ChallengeKind::Dns01 => {}
        }
        Ok(())
    }

    /// Answers it no longer on this replica.
    pub(super) fn hide(&self, pending: &Pending) {
        pending.change(|answers| match self.kind {
            ChallengeKind::Http01 => {
                answers.http.remove(&self.token);
            }
            ChallengeKind::TlsAlpn01 => {
                answers.alpn.remove(&alpn::server_name(&self.host));
            }
            ChallengeKind::Dns01 => {}
        });
    }
}

impl<'a> Board<'a> {
    /// Has an answer hidden when the order is over, however it ends.
    pub(super) fn shown(&self, challenge: Challenge) -> Shown<'a> {
        Shown {
            challenge,
            pending: self.pending,
        }
    }

    /// Whoever comes to whichever replica finds the answer, as soon as this returns.
    pub(super) async fn publish(&self, challenge: &Challenge) -> Result<(), PublishError> {
        if challenge.kind == ChallengeKind::Dns01 {
            let dns = self.dns.ok_or(PublishError::NoDns)?;
            return Ok(dns
                .present(&challenge.host, &dns::value(&challenge.digest()))
                .await?);
        }
        if self.storage.is_shared() {
            let bytes = Bytes::from(serde_json::to_vec(challenge).unwrap_or_default());
            let place = challenge.place();
            self.storage
                .write(Kind::Challenge, &key(&place), bytes, self.lock)
                .await?;
        }
        challenge.show(self.pending)
    }

    /// Takes the answer away. That it cannot be is no reason to do without the certificate.
    pub(super) async fn withdraw(&self, challenge: &Challenge) {
        if challenge.kind == ChallengeKind::Dns01 {
            let Some(dns) = self.dns else { return };
            let value = dns::value(&challenge.digest());
            if let Err(error) = dns.cleanup(&challenge.host, &value).await {
                let error = chain(&error);
                tracing::warn!(
                    host = challenge.host,
                    error,
                    "a challenge's record is left behind"
                );
            }
        } else if self.storage.is_shared() {
            let place = challenge.place();
            if let Err(error) = self.storage.remove(Kind::Challenge, &key(&place)).await {
                tracing::debug!(%error, host = challenge.host, "a challenge is left behind");
            }
        }
    }
}

/// Where the answer to a token lies.
pub(super) fn place_of_token(token: &str) -> String {
    format!("http-01/{token}")
}

/// Where the answer to a name in a hello lies.
pub(super) fn place_of_name(name: &str) -> String {
    format!("tls-alpn-01/{name}")
}

/// The name under which a host is asked for on TLS-ALPN-01.
pub(super) fn server_name(host: &str) -> String {
    alpn::server_name(host)
}
