//! Ends TLS for the clients of one listener.
//!
//! One configuration of the library, with ticket keys and a session store of its own, per policy for
//! client certificates; all workers share it, and reloads keep it while its terms stay the same. What
//! must stay true: a session never passes from one listener to another, nor from one policy to another;
//! a name without a certificate gets none.

mod hello;
mod session;
#[cfg(test)]
mod tests;
mod validate;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::UnixTime,
    server::{
        ClientHello, ResolvesServerCert, ServerSessionMemoryCache, danger::ClientCertVerifier as _,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::{server::StartHandshake, server::TlsStream};

use crate::{
    Pair,
    choose::{Choice, Hosts},
    error::AcceptError,
    name,
    slot::Pairs,
    verify::{Clients, ClientsId},
};

pub use session::Session;

/// Sessions that are kept for clients of TLS 1.2 that take no tickets, per policy.
const SESSIONS: usize = 1024;

/// What TLS 1.3 clients get to come back with: as most servers.
const TICKETS: usize = 2;

/// A fatal alert `unrecognized_name` as it goes out before there are keys (RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// How TLS is spoken on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The oldest version.
    pub oldest: Version,
    /// What may be spoken inside, preferred first; nothing is agreed on when empty.
    pub protocols: Vec<Vec<u8>>,
    /// Whether clients get tickets to come back with.
    pub tickets: bool,
    /// What a client is told that speaks HTTP without TLS.
    pub plain: &'static [u8],
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What clients of a listener have to show. Equal when the same is asked for the same hosts.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Where no host says otherwise; nothing when absent.
    pub base: Option<Clients>,
    /// By host (`a.example`, `*.example`, `*`), the earlier ones first.
    pub hosts: Vec<(String, Option<Clients>)>,
}

impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        let id = |clients: &Option<Clients>| clients.as_ref().map(Clients::id);
        let hosts = self.hosts.iter().zip(&other.hosts);
        id(&self.base) == id(&other.base)
            && self.hosts.len() == other.hosts.len()
            && hosts
                .into_iter()
                .all(|(one, two)| one.0 == two.0 && id(&one.1) == id(&two.1))
    }
}

impl Eq for Policies {}

/// TLS cannot be ended as it is asked for.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct SetupError(#[from] rustls::Error);

/// Ends TLS for the clients of one listener.
pub struct Server {
    terms: Terms,
    choice: Arc<ArcSwap<Choice>>,
    base: Arc<Domain>,
    hosts: Hosts<Arc<Domain>>,
}

/// What clients of one policy share.
struct Domain {
    clients: Option<Clients>,
    config: Arc<ServerConfig>,
}

/// What came of a handshake that succeeded.
#[derive(Debug)]
pub enum Accepted<IO> {
    /// There is a client.
    Client(ServerStream<IO>, Session),
    /// It was a validating server, which has its answer, and wants nothing else.
    Validated,
}

/// A stream inside TLS.
pub struct ServerStream<IO>(Box<TlsStream<IO>>);

