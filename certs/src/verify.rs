//! Which clients a policy admits, and who they turn out to be.
//!
//! What must stay true: a policy is known by its content, so that two that ask the same are the same and
//! one that changed (also in a file) is another; an authority that has expired vouches for nobody.

mod peer;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, UnixTime,
        pem::{self, PemObject},
    },
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    name,
    pair::{Facts, Unreadable},
};

pub use peer::Peer;

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They may; a bad one is refused all the same.
    Optional,
    /// They have to.
    Required,
}

/// What clients have to show.
#[derive(Debug, Clone)]
pub struct ClientsSpec {
    /// Whether at all.
    pub mode: Mode,
    /// Bundles of authorities in PEM; at least one certificate in all.
    pub authorities: Vec<Vec<u8>>,
    /// Lists of revoked certificates, in PEM. With one, every certificate on the way to the authority has
    /// to be accounted for by one that is not out of date.
    pub revoked: Vec<Vec<u8>>,
    /// Names, one of which a certificate must have; every name when empty.
    pub names: Vec<NamePattern>,
    /// SHA-256 of public keys, one of which a certificate must have; every key when empty.
    pub keys: Vec<[u8; 32]>,
}

/// A name that a client certificate may have: a URI (`spiffe://shop/*`: everything that begins so), a
/// host (`*.example.com`: one or more labels for the star) or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Box<str>);

impl NamePattern {
    /// A pattern as it is written.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    fn admits(&self, facts: &Facts) -> bool {
        if self.0.contains("://") {
            let prefix = self.0.strip_suffix('*');
            let begins =
                |uri: &str, prefix: &str| uri.len() > prefix.len() && uri.starts_with(prefix);
            return facts
                .uris
                .iter()
                .any(|uri| prefix.map_or_else(|| **uri == *self.0, |prefix| begins(uri, prefix)));
        }
        let wanted = name::normal(&self.0);
        let Some(suffix) = wanted.strip_prefix('*') else {
            return facts.names.iter().any(|name| *name == *wanted);
        };
        // A certificate for a wildcard is no certificate for one of its hosts.
        let hosts = facts.names.iter().filter(|name| !name.starts_with('*'));
        hosts
            .into_iter()
            .any(|host| host.len() > suffix.len() && host.ends_with(suffix))
    }
}

/// Why what clients have to show cannot be held against anybody.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// A file is no PEM.
    #[error("the PEM cannot be read")]
    Pem(#[source] pem::Error),
    /// No authority is named.
    #[error("there is no certificate of an authority")]
    NoAuthority,
    /// An authority cannot be one.
    #[error("a certificate of an authority cannot be read")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A list of revoked certificates is none.
    #[error("there is no list of revoked certificates")]
    NoList,
    /// A list of revoked certificates cannot be read.
    #[error("a list of revoked certificates cannot be read")]
    List(#[source] VerifierBuilderError),
}

impl From<Unreadable> for ClientsError {
    fn from(error: Unreadable) -> Self {
        Self::Authority(Box::new(error))
    }
}

/// A policy for client certificates. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Clients {
    id: ClientsId,
    pub(crate) mode: Mode,
    pub(crate) verifier: Arc<Verifier>,
}

/// What tells policies apart: equal content, equal id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientsId([u8; 32]);

impl Clients {
    /// Reads what is needed to hold certificates against `spec`.
    pub fn new(spec: &ClientsSpec) -> Result<Self, ClientsError> {
        let mut authorities = Vec::new();
        for bundle in &spec.authorities {
            for der in CertificateDer::pem_slice_iter(bundle) {
                let der = der.map_err(ClientsError::Pem)?;
                let facts = Facts::read(&der)?;
                authorities.push((der, facts));
            }
        }
        if authorities.is_empty() {
            return Err(ClientsError::NoAuthority);
        }
        let mut lists = Vec::new();
        for text in &spec.revoked {
            let before = lists.len();
            for list in CertificateRevocationListDer::pem_slice_iter(text) {
                lists.push(list.map_err(ClientsError::Pem)?);
            }
            if lists.len() == before {
                return Err(ClientsError::NoList);
            }
        }
        let verifier = Verifier::new(spec, authorities, lists)?;
        Ok(Self {
            id: id(spec),
            mode: spec.mode,
            verifier: Arc::new(verifier),
        })
    }

