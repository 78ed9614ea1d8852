//! Asks the admin address of a running gateway: what the command line does.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluice_config::model::ControlAddress;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{error::BoxError, stream::Stream};

/// The largest answer that is read: the dump of a large configuration.
const LARGEST: usize = 256 << 20;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no address to ask.
    #[error("the admin address is off")]
    Off,
    /// Nobody is there.
    #[error("nobody answers at {0}; is the gateway running, and is this its admin address?")]
    Nobody(ControlAddress, #[source] io::Error),
    /// The answer took too long.
    #[error("no answer from {0} in time")]
    Timeout(ControlAddress),
    /// Somebody is there who does not answer as a gateway does.
    #[error("no answer that makes sense from {0}")]
    Strange(ControlAddress, #[source] BoxError),
}

/// Asks for `path` and waits at most `patience`.
pub async fn ask(
    address: &ControlAddress,
    (method, path): (Method, &str),
    (kind, body): (&'static str, String),
    patience: Duration,
) -> Result<Answer, AskError> {
    let asking = async {
        let stream = match address {
            ControlAddress::Off => return Err(AskError::Off),
            ControlAddress::Tcp(it) => TcpStream::connect(it).await.map(Stream::Tcp),
            ControlAddress::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        };
        let stream = stream.map_err(|error| AskError::Nobody(address.clone(), error))?;
        let host = match address {
            ControlAddress::Tcp(address) => address.to_string(),
            ControlAddress::Off | ControlAddress::Unix(_) => "localhost".to_owned(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, kind)
            .body(Full::from(body));
        let answer = async { exchange(stream, request?).await };
        answer
            .await
            .map_err(|error| AskError::Strange(address.clone(), error))
    };
    timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(AskError::Timeout(address.clone())))
}

async fn exchange(stream: Stream, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    // When the connection fails, so does the answer, which knows more about it.
    let carried = async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection broke off");
        }
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = carried => never,
    }
}
