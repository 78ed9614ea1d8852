//! Connects to the receiver of spans: over TCP, and with TLS where its URL says so.
//!
//! Both protocols get their connections here, so that there is one place that verifies whom spans are
//! sent to.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use sluice_certs::{
    Pair, PairError, Roots, RootsError,
    client::{Client, ClientSpec, ClientStream, Host, Offer, Version},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_util::either::Either;
use tonic::codegen::Service;

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// What TLS with a receiver is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    /// Issuers that are trusted; those of the system without it.
    pub(super) roots: Option<PathBuf>,
    /// Our certificate and its key.
    pub(super) pair: Option<(PathBuf, PathBuf)>,
}

/// Why there can be no TLS with a receiver.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody is trusted.
    #[error("there are no issuers to trust: {0}")]
    Roots(#[from] RootsError),
    /// Our certificate is none.
    #[error("our certificate cannot be used: {0}")]
    Pair(#[from] PairError),
    /// The settings do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Files {
    /// Reads them.
    fn client(&self) -> Result<Client, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| TlsError::File {
                path: path.clone(),
                source,
            })
        };
        let trust = match &self.roots {
            Some(path) => Roots::from_pem([read(path)?.as_slice()])?,
            None => Roots::system()?,
        };
        let pair = match &self.pair {
            Some((chain, key)) => Some(Pair::from_pem(&read(chain)?, &read(key)?)?),
            None => None,
        };
        Client::new(ClientSpec {
            trust: Some(trust),
            sni: None,
            names: Vec::new(),
            certificate: pair,
            min_version: Version::Tls12,
        })
        .map_err(|error| TlsError::Setup(error.to_string()))
    }
}

/// Connects to whatever a URL names.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: Option<Client>,
    offer: Offer,
}

impl Connector {
    /// For URLs like this one, to speak gRPC or HTTP/1.1.
    pub(super) fn new(url: &str, files: &Files, is_grpc: bool) -> Result<Self, TlsError> {
        let tls = url.starts_with("https://").then(|| files.client());
        Ok(Self {
            tls: tls.transpose()?,
            offer: if is_grpc { Offer::Http2 } else { Offer::Http1 },
        })
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Line>> {
        let host = uri.host().unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let port = match (uri.port_u16(), &self.tls) {
            (Some(port), _) => port,
            (None, Some(_)) => 443,
            (None, None) => 80,
        };
        let stream = TcpStream::connect((name, port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(TokioIo::new(Line(Either::Left(stream))));
        };
        let host = Host::new(name).map_err(io::Error::other)?;
        let connected = tls.connect(stream, Some(&host), self.offer).await;
        let (stream, _) = connected.map_err(io::Error::other)?;
        Ok(TokioIo::new(Line(Either::Right(Box::new(stream)))))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(CONNECT, self.clone().connect(uri));
        Box::pin(async move { connecting.await.map_err(io::Error::from)? })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line(Either<TcpStream, Box<ClientStream<TcpStream>>>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
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
