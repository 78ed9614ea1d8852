//! A certificate chain with its private key, and what the certificate says.

mod facts;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use rustls::{
    InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

pub use facts::{Facts, KeyKind, Unreadable, subject};

/// A certificate chain with its private key. Cheap to clone; its `Debug` shows no key.
#[derive(Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    facts: Arc<Facts>,
}

/// Why two files are no usable pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The chain holds no certificate.
    #[error("there is no certificate in the chain")]
    NoCertificate,
    /// The key file holds no key.
    #[error("there is no private key")]
    NoKey,
    /// The key needs a password.
    #[error("the private key is encrypted")]
    Encrypted,
    /// A file is no PEM.
    #[error("the PEM cannot be read")]
    Pem(#[source] pem::Error),
    /// The first certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] Unreadable),
    /// The key is of a kind that cannot be used.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The key is for another certificate of the chain.
    #[error("the certificate of the private key is not the first of the chain")]
    Order,
    /// The key is not that of the certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

impl Pair {
    /// Reads a chain, its own certificate first, and the key of that. An expired certificate is one.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = certificates(chain)?;
        let leaf = chain.first().ok_or(PairError::NoCertificate)?;
        let facts = Facts::read(leaf)?;
        let key = private_key(key)?;
        let key = crate::provider()
            .key_provider
            .load_private_key(key)
            .map_err(PairError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let others = certified.cert.iter().skip(1).cloned();
                let key = &certified.key;
                let is_its = |other| {
                    CertifiedKey::new(vec![other], Arc::clone(key))
                        .keys_match()
                        .is_ok()
                };
                let displaced = others.into_iter().any(is_its);
                return Err(if displaced {
                    PairError::Order
                } else {
                    PairError::Mismatch
                });
            }
        }
        Ok(Self {
            certified: Arc::new(certified),
            facts: Arc::new(facts),
        })
    }

    /// What the certificate says.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// What signs handshakes.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// Pairs with the same chain are the same: a key that matches it is the only one there is.
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl Eq for Pair {}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// The chain and the key of a PEM text that holds both, apart.
pub fn split(text: &str) -> Result<(String, String), PairError> {
    Pair::from_pem(text.as_bytes(), text.as_bytes())?;
    let (mut chain, mut key) = (String::new(), String::new());
    let mut label = None;
    // What stands between the blocks is commentary (RFC 7468 §2).
    for line in text.lines().map(str::trim_end) {
        let begin = line.strip_prefix("-----BEGIN ");
        label = label.or_else(|| begin?.strip_suffix("-----"));
        let block = match label {
            Some("CERTIFICATE") => Some(&mut chain),
            Some(label) if label.ends_with("PRIVATE KEY") => Some(&mut key),
            Some(_) | None => None,
        };
        if let Some(block) = block {
            block.push_str(line);
            block.push('\n');
        }
        if line.starts_with("-----END ") {
            label = None;
        }
    }
    Ok((chain, key))
}

/// Every certificate of a PEM text, in order.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(PairError::Pem)
}

/// The first private key of a PEM text.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PairError> {
    let says = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    // PKCS #8 says it in its label, the older forms in a header.
    if says(b"BEGIN ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") {
        return Err(PairError::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => PairError::NoKey,
        error => PairError::Pem(error),
    })
}
