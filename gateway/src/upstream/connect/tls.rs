//! TLS with an endpoint: the handshake, and what it says about the connection.

use sluice_certs::client::{ConnectError, Offer, Part};
use sluice_config::names::UpstreamName;

use super::super::{
    Dialect, Upstream,
    endpoints::{Endpoint, Speech},
};
use crate::{
    stream::Stream,
    telemetry::metrics::{Counter, Shard},
};

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
    dialect: Dialect,
    stream: Stream,
    counters: &Shard,
) -> Result<Secured, ConnectError> {
    let Some(client) = &upstream.tls else {
        let http2 = dialect == Dialect::Http2;
        return Ok(Secured { stream, http2 });
    };
    let offer = match dialect {
        Dialect::Http1 => Offer::Http1,
        Dialect::Http2 => Offer::Http2,
        Dialect::Either => Offer::Either,
    };
    counters.count(Counter::UpstreamTlsHandshakes);
    let host = match &endpoint.goal.speech {
        Speech::Tls(host) => host.as_ref(),
        Speech::Plain => None,
    };
    let connecting = client.connect(stream, host, offer);
    let connected = connecting.await;
    let (stream, handshake) = connected.inspect_err(|error| {
        refused(error, upstream.name(), endpoint, counters);
    })?;
    if endpoint.trouble.lock().take().is_some() {
        tracing::info!(upstream = %upstream.name(), endpoint = %endpoint.key, "TLS again");
    }
    if handshake.resumed {
        counters.count(Counter::UpstreamTlsResumed);
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
    upstream: &UpstreamName,
    endpoint: &Endpoint,
    counters: &Shard,
) {
    let part = error.part();
    counters.count(failure(part));
    let error: &dyn std::error::Error = error;
    if endpoint.trouble.lock().replace(part) == Some(part) {
        tracing::debug!(error, %upstream, endpoint = %endpoint.key, "no TLS with an endpoint");
    } else {
        tracing::warn!(error, %upstream, endpoint = %endpoint.key, "no TLS with an endpoint");
    }
}

/// Where a failure is counted.
const fn failure(part: Part) -> Counter {
    match part {
        Part::Name => Counter::UpstreamTlsName,
        Part::Issuer => Counter::UpstreamTlsIssuer,
        Part::Validity => Counter::UpstreamTlsValidity,
        Part::Certificate => Counter::UpstreamTlsCertificate,
        Part::ClientCertificate => Counter::UpstreamTlsClientCertificate,
        Part::Alpn => Counter::UpstreamTlsAlpn,
        Part::Handshake => Counter::UpstreamTlsOther,
    }
}
