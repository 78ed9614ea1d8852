//! A client of TLS for tests, and what it was told.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore,
    client::{EchConfig, EchMode, Resumption},
    crypto::{aws_lc_rs::hpke, hpke::Hpke as _},
    pki_types::{
        CertificateDer, EchConfigListBytes, PrivateKeyDer, ServerName, pem::PemObject as _,
    },
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Authority, Leaf};
use crate::Facts;

/// A client; its sessions are kept from one connection to the next.
#[derive(Debug, Clone)]
pub struct Client(ClientConfig);

/// A connection of a [`Client`].
#[derive(Debug)]
pub struct Connected<IO>(TlsStream<IO>);

/// Versions that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Both.
    Any,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Client {
    /// A client that believes `authority` and offers these protocols.
    pub fn new(authority: &Authority, protocols: &[&str]) -> Self {
        Self::with(authority, protocols, Speaks::Any, None)
    }

    /// A client that believes this root (PEM) and offers these protocols.
    pub fn believing(root: &str, protocols: &[&str]) -> Self {
        Self::of(root, protocols, Speaks::Any, None, None)
    }

    /// A client that hides whom it asks for, as if `public` could find out (RFC 9849).
    pub fn hiding(authority: &Authority, protocols: &[&str], public: &str) -> Self {
        let hidden = Some(hidden_behind(public));
        Self::of(authority.pem(), protocols, Speaks::Tls13, None, hidden)
    }

    /// The same with versions, and a certificate of its own.
    pub fn with(
        authority: &Authority,
        protocols: &[&str],
        speaks: Speaks,
        identity: Option<&Leaf>,
    ) -> Self {
        Self::of(authority.pem(), protocols, speaks, identity, None)
    }

    fn of(
        root: &str,
        protocols: &[&str],
        speaks: Speaks,
        identity: Option<&Leaf>,
        hidden: Option<EchMode>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("a root");
        roots.add(root).expect("a root");
        let versions: &[_] = match speaks {
            Speaks::Any => &[&TLS13, &TLS12],
            Speaks::Tls12 => &[&TLS12],
            Speaks::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(crate::provider());
        let builder = match hidden {
            Some(hidden) => builder.with_ech(hidden),
            None => builder.with_protocol_versions(versions),
        };
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("a chain");
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Self(config)
    }

    /// The same that forgets its sessions.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.0.resumption = Resumption::disabled();
        self
    }

    /// The same that names nobody.
    #[must_use]
    pub fn nameless(mut self) -> Self {
        self.0.enable_sni = false;
        self
    }

    /// The sessions of this client under another certificate, or none: what a client must not do.
    #[must_use]
    pub fn with_sessions_of(mut self, other: &Self) -> Self {
        self.0.resumption = other.0.resumption.clone();
        self
    }

    /// What it says first to `name`.
    pub fn first_message(&self, name: &str) -> Vec<u8> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let config = Arc::new(self.0.clone());
        let mut connection = ClientConnection::new(config, name).expect("a client");
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).expect("a vector");
        }
        bytes
    }

    /// Connects as if to `name`.
    pub async fn connect<IO>(&self, io: IO, name: &str) -> io::Result<Connected<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connector = TlsConnector::from(Arc::new(self.0.clone()));
        connector.connect(name, io).await.map(Connected)
    }
}

/// A key that nobody has, for hosts behind `public`.
fn hidden_behind(public: &str) -> EchMode {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().expect("a key");
    let vector = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a length");
        [&length.to_be_bytes()[..], bytes].concat()
    };
    let length = u8::try_from(public.len()).expect("a length");
    let contents = [
        // Its number, the key, HKDF-SHA256 with AES-128-GCM, the longest name, extensions.
        &[1, 0, 0x20][..],
        &vector(&key.0),
        &vector(&[0, 1, 0, 1]),
        &[64, length],
        public.as_bytes(),
        &vector(&[]),
    ]
    .concat();
    let config = [&[0xfe, 0x0d][..], &vector(&contents)].concat();
    let list = EchConfigListBytes::from(vector(&config));
    let config = EchConfig::new(list, &[suite]).expect("a configuration");
    config.into()
}

/// The alert that an error says was received.
pub fn alert(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref()?;
    match inner {
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            Some("unrecognized_name".to_owned())
        }
        rustls::Error::AlertReceived(alert) => Some(format!("{alert:?}")),
        _ => None,
    }
}

impl<IO> Connected<IO> {
    /// What is spoken inside.
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.0.get_ref().1.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// Whether it goes on with an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.0.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The version: `TLSv1_3`.
    pub fn version(&self) -> String {
        format!("{:?}", self.0.get_ref().1.protocol_version())
    }

    /// The group of the key exchange: `X25519MLKEM768`.
    pub fn group(&self) -> String {
        let group = self.0.get_ref().1.negotiated_key_exchange_group();
        group.map_or_else(String::new, |group| format!("{:?}", group.name()))
    }

    /// What the certificate of the other side says.
    pub fn certificate(&self) -> Option<Facts> {
        let chain = self.0.get_ref().1.peer_certificates()?;
        Facts::read(chain.first()?).ok()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connected<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connected<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
