//! What TLS needs: `[certificates.NAME]`, and the keys of listeners, routes and upstreams.

mod certificate;
mod listener;
mod upstream;

pub use certificate::{Certificate, KeyPair};
pub use listener::{
    ClientCertificateMode, ClientCertificates, ListenerCertificates, ListenerTls, NamesOr,
    TlsVersion,
};
pub use upstream::UpstreamTls;
