//! What TLS needs: `[certificates.NAME]`, `[acme.NAME]`, `[storage]`, and the keys of listeners, routes and upstreams.

mod acme;
mod certificate;
mod listener;
mod storage;
mod upstream;

pub use acme::{
    Acme, AcmeChallenge, AcmeDns, AcmeKey, DnsExec, DnsWebhook, ExternalAccount, OnDemand, Rfc2136,
    TsigAlgorithm,
};
pub use certificate::{Certificate, KeyPair};
pub use listener::{
    ClientCertificateMode, ClientCertificates, ListenerCertificates, ListenerTls, NamesOr,
    TlsVersion,
};
pub use storage::{Etcd, Storage};
pub use upstream::UpstreamTls;
