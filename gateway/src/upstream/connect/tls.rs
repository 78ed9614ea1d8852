//! TLS with an endpoint: the handshake, and what it says about the connection.

use sluice_certs::client::{ConnectError, Offer, Part, Version};
use tokio::time::Instant;

use super::super::{
    Upstream,
    endpoints::{Endpoint, Speech},
};
use crate::{stream::Stream, telemetry::metrics::Shard};

/// A stream that HTTP is spoken on, and which.
pub(super) struct Secured {
    pub(super) stream: Stream,
    pub(super) http2: bool,
}

/// Speaks TLS over `stream` where the upstream wants it. Takes as long as the peer likes: the caller
/// bounds it.
pub(super) async fn secure(
    upstream: &Upstream,
    endpoint: &Endpoint,
    offer: Offer,
    stream: Stream,
    counters: &Shard,
) -> Result<Secured, ConnectError> {
    let Some(tls) = &upstream.tls else {
        let http2 = offer == Offer::Http2;
        return Ok(Secured { stream, http2 });
    };
    let began = Instant::now();
    let host = match &endpoint.goal.speech {
        Speech::Tls(host) => host.as_ref(),
        Speech::Plain => None,
    };
    let connected = tls.client.connect(stream, host, offer).await;
    let (stream, handshake) = connected.inspect_err(|error| {
        refused(error, upstream, endpoint, counters);
    })?;
    let version = match handshake.version {
        Version::Tls12 => "TLSv1.2",
        Version::Tls13 => "TLSv1.3",
    };
    let (worker, resumed) = (counters.number(), handshake.resumed);
    tls.handshakes
        .succeeded(worker, version, resumed, began.elapsed());
    if endpoint.trouble.lock().take().is_some() {
        tracing::info!(upstream = %upstream.name(), endpoint = %endpoint.key, "TLS again");
    }
    Ok(Secured {
        stream: Stream::ToEndpoint(Box::new(stream)),
        http2: handshake.http2,
    })
}

/// Counts that there is no TLS with an endpoint, and says why, once until there is some or another
/// reason.
pub(in crate::upstream) fn refused(
    error: &ConnectError,
    upstream: &Upstream,
    endpoint: &Endpoint,
    counters: &Shard,
) {
    let part = error.part();
    if let Some(tls) = &upstream.tls {
        tls.handshakes.failed(counters.number(), word(part));
    }
    let (error, upstream): (&dyn std::error::Error, _) = (error, upstream.name());
    if endpoint.trouble.lock().replace(part) == Some(part) {
        tracing::debug!(error, %upstream, endpoint = %endpoint.key, "no TLS with an endpoint");
    } else {
        tracing::warn!(error, %upstream, endpoint = %endpoint.key, "no TLS with an endpoint");
    }
}

/// What a failure is counted as.
const fn word(part: Part) -> &'static str {
    match part {
        Part::Name => "name",
        Part::Issuer => "issuer",
        Part::Validity => "validity",
        Part::Certificate => "certificate",
        Part::ClientCertificate => "client_certificate",
        Part::Alpn => "alpn",
        Part::Handshake => "other",
    }
}