impl Server {
    /// Ends TLS with no certificate yet. What `previous` has of the same terms and policies is taken
    /// over, with the sessions of its clients.
    pub fn new(
        terms: Terms,
        policies: &Policies,
        previous: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let previous = previous.filter(|previous| previous.terms == terms);
        let choice = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.choice));
        let mut domains: Vec<Arc<Domain>> = previous.map_or_else(Vec::new, Self::domains);
        let mut domain = |clients: &Option<Clients>| {
            let id = clients.as_ref().map(Clients::id);
            if let Some(known) = domains.iter().find(|known| known.id() == id) {
                return Ok(Arc::clone(known));
            }
            let config = configure(&terms, clients.as_ref(), Arc::clone(&choice))?;
            let domain = Arc::new(Domain {
                clients: clients.clone(),
                config: Arc::new(config),
            });
            domains.push(Arc::clone(&domain));
            Ok::<_, rustls::Error>(domain)
        };
        let base = domain(&policies.base)?;
        let mut hosts = Hosts::default();
        for (host, clients) in &policies.hosts {
            let domain = domain(clients)?;
            hosts.entry(host, || domain);
        }
        Ok(Self {
            terms,
            choice,
            base,
            hosts,
        })
    }

    fn domains(&self) -> Vec<Arc<Domain>> {
        let mut all = vec![Arc::clone(&self.base)];
        all.extend(self.hosts.iter().map(Arc::clone));
        all
    }

    /// From now on certificates come from `choice`, also for handshakes under way.
    pub fn present(&self, choice: Choice) {
        self.choice.store(Arc::new(choice));
    }

    /// What stands for `host`, as a handshake would find it.
    pub fn certificate(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        self.choice.load().find(host)
    }

    /// The policy that a handshake for `host` is held to.
    pub fn policy(&self, host: Option<&str>) -> Option<ClientsId> {
        self.domain(host).id()
    }

    fn domain(&self, host: Option<&str>) -> &Arc<Domain> {
        let found = match host {
            Some(host) => self.hosts.first(host),
            None => self.hosts.any(),
        };
        found.unwrap_or(&self.base)
    }

    /// Does the handshake on `io`, for at most `limit`. Whoever is refused was told so, as far as TLS has
    /// a word for it.
    pub async fn accept<IO>(&self, io: IO, limit: Duration) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        // Boxed, so that no connection holds room for a handshake that is over.
        tokio::time::timeout(limit, Box::pin(self.handshake(io)))
            .await
            .unwrap_or(Err(AcceptError::Timeout))
    }

    async fn handshake<IO>(&self, mut io: IO) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = match hello::read(&mut io).await {
            Ok(accepted) => accepted,
            Err(mut failure) => {
                let farewell = failure.farewell(self.terms.plain);
                if !farewell.is_empty() {
                    part(&mut io, &farewell).await;
                }
                return Err(failure.error);
            }
        };
        let (name, is_validating) = {
            let hello = accepted.client_hello();
            let name: Option<Box<str>> = hello.server_name().map(|name| name::normal(name).into());
            (name, validate::is_validating(&hello))
        };
        if is_validating {
            let choice = self.choice.load_full();
            let Some(answer) = Box::pin(choice.validation(name.as_deref())).await else {
                part(&mut io, &validate::REFUSAL).await;
                return Err(AcceptError::NoApplicationProtocol);
            };
            let start = StartHandshake::from_parts(accepted, io);
            let mut stream = start.into_stream(validate::config(answer)?).await?;
            let _closed = stream.shutdown().await.is_ok();
            return Ok(Accepted::Validated);
        }
        let at_hand = self.choice.load().at_hand(name.as_deref());
        let certificate = if let Some(certificate) = at_hand {
            Ok(certificate)
        } else {
            let choice = self.choice.load_full();
            Box::pin(choice.order(name.as_deref())).await
        };
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) => {
                part(&mut io, &UNRECOGNIZED_NAME).await;
                return Err(error);
            }
        };
        let domain = Arc::clone(self.domain(name.as_deref()));
        let start = StartHandshake::from_parts(accepted, io);
        let stream = start.into_stream(Arc::clone(&domain.config)).await?;
        let connection = stream.get_ref().1;
        domain.recheck(connection)?;
        let session = Session::read(connection, name, domain.id(), certificate)?;
        Ok(Accepted::Client(ServerStream(Box::new(stream)), session))
    }
}

/// Says a last word. Without the end of the stream some clients take it for a broken connection.
async fn part<IO: AsyncWrite + Unpin>(io: &mut IO, word: &[u8]) {
    if io.write_all(word).await.is_ok() {
        let _closed = io.shutdown().await.is_ok();
    }
}

impl Domain {
    fn id(&self) -> Option<ClientsId> {
        self.clients.as_ref().map(Clients::id)
    }

    /// A client that comes back was verified when it came first. Its certificate may have ended since.
    fn recheck(&self, connection: &rustls::ServerConnection) -> Result<(), AcceptError> {
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let Some(clients) = self.clients.as_ref().filter(|_| resumed) else {
            return Ok(());
        };
        match connection.peer_certificates() {
            Some([leaf, rest @ ..]) => {
                let verified = clients
                    .verifier
                    .verify_client_cert(leaf, rest, UnixTime::now());
                verified.map(drop).map_err(AcceptError::from)
            }
            _ if clients.verifier.client_auth_mandatory() => Err(AcceptError::CertificateRequired),
            _ => Ok(()),
        }
    }
}

fn configure(
    terms: &Terms,
    clients: Option<&Clients>,
    choice: Arc<ArcSwap<Choice>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match terms.oldest {
        Version::Tls12 => &[&TLS13, &TLS12],
        Version::Tls13 => &[&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(crate::provider()).with_protocol_versions(versions)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let verifier = Arc::clone(&clients.verifier);
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver(choice)));
    config.alpn_protocols.clone_from(&terms.protocols);
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = 0;
    if terms.tickets {
        // Its keys change every six hours, and what they sealed is good for twelve.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
    }
    // Anybody can repeat early data.
    config.max_early_data_size = 0;
    Ok(config)
}

/// Finds the pair that signs a handshake.
#[derive(Debug)]
struct Resolver(Arc<ArcSwap<Choice>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.0.load().find(hello.server_name())?;
        let chosen = pairs.for_schemes(hello.signature_schemes());
        // With one that it cannot verify, the client is told that there is nothing in common.
        let any = || pairs.iter().next().map(Pair::certified);
        chosen.or_else(any).map(Arc::clone)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl<IO> ServerStream<IO> {
    /// What carries it.
    pub fn get_ref(&self) -> &IO {
        self.0.get_ref().0
    }
}

impl<IO> fmt::Debug for ServerStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream").finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
