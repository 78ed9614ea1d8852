//! Issuers that are trusted: from bundles, or those of the system.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, UnixTime,
        pem::{self, PemObject},
    },
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Issuers that are trusted. Cheap to clone.
#[derive(Clone)]
pub struct Roots(Arc<Inner>);

struct Inner {
    store: Arc<RootCertStore>,
    /// Each with when it ends, in seconds since 1970: the library below does not look at that.
    certificates: Vec<(CertificateDer<'static>, i64)>,
    /// When the first of them ends.
    first_end: i64,
    digest: [u8; 32],
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The text cannot be read as PEM.
    #[error("it is no PEM")]
    Pem(#[source] pem::Error),
    /// Nothing in it is a certificate.
    #[error("there is no certificate in it")]
    Empty,
    /// One of its certificates cannot be used.
    #[error("its certificate {number} cannot be used")]
    Unusable {
        /// From 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Every certificate has ended.
    #[error("all of its certificates have expired")]
    Expired,
    /// The system has none, or none that can be read.
    #[error("this system has no trusted issuers: install ca-certificates, or set SSL_CERT_FILE")]
    NoneInSystem(#[source] Option<rustls_native_certs::Error>),
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Roots");
        fields.field("certificates", &self.0.certificates.len());
        fields.finish_non_exhaustive()
    }
}

impl Roots {
    /// The certificates of `bundles`, each of which has to have one at least. Whatever else is in
    /// them is passed over.
    pub fn from_pem<'b>(bundles: impl IntoIterator<Item = &'b [u8]>) -> Result<Self, RootsError> {
        let mut certificates = Vec::new();
        for bundle in bundles {
            let before = certificates.len();
            for certificate in CertificateDer::pem_slice_iter(bundle) {
                certificates.push(certificate.map_err(RootsError::Pem)?);
            }
            if certificates.len() == before {
                return Err(RootsError::Empty);
            }
        }
        let mut usable = Vec::with_capacity(certificates.len());
        for (index, certificate) in certificates.into_iter().enumerate() {
            let number = index.saturating_add(1);
            let unusable = |source| RootsError::Unusable { number, source };
            let mut probe = RootCertStore::empty();
            probe.add(certificate.clone()).map_err(unusable)?;
            let end = end(&certificate).ok_or_else(|| {
                unusable(rustls::Error::from(rustls::CertificateError::BadEncoding))
            })?;
            usable.push((certificate, end));
        }
        Self::new(usable).ok_or(RootsError::Expired)
    }

    /// Those that the system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` say other places. Reads some
    /// hundred files.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        let certificates = found.certs.into_iter().filter_map(|certificate| {
            let end = end(&certificate)?;
            Some((certificate, end))
        });
        // A few that cannot be read are no reason to trust nobody.
        let first = found.errors.into_iter().next();
        Self::new(certificates.collect()).ok_or(RootsError::NoneInSystem(first))
    }

    /// Nothing, when nothing that has not ended can be used.
    fn new(certificates: Vec<(CertificateDer<'static>, i64)>) -> Option<Self> {
        let now = seconds(UnixTime::now());
        let certificates: Vec<_> = certificates
            .into_iter()
            .filter(|(_, end)| *end >= now)
            .collect();
        let store = store(certificates.iter());
        let first_end = certificates.iter().map(|(_, end)| *end).min()?;
        if store.is_empty() {
            return None;
        }
        let mut digest = Sha256::new();
        for (certificate, _) in &certificates {
            digest.update(u64::try_from(certificate.len()).ok()?.to_be_bytes());
            digest.update(certificate);
        }
        Some(Self(Arc::new(Inner {
            store: Arc::new(store),
            certificates,
            first_end,
            digest: digest.finalize().into(),
        })))
    }

    /// Those that have not ended at `now`.
    pub(crate) fn at(&self, now: UnixTime) -> Arc<RootCertStore> {
        let now = seconds(now);
        if now <= self.0.first_end {
            return Arc::clone(&self.0.store);
        }
        let left = self.0.certificates.iter().filter(|(_, end)| *end >= now);
        Arc::new(store(left))
    }

    /// Tells them from others.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

fn store<'c>(
    certificates: impl Iterator<Item = &'c (CertificateDer<'static>, i64)>,
) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.map(|(certificate, _)| certificate.clone()));
    store
}

fn end(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
