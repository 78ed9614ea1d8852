//! Our side of TLS with an endpoint: what is trusted, who we are, what came of it.
//!
//! One [`Client`] per upstream. What it remembers of earlier handshakes belongs to its settings: another
//! issuer, another name, another certificate of ours make another client, with nothing remembered.

mod error;
mod stream;
mod verify;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{InvalidDnsNameError, ServerName},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::{Pair, Roots, provider};
use verify::Verifier;

pub use error::{ConnectError, Part};
pub use stream::ClientStream;
pub use verify::{San, SanError};

/// Handshakes that are remembered, over all names.
const SESSIONS: usize = 256;

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientSpec {
    /// Who may have issued the endpoint's certificate; `None` takes any certificate of anybody.
    pub trust: Option<Roots>,
    /// The name that is sent, instead of the endpoint's own.
    pub sni: Option<Host>,
    /// The certificate has to have one of these; when empty, the name that is sent, or the address.
    pub names: Vec<San>,
    /// Shown to endpoints that ask.
    pub certificate: Option<Pair>,
    /// The lowest version.
    pub min_version: Version,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

/// Whom a connection is made to: what an endpoint's address says about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host(ServerName<'static>);

impl Host {
    /// A name, without a trailing dot, or the text of an address.
    pub fn new(host: &str) -> Result<Self, InvalidDnsNameError> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = ServerName::try_from(host.to_ascii_lowercase())?;
        Ok(Self(name))
    }

    /// An address.
    pub fn address(address: IpAddr) -> Self {
        Self(ServerName::from(address))
    }

    /// As text.
    pub fn text(&self) -> String {
        self.0.to_str().into_owned()
    }
}

/// The protocols that an endpoint is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// None: what is spoken is nobody's business.
    Nothing,
    /// HTTP/1.1; an endpoint that chooses nothing will do.
    Http1,
    /// HTTP/2, and nothing else will do.
    Http2,
    /// Either; one that chooses nothing speaks HTTP/1.1.
    Either,
}

impl Offer {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Nothing => &[],
            Self::Http1 => &[HTTP1],
            Self::Http2 => &[HTTP2],
            Self::Either => &[HTTP2, HTTP1],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// What came of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The endpoint chose HTTP/2.
    pub http2: bool,
    /// An earlier one was remembered.
    pub resumed: bool,
    /// The version.
    pub version: Version,
}

/// Tells clients with different settings apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Our side of TLS with the endpoints of an upstream.
#[derive(Clone)]
pub struct Client {
    config: TlsConnector,
    sni: Option<Host>,
    identity: Identity,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Client");
        fields.field("sni", &self.sni).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings that remembers nothing yet.
    pub fn new(spec: ClientSpec) -> Result<Self, rustls::Error> {
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        const NEWER: &[&SupportedProtocolVersion] = &[&TLS13];
        let identity = identity(&spec);
        let provider = provider();
        let versions = match spec.min_version {
            Version::Tls12 => BOTH,
            Version::Tls13 => NEWER,
        };
        let verifier = Verifier::new(&provider, spec.trust, spec.names);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match spec.certificate {
            Some(pair) => {
                let key = Arc::clone(pair.certified());
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self {
            config: TlsConnector::from(Arc::new(config)),
            sni: spec.sni,
            identity,
        })
    }

    /// Equal for clients between which an endpoint cannot tell a difference.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Speaks TLS over `io` to an endpoint known as `host`, for as long as it takes: the caller bounds
    /// it. Without a host and without `sni` no name is sent, and only the names of the settings fit.
    pub async fn connect<IO>(
        &self,
        io: IO,
        host: Option<&Host>,
        offer: Offer,
    ) -> Result<(ClientStream<IO>, Handshake), ConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.sni.as_ref().or(host).map_or_else(
            // An address is never sent, and this one is nobody's.
            || ServerName::from(Ipv4Addr::UNSPECIFIED),
            |host| host.0.clone(),
        );
        let connecting = self.config.with_alpn(offer.names()).connect(name, io);
        let stream = connecting.await.map_err(|error| ConnectError::of(&error))?;
        let (_, session) = stream.get_ref();
        let chosen = session.alpn_protocol();
        if offer == Offer::Http2 && chosen != Some(HTTP2) {
            return Err(ConnectError::NoProtocol);
        }
        let handshake = Handshake {
            http2: chosen == Some(HTTP2),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
        };
        Ok((ClientStream::new(stream), handshake))
    }
}

/// A hash over all settings, none of which can be mistaken for another.
fn identity(spec: &ClientSpec) -> Identity {
    let ClientSpec {
        trust,
        sni,
        names,
        certificate,
        min_version,
    } = spec;
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // Its length first, so that no two lists of settings run together to the same bytes.
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(trust.as_ref().map_or(&[][..], |roots| roots.digest()));
    add(sni.as_ref().map(Host::text).unwrap_or_default().as_bytes());
    add(match min_version {
        Version::Tls12 => b"1.2",
        Version::Tls13 => b"1.3",
    });
    for part in certificate.iter().flat_map(|pair| &pair.certified().cert) {
        // The key belongs to the first of them.
        add(part);
    }
    add(b"");
    for name in names {
        add(name.text().as_bytes());
    }
    Identity(hash.finalize().into())
}

#[cfg(test)]
mod tests;
