//! What TLS needs: `[certificates.NAME]`, and the keys of listeners and routes.

mod certificate;
mod listener;

pub use certificate::{Certificate, KeyPair};
pub use listener::{
    ClientCertificateMode, ClientCertificates, ListenerCertificates, ListenerTls, NamesOr,
    TlsVersion,
};
