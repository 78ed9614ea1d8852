//! The way of a stream through another proxy: CONNECT to the name that its client says, at the port that it dialled.
//!
//! What must stay true: the other proxy has granted the tunnel before it gets a byte of the client; and it is asked
//! once more only where nobody can have gone out yet.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header, uri::Authority};

use crate::{
    egress::Target,
    error::{Malformed, ProxyError, Retry},
    l4::record::Record,
    message::{Body, Request},
    upstream::{Choice, EndpointKey, Key, Manner, NoLease, Raw, Upstream},
};

/// How often a proxy, or another one of the same upstream, is asked.
const MOST_ATTEMPTS: u32 = 3;

/// The other proxy does not let it out.
#[derive(Debug, thiserror::Error)]
#[error("it answered CONNECT with {0}")]
struct Refused(StatusCode);

/// One attempt that came to nothing.
struct Failed {
    no: NoLease,
    /// It was the first to find out that its connection is gone.
    stale: bool,
}

/// A tunnel to `target`, and what came through it already.
pub(super) async fn open(
    record: &mut Record,
    upstream: &Arc<Upstream>,
    (target, port): (&Target, u16),
) -> Result<(Raw, Bytes), ProxyError> {
    record.send_to(upstream);
    let authority: Authority = format!("{target}:{port}")
        .parse()
        .map_err(|_| ProxyError::BadRequest(Malformed::Target))?;
    let mut choice = Choice::Of(Key::of_client(record.connection.peer.ip()));
    let mut tried = Vec::new();
    loop {
        record.begin_attempt();
        let Failed { no, stale } = match attempt(record, upstream, choice, &authority).await {
            Ok((raw, ahead)) => {
                record.tried(Some(raw.endpoint().clone()), true);
                return Ok((raw, ahead));
            }
            Err(failed) => failed,
        };
        record.tried(no.endpoint.clone(), false);
        let verdict = no.error.verdict();
        let others = |tried: &[EndpointKey]| {
            let all = upstream.endpoints();
            all.iter().any(|it| !tried.contains(it))
        };
        choice = match no.endpoint {
            Some(endpoint) if stale => Choice::FreshOf(endpoint),
            endpoint if verdict.retry == Retry::Always => {
                tried.extend(endpoint);
                if !others(&tried) {
                    return Err(no.error);
                }
                Choice::Avoid(tried.clone())
            }
            Some(_) | None => return Err(no.error),
        };
        if record.attempts() >= MOST_ATTEMPTS {
            return Err(no.error);
        }
        record.tries_again(verdict.reason);
    }
}

async fn attempt(
    record: &Record,
    upstream: &Arc<Upstream>,
    choice: Choice,
    authority: &Authority,
) -> Result<(Raw, Bytes), Failed> {
    let fresh = |no| Failed { no, stale: false };
    let local = Rc::clone(&record.local);
    let request = request(authority).map_err(|error| fresh(error.into()))?;
    let manner = Manner {
        dialect: upstream.dialect(request.headers()),
        header: upstream.introduction(&record.connection),
    };
    let lease = local.pools.lease(upstream, choice, manner).await;
    let lease = lease.map_err(fresh)?;
    let endpoint = lease.endpoint_key();
    let response = lease.send(request).await.map_err(|failed| Failed {
        stale: failed.reused && !failed.answered,
        no: NoLease {
            error: failed.error,
            endpoint: Some(endpoint.clone()),
        },
    })?;
    let status = response.status();
    match response.into_body() {
        Body::Tunnel(tunnel) => Ok(Raw::tunnelled(*tunnel, endpoint)),
        Body::Empty | Body::Full(_) | Body::Stream(_) => Err(fresh(NoLease {
            error: ProxyError::UpstreamProtocol {
                upstream: upstream.name().clone(),
                source: Refused(status).into(),
            },
            endpoint: Some(endpoint),
        })),
    }
}

fn request(authority: &Authority) -> Result<Request, ProxyError> {
    let mut request = Request::new(Body::Empty);
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| ProxyError::BadRequest(Malformed::Target))?;
    request.headers_mut().insert(header::HOST, host);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(authority.clone());
    Ok(request)
}
