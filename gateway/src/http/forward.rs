//! Step 8: Sends a request on: chooses the upstream, makes its attempts, keeps its time.
//!
//! What must stay true: each attempt is told of, another one follows only where [`Retries`] says so, and the
//! time of the rule bounds all of it.

mod retry;
mod spare;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use tokio::time::timeout_at;

use super::{exchange::Exchange, forwarded, normalize::strip_response};
use crate::{
    error::ProxyError,
    message::{Request, Response},
    plan::{Destination, Split},
    telemetry::{
        attempt::WhyLast,
        metrics::{Counter, Event},
    },
    upstream::{Choice, Key, Lease, Manner, Upstream},
};
use retry::{Ended, Retries};

/// Sends a normalised request to one of `split`. Gives the response with its hop-by-hop headers off.
pub(crate) async fn forward(
    exchange: &mut Exchange,
    split: &Split,
    timeout: Option<Duration>,
    request: Request,
) -> Result<Response, ProxyError> {
    let upstream = pick(exchange, split)?;
    let request = prepare(exchange, request);
    let deadline = timeout.and_then(|timeout| exchange.started.checked_add(timeout));
    let attempts = attempts(exchange, &upstream, request);
    let mut response = match deadline {
        None => attempts.await?,
        Some(deadline) => timeout_at(deadline, attempts)
            .await
            .unwrap_or(Err(ProxyError::RequestTimeout))
            .inspect_err(|error| {
                if matches!(error, ProxyError::RequestTimeout) {
                    exchange.attempt.give_up(WhyLast::OutOfTime);
                }
            })?,
    };
    exchange.attempt_answered(response.status());
    strip_response(response.headers_mut());
    Ok(response)
}

/// Asks the next hop for trailers, as the client asked us.
pub(crate) fn want_trailers(headers: &mut HeaderMap) {
    // RFC 9110 §10.1.4: whoever sends `TE` names it in `Connection`.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
}

fn pick(exchange: &mut Exchange, split: &Split) -> Result<Arc<Upstream>, ProxyError> {
    let random = exchange.visitor.local.random();
    match split.pick(random) {
        Some(Destination::Upstream(upstream)) => {
            exchange.send_to(upstream);
            Ok(Arc::clone(upstream))
        }
        Some(Destination::UnknownService(service)) => Err(ProxyError::UnknownService {
            service: service.clone(),
        }),
        None => Err(ProxyError::NoTarget),
    }
}

/// What the origin is to see.
fn prepare(exchange: &Exchange, request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    let downstream = exchange.downstream();
    // Outside nobody is to know who asks inside.
    if exchange.outward.is_none() {
        forwarded::announce(&mut parts, downstream, exchange.host(), exchange.port());
    }
    let facts = exchange.facts(&exchange.kept);
    exchange.filters().on_request(&facts, &mut parts);
    Request::from_parts(parts, body)
}

/// Tries, and where that is safe and wanted tries once more.
async fn attempts(
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
    mut request: Request,
) -> Result<Response, ProxyError> {
    let local = std::rc::Rc::clone(&exchange.visitor.local);
    let mut retries = Retries::of(exchange, &request);
    if retries.wants_body(&request) {
        Box::pin(retries.keep(&mut request)).await?;
    }
    let mut choice = Choice::Of(Key::of_client(exchange.downstream().client));
    loop {
        exchange.begin_attempt();
        let manner = Manner {
            dialect: upstream.dialect(request.headers()),
            header: upstream.introduction(&exchange.visitor.connection),
        };
        let lease = local.pools.lease(upstream, choice, manner).await;
        let endpoint = match &lease {
            Ok(lease) => Some(lease.endpoint_key()),
            Err(no) => no.endpoint.clone(),
        };
        // Without a connection, too, an endpoint was tried.
        if endpoint.is_some() {
            exchange.attempts = exchange.attempts.saturating_add(1);
            local.counters.count(Counter::UpstreamAttempts);
            upstream.traffic().count(local.worker, Event::Attempt);
        }
        exchange.endpoint = endpoint;
        exchange.reused = lease.as_ref().is_ok_and(Lease::reused);
        exchange.attempt.connected(exchange.reused);
        let (left, ended) = match lease {
            Err(no) => ((Some(request), None), Ended::NotConnected(no.error)),
            Ok(lease) => {
                exchange.tell_trace(request.headers_mut());
                retries.tell(request.headers_mut());
                let spare = retries.spare(&request, lease.reused());
                match retries.timed(lease, request).await {
                    Ok(response) if retries.refuses(&response) => {
                        ((None, spare), Ended::Answered(response))
                    }
                    Ok(response) => return Ok(response),
                    Err(mut failed) => {
                        if let Some(fault) = exchange.fault() {
                            exchange.attempt.give_up(WhyLast::BodyBroken);
                            return Err(fault.into());
                        }
                        let request = failed.request.take().map(|request| *request);
                        ((request, spare), Ended::Failed(failed))
                    }
                }
            }
        };
        let again = match retries.next(exchange, upstream, left, ended) {
            ControlFlow::Continue(again) => again,
            ControlFlow::Break(outcome) => return outcome,
        };
        exchange.attempt_failed(again.reason);
        local.counters.count(Counter::UpstreamRetries);
        upstream.traffic().count(local.worker, Event::Retry);
        (request, choice) = (again.request, again.choice);
        if let Some(pause) = again.pause {
            Box::pin(tokio::time::sleep(pause)).await;
        }
    }
}
