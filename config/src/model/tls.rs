//! What TLS needs: certificates, how a listener speaks TLS, and whose certificates it asks for.

mod certificate;
mod listener;
mod pin;

pub use certificate::{Certificate, CertificateSource, KeyPairFiles};
pub use listener::{
    Alpn, CertificateNames, ClientCertificateMode, ClientCertificates, ListenerCertificates,
    ListenerTls, TlsTerms, TlsVersion,
};
pub use pin::{SanPattern, SpkiPin};
