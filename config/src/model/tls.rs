//! What TLS needs: certificates, how TLS is spoken on listeners and with upstreams, and whose
//! certificates are asked for.

mod certificate;
mod listener;
mod pin;
mod upstream;

pub use certificate::{Certificate, CertificateSource, KeyPairFiles};
pub use listener::{
    Alpn, CertificateNames, ClientCertificateMode, ClientCertificates, ListenerCertificates,
    ListenerTls, TlsTerms, TlsVersion,
};
pub use pin::{SanPattern, SpkiPin};
pub use upstream::UpstreamTls;