    /// What tells it apart from others.
    pub fn id(&self) -> ClientsId {
        self.id
    }

    /// Whether clients have to show a certificate.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Every part stands with its length, so that none can pass for a piece of another.
fn id(spec: &ClientsSpec) -> ClientsId {
    let mut hash = Sha256::new();
    hash.update([u8::from(spec.mode == Mode::Required)]);
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    let texts = [&spec.authorities, &spec.revoked];
    for list in texts {
        part(&list.len().to_le_bytes());
        for text in list {
            part(text);
        }
    }
    part(&spec.names.len().to_le_bytes());
    for name in &spec.names {
        part(name.0.as_bytes());
    }
    for key in &spec.keys {
        part(key);
    }
    ClientsId(hash.finalize().into())
}

/// Verifies client certificates.
pub(crate) struct Verifier {
    mode: Mode,
    authorities: Vec<(CertificateDer<'static>, Facts)>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    names: Vec<NamePattern>,
    keys: Vec<[u8; 32]>,
    /// Shown to clients, so that they find a certificate that will do. Fixed: who expires meanwhile is
    /// still asked for.
    subjects: Vec<DistinguishedName>,
    current: ArcSwap<Current>,
}

/// The authorities that count for now.
struct Current {
    /// None when all have expired.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    /// When the first of them begins or ends.
    until: i64,
}

impl Verifier {
    fn new(
        spec: &ClientsSpec,
        authorities: Vec<(CertificateDer<'static>, Facts)>,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, ClientsError> {
        let mut verifier = Self {
            mode: spec.mode,
            authorities,
            lists,
            names: spec.names.clone(),
            keys: spec.keys.clone(),
            subjects: Vec::new(),
            current: ArcSwap::from_pointee(Current {
                inner: None,
                until: i64::MIN,
            }),
        };
        // Whether all can be read is asked now, also of those that do not count yet.
        let all = verifier.build(|_| true)?;
        if let Some(all) = all {
            verifier.subjects = all.root_hint_subjects().to_vec();
        }
        Ok(verifier)
    }

    fn build(
        &self,
        counts: impl Fn(&Facts) -> bool,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, ClientsError> {
        let mut roots = RootCertStore::empty();
        for (der, facts) in &self.authorities {
            if counts(facts) {
                roots
                    .add(der.clone())
                    .map_err(|error| ClientsError::Authority(Box::new(error)))?;
            }
        }
        if roots.is_empty() {
            return Ok(None);
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::provider())
                .with_crls(self.lists.iter().cloned())
                .enforce_revocation_expiration();
        let builder = match self.mode {
            Mode::Optional => builder.allow_unauthenticated(),
            Mode::Required => builder,
        };
        builder.build().map(Some).map_err(ClientsError::List)
    }

    /// Verifies as of `now`, with the authorities that are valid then: the library below takes an
    /// authority for what it is, whatever its dates.
    fn current(&self, now: i64) -> Arc<Current> {
        let current = self.current.load_full();
        if now < current.until {
            return current;
        }
        let times = self.authorities.iter().flat_map(|(_, facts)| {
            let from = facts.not_before.unix_timestamp();
            [from, facts.not_after.unix_timestamp().saturating_add(1)]
        });
        let next = Arc::new(Current {
            inner: self
                .build(|facts| {
                    let times = facts.not_before.unix_timestamp()..=facts.not_after.unix_timestamp();
                    times.contains(&now)
                })
                // All were read when this was made.
                .unwrap_or(None),
            until: times.filter(|time| *time > now).min().unwrap_or(i64::MAX),
        });
        self.current.store(Arc::clone(&next));
        next
    }

    /// Whether the certificate is one of those that are named.
    fn is_named(&self, facts: &Facts) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|name| name.admits(facts));
        named && (self.keys.is_empty() || self.keys.contains(&facts.spki))
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mode == Mode::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let current = self.current(seconds);
        let Some(inner) = &current.inner else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let verified = inner.verify_client_cert(end_entity, intermediates, now)?;
        let facts = Facts::read(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if !self.is_named(&facts) {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        let algorithms = &crate::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        let algorithms = &crate::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("mode", &self.mode)
            .field("authorities", &self.authorities.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Verifier {
    /// As if every authority had ended.
    pub(crate) fn end(&self) {
        let none = Current {
            inner: None,
            until: i64::MAX,
        };
        self.current.store(Arc::new(none));
    }
}
