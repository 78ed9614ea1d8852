//! The one client for outgoing control calls: ACME directories, webhooks, `ask`, etcd.
//!
//! It is meant for addresses that an operator wrote down and for what a directory there points to. So it
//! follows no redirect, never talks to link-local addresses (a cloud's metadata service would hand out
//! credentials), and bounds time and size. One connection per request: these calls are rare.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, Response, Uri,
    header::{HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::InvalidDnsNameError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    Roots,
    client::{Client as Tls, ClientSpec, ConnectError, Host, Offer, Version},
};

/// How long a call may take, from the lookup of the name to the last byte of the answer.
const TIME: Duration = Duration::from_secs(5);
/// How long one of several addresses may take to be connected to.
const CONNECT: Duration = Duration::from_secs(2);
/// Who we are: ACME wants it to be said (RFC 8555 §6.1).
const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));
/// How long an answer's body may be.
const SIZE: usize = 1 << 20;

/// Sends requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// None: nobody is trusted, and nothing is sent over TLS.
    tls: Option<Tls>,
}

/// Equal when nobody can tell them apart.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        let identity = |client: &Self| client.tls.as_ref().map(Tls::identity);
        identity(self) == identity(other)
    }
}

impl Eq for Client {}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is not `http://` or `https://` with a host.
    #[error("{0} is no address of http or https")]
    Address(Uri),
    /// The host's name cannot be checked against a certificate.
    #[error("the host is no name")]
    Name(#[source] InvalidDnsNameError),
    /// The client trusts nobody, so that it cannot speak TLS.
    #[error("nobody is trusted to be the server")]
    NobodyTrusted,
    /// The host has no address.
    #[error("looking up {host}")]
    Resolve {
        /// The host.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The host is a link-local address, which is never called.
    #[error("{0} is a link-local address, which is not called")]
    LinkLocal(IpAddr),
    /// No connection.
    #[error("connecting to {address}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with {host}")]
    Handshake {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        source: ConnectError,
    },
    /// The exchange failed.
    #[error("the exchange with the server")]
    Exchange(#[source] hyper::Error),
    /// The answer is larger than 1 MiB.
    #[error("the answer is larger than {} KiB", SIZE >> 10)]
    TooLarge,
    /// No answer within 5 s.
    #[error("no answer within {} s", TIME.as_secs())]
    Timeout,
}

impl Client {
    /// A client that trusts `roots`.
    pub fn new(roots: Roots) -> Result<Self, rustls::Error> {
        let tls = Tls::new(ClientSpec {
            trust: Some(roots),
            sni: None,
            names: Vec::new(),
            certificate: None,
            min_version: Version::Tls12,
        })?;
        Ok(Self { tls: Some(tls) })
    }

    /// A client for `http://` alone.
    pub const fn plain() -> Self {
        Self { tls: None }
    }

    /// Sends `request`, whose address is absolute, and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        tokio::time::timeout(TIME, Box::pin(self.exchange(request)))
            .await
            .unwrap_or(Err(FetchError::Timeout))
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let uri = request.uri().clone();
        let wrong = || FetchError::Address(uri.clone());
        let (host, authority) = match (uri.host(), uri.authority()) {
            (Some(host), Some(authority)) if !host.is_empty() => (host, authority),
            _ => return Err(wrong()),
        };
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // Credentials in an address are nobody's habit here, and no part of a Host field.
        let named = authority.as_str();
        let named = named.rsplit_once('@').map_or(named, |(_, named)| named);
        let named = HeaderValue::from_str(named).map_err(|_| wrong())?;
        request.headers_mut().insert(HOST, named);
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| wrong())?;

        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = connect(host, port).await?;
        let request = request.map(Full::new);
        if !secure {
            return talk(stream, request).await;
        }
        let name = Host::new(host).map_err(FetchError::Name)?;
        let tls = self.tls.as_ref().ok_or(FetchError::NobodyTrusted)?;
        let shaken = tls.connect(stream, Some(&name), Offer::Http1).await;
        let (stream, _) = shaken.map_err(|source| FetchError::Handshake {
            host: host.to_owned(),
            source,
        })?;
        Box::pin(talk(stream, request)).await
    }
}

/// Connects to the first address of `host` that takes it.
async fn connect(host: &str, port: u16) -> Result<TcpStream, FetchError> {
    let unresolved = |source| FetchError::Resolve {
        host: host.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(unresolved)?.collect();
    let patience = if addresses.len() > 1 { CONNECT } else { TIME };
    let mut failure = None;
    for address in addresses {
        // What is checked is what is connected to: a name cannot change its mind in between.
        if is_link_local(address.ip()) {
            failure = Some(FetchError::LinkLocal(address.ip()));
            continue;
        }
        let connected = tokio::time::timeout(patience, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|late| Err(late.into()));
        match connected {
            Ok(stream) => return Ok(stream),
            Err(source) => failure = Some(FetchError::Connect { address, source }),
        }
    }
    Err(failure.unwrap_or_else(|| unresolved(io::ErrorKind::NotFound.into())))
}

fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// One request and its answer on a connection of its own.
async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(FetchError::Exchange)?;
    let answer = async {
        let answer = sender.send_request(request).await;
        read(answer.map_err(FetchError::Exchange)?).await
    };
    tokio::pin!(answer, connection);
    // The connection is driven from here, so that it ends with the call.
    tokio::select! {
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    // It has ended; what it read is still to be had, or says why there is nothing.
    answer.await
}

async fn read(answer: Response<Incoming>) -> Result<Response<Bytes>, FetchError> {
    let (parts, mut body) = answer.into_parts();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(FetchError::Exchange)?.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > SIZE {
            return Err(FetchError::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Response::from_parts(parts, whole.freeze()))
}
