//! Answers validating servers (TLS-ALPN-01, RFC 8737): on such a connection nothing else is said.

use std::sync::Arc;

use rustls::{
    Error, ServerConfig,
    server::{ClientHello, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

const PROTOCOL: &[u8] = b"acme-tls/1";

/// A fatal alert `no_application_protocol` as it goes out before there are keys (RFC 7301 §3.2).
pub(super) const REFUSAL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// Whether this is a validating server: it offers that protocol and no other.
pub(super) fn is_validating(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.next() == Some(PROTOCOL) && offered.next().is_none()
}

/// A handshake that shows this certificate and leaves nothing behind.
pub(super) fn config(certificate: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(crate::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
