//! What TLS needs: certificates and who issues them, how TLS is spoken on listeners and with upstreams, and whose
//! certificates are asked for.

mod acme;
mod certificate;
mod listener;
mod pin;
mod secret;
mod storage;
mod upstream;

pub(crate) use acme::is_address;
pub use acme::{
    Acme, AcmeChallenge, AcmeDns, AcmeKey, DnsExec, DnsWebhook, ExternalAccount, OnDemand, Rate,
    Rfc2136, TsigAlgorithm,
};
pub use certificate::{Certificate, CertificateSource, KeyPairFiles};
pub use listener::{
    Alpn, CertificateNames, ClientCertificateMode, ClientCertificates, ListenerCertificates,
    ListenerTls, TlsTerms, TlsVersion,
};
pub use pin::{SanPattern, SpkiPin};
pub use secret::{Secret, SecretText};
pub use storage::{Etcd, EtcdLogin, Storage};
pub use upstream::UpstreamTls;
