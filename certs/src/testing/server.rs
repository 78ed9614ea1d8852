//! The TLS side of an origin for tests, and what it saw of who came.

use std::{io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Authority, Leaf};
use crate::{Facts, Pair, provider};

/// What an origin says in a handshake.
#[derive(Clone)]
pub struct Server(TlsAcceptor);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// What an origin saw in a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The host that was asked for.
    pub sni: Option<String>,
    /// What was agreed to be spoken inside.
    pub alpn: Option<String>,
    /// The first name in the certificate that was shown.
    pub client: Option<String>,
    /// An earlier handshake was continued.
    pub resumed: bool,
}

impl Server {
    /// Shows `leaf`, speaks these protocols, and demands a certificate of `clients`. `newest` leaves out
    /// all versions but TLS 1.3.
    pub fn new(leaf: &Leaf, alpn: &[&str], clients: Option<&Authority>, newest: bool) -> Self {
        Self::showing(&leaf.pair(), alpn, clients, newest)
    }

    /// The same with a pair of whatever origin.
    pub fn showing(pair: &Pair, alpn: &[&str], clients: Option<&Authority>, newest: bool) -> Self {
        let versions: &[_] = if newest { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions");
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from_pem_slice(authority.pem().as_bytes());
                roots.add(root.expect("a root")).expect("a root");
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
            None => builder.with_no_client_auth(),
        };
        let key = Arc::clone(pair.certified());
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// Takes a connection.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<(TlsStream<IO>, Seen)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.0.accept(io).await?;
        let session = stream.get_ref().1;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let name = |it: &CertificateDer<'_>| {
            Facts::read(it)
                .expect("a certificate")
                .names
                .first()
                .cloned()
        };
        let seen = Seen {
            sni: session.server_name().map(str::to_owned),
            alpn: session.alpn_protocol().map(text),
            client: certificate.and_then(name),
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        Ok((stream, seen))
    }
}
