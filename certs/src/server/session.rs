//! What was agreed on with a client.

use std::sync::Arc;

use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};

use crate::{
    error::AcceptError,
    slot::Pairs,
    verify::{ClientsId, Peer},
};

/// What was agreed on with a client.
#[derive(Debug, Clone)]
pub struct Session {
    /// The host that the client asked for: lower case, without the dot at its end.
    pub sni: Option<Box<str>>,
    /// What is spoken inside; none when the client offered nothing.
    pub protocol: Option<Box<[u8]>>,
    /// The version of TLS: `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its registered name.
    pub cipher: &'static str,
    /// The client came back with a session of before.
    pub resumed: bool,
    /// What the client was held to.
    pub policy: Option<ClientsId>,
    /// Who the client is, if it showed a certificate.
    pub peer: Option<Arc<Peer>>,
    certificate: Arc<Pairs>,
}

impl Session {
    pub(super) fn read(
        connection: &ServerConnection,
        sni: Option<Box<str>>,
        policy: Option<ClientsId>,
        certificate: Arc<Pairs>,
    ) -> Result<Self, AcceptError> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = Peer::read(chain).map_err(|_| {
            AcceptError::CertificateInvalid(rustls::CertificateError::BadEncoding.into())
        })?;
        let suite = connection.negotiated_cipher_suite();
        Ok(Self {
            sni,
            protocol: connection.alpn_protocol().map(Into::into),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: suite.map_or("", |suite| registered(suite.suite())),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            policy,
            peer: peer.map(Arc::new),
            certificate,
        })
    }

    /// Whether a request for `host` may come over this connection: it is what the client asked for, or the
    /// certificate is for it, too. A client that named nobody was promised nothing.
    pub fn covers(&self, host: &str) -> bool {
        match &self.sni {
            None => true,
            Some(sni) => **sni == *host || self.certificate.covers(host),
        }
    }
}

/// The name that a suite is registered under; the library has its own for those of TLS 1.3.
fn registered(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or_default(),
    }
}
