//! Asks an endpoint once whether it is well, on a connection of its own that is closed behind it.
//!
//! Spoken as to clients' requests: the same TLS, the same kind of PROXY header, the same settings of the
//! socket. What must stay true: whatever an endpoint sends, what is kept of it is bounded; how long it may
//! take, the caller bounds.

use std::net::SocketAddr;

use bytes::Bytes;
use sluice_certs::client::Offer;
use sluice_config::model::{HealthCheck, ProxyVersion, Question, TcpCheck, UpstreamProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    super::{
        Upstream,
        endpoints::{Endpoint, Speech, Target},
    },
    Connector, is_out_of_descriptors,
    question::{self, Asked, Unwell, contains},
    startup::ask_for_tls,
};
use crate::{
    downstream::proxy_protocol::{About, Header, Version},
    pressure::Pressure,
    stream::Stream,
};

/// What is read of what an endpoint says on a connection, to find a text in it.
const SAID: usize = 4 * 1024;

/// Asks `endpoint` once.
pub(in crate::upstream) async fn ask(
    upstream: &Upstream,
    endpoint: &Endpoint,
    check: &HealthCheck,
    connector: &Connector,
) -> Result<(), Unwell> {
    let offer = match (&check.question, upstream.model.protocol) {
        (Question::Tcp(_), _) => Offer::Nothing,
        (Question::Grpc(_), _) | (Question::Http(_), UpstreamProtocol::Http2) => Offer::Http2,
        (Question::Http(_), UpstreamProtocol::Http1) => Offer::Http1,
        (Question::Http(_), UpstreamProtocol::Auto) => Offer::Either,
    };
    let (mut stream, http2) = open(upstream, endpoint, (check.port, offer), connector).await?;
    match &check.question {
        Question::Tcp(tcp) => said(tcp, &mut stream).await,
        Question::Http(http) => {
            let asked = Asked::new(upstream, endpoint, http.host.as_deref());
            if http2 {
                Box::pin(question::http2(http, &asked, stream)).await
            } else {
                Box::pin(question::http1(http, &asked, stream)).await
            }
        }
        Question::Grpc(grpc) => {
            let asked = Asked::new(upstream, endpoint, grpc.host.as_deref());
            Box::pin(question::grpc(grpc, &asked, stream)).await
        }
    }
}

/// A connection to `endpoint`, and whether HTTP/2 is spoken on it.
async fn open(
    upstream: &Upstream,
    endpoint: &Endpoint,
    (port, offer): (Option<u16>, Offer),
    connector: &Connector,
) -> Result<(Stream, bool), Unwell> {
    let target = target(endpoint, port);
    let settings = (&upstream.model.socket, false);
    // Checks are few, and more urgent than a client: they may take a descriptor of the reserve.
    let pressure = Pressure::default();
    let opening = connector.open(&target, settings, &pressure);
    let mut stream = opening.await.map_err(|error| {
        if is_out_of_descriptors(&error) {
            Unwell::NoDescriptor
        } else {
            Unwell::Connect(error)
        }
    })?;
    if let Some(version) = upstream.model.proxy_protocol {
        let header = introduction(version);
        stream.write_all(&header).await.map_err(Unwell::Broken)?;
    }
    let Some(tls) = &upstream.tls else {
        return Ok((stream, offer == Offer::Http2));
    };
    if upstream.model.startup.is_some() {
        ask_for_tls(&mut stream).await.map_err(Unwell::Startup)?;
    }
    let host = match &endpoint.goal.speech {
        Speech::Tls(host) => host.as_ref(),
        Speech::Plain => None,
    };
    let connected = tls.client.connect(stream, host, offer).await;
    let (stream, handshake) = connected.map_err(Unwell::Tls)?;
    Ok((Stream::ToEndpoint(Box::new(stream)), handshake.http2))
}

/// Where `endpoint` is asked.
fn target(endpoint: &Endpoint, port: Option<u16>) -> Target {
    match (&endpoint.goal.target, port) {
        (Target::Tcp(address), Some(port)) => Target::Tcp(SocketAddr::new(address.ip(), port)),
        (Target::Memory(name), Some(port)) => {
            let host = name.rsplit_once(':').map_or(&**name, |(host, _)| host);
            Target::Memory(format!("{host}:{port}").into())
        }
        (target, _) => target.clone(),
    }
}

/// That there is no client.
fn introduction(version: ProxyVersion) -> Bytes {
    let header = Header {
        about: About::Proxy,
        extras: Bytes::new(),
    };
    header.write(match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    })
}

/// Sends a text, and waits for another.
async fn said(check: &TcpCheck, stream: &mut Stream) -> Result<(), Unwell> {
    if let Some(text) = &check.send {
        let sent = stream.write_all(text.as_bytes()).await;
        sent.map_err(Unwell::Broken)?;
        stream.flush().await.map_err(Unwell::Broken)?;
    }
    let Some(text) = &check.expect else {
        return Ok(());
    };
    let mut heard = Vec::new();
    let mut piece = [0; 512];
    while heard.len() < SAID {
        let read = stream.read(&mut piece).await.map_err(Unwell::Broken)?;
        if read == 0 {
            break;
        }
        heard.extend_from_slice(piece.get(..read).unwrap_or_default());
        if contains(&heard, text) {
            return Ok(());
        }
    }
    Err(Unwell::Text)
}
