//! Step 8: Sends a request on: chooses the upstream, makes its attempts, keeps its time.
//!
//! What must stay true: a request is repeated only where no origin can tell: on a connection that had
//! served before and died without a word, once; or where the origin refused it unseen, twice. And the
//! time of its rule bounds all of it.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use tokio::time::timeout_at;

use super::{exchange::Exchange, forwarded, normalize::strip_response, upload::Progress};
use crate::{
    error::{ProxyError, Retry},
    message::{Body, Request, Response},
    plan::{Destination, Split},
    telemetry::{
        attempt::WhyLast,
        metrics::{Counter, Event},
    },
    upstream::{Choice, Failed, Key, Lease, Manner, Upstream},
};

/// How often a request is sent whose endpoints refuse it unseen.
const MOST_ATTEMPTS: u32 = 3;

/// How long the second attempt waits after the endpoint refused the first, give or take a half by
/// chance; the third twice as long. Who refuses has too much to do, or is just leaving.
const BACK_OFF: Duration = Duration::from_millis(10);

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

/// Tries, and where that is safe tries once more.
async fn attempts(
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
    mut request: Request,
) -> Result<Response, ProxyError> {
    let local = std::rc::Rc::clone(&exchange.visitor.local);
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
        let lease = lease.inspect_err(|_| exchange.attempt.give_up(WhyLast::NotConnected))?;
        let endpoint = lease.endpoint_key();
        exchange.tell_trace(request.headers_mut());
        let spare = Spare::of(&request, lease.reused() && exchange.attempts == 1);
        let failed = match lease.send(request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if let Some(fault) = exchange.fault() {
            exchange.attempt.give_up(WhyLast::BodyBroken);
            return Err(fault.into());
        }
        let verdict = failed.error.verdict();
        // What was refused unseen may go anywhere; what died is asked where it died.
        choice = match verdict.retry {
            Retry::Always => Choice::Any,
            Retry::IfIdempotent | Retry::Never => Choice::FreshOf(endpoint),
        };
        request = again(exchange, failed, spare)?;
        exchange.attempt_failed(verdict.reason);
        local.counters.count(Counter::UpstreamRetries);
        upstream.traffic().count(local.worker, Event::Retry);
        if verdict.retry == Retry::Always {
            let pause = back_off(exchange.attempts, local.random());
            Box::pin(tokio::time::sleep(pause)).await;
        }
    }
}

/// How long to wait after so many attempts were refused.
fn back_off(attempts: u32, random: u64) -> Duration {
    let usual = BACK_OFF.saturating_mul(1 << attempts.saturating_sub(1).min(8));
    // From a half to one and a half.
    usual / 2 + usual.saturating_mul(u32::try_from(random % 1024).unwrap_or_default()) / 1024
}

/// The request for a second attempt, or the failure of the first.
fn again(
    exchange: &mut Exchange,
    failed: Failed,
    spare: Option<Spare>,
) -> Result<Request, ProxyError> {
    let unread = !exchange.upload().is_some_and(Progress::is_touched);
    let why = match (failed.error.verdict().retry, failed.request, spare) {
        (Retry::Never, _, _) => WhyLast::WouldNotHelp,
        // It was refused unseen.
        (Retry::Always, Some(request), _) if exchange.attempts < MOST_ATTEMPTS => {
            return Ok(*request);
        }
        (Retry::Always, None, _) => WhyLast::BodySent,
        _ if exchange.attempts > 1 => WhyLast::TriedAgain,
        _ if failed.answered => WhyLast::Answered,
        _ if !failed.reused => WhyLast::NewConnection,
        // It never left us.
        (_, Some(request), _) if unread => return Ok(*request),
        (_, None, Some(spare)) => return Ok(spare.into_request()),
        _ if !exchange.method.is_idempotent() => WhyLast::NotIdempotent,
        _ => WhyLast::BodySent,
    };
    exchange.attempt.give_up(why);
    Err(failed.error)
}

/// What it takes to say a request again that is on its way: method, target and fields, by reference.
/// Kept only where that may be needed, and without the cost of a second header map.
struct Spare {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    /// None where a repetition could be noticed, or is out of the question.
    fn of(request: &Request, wanted: bool) -> Option<Self> {
        // RFC 9110 §9.2.2.
        let idempotent = request.method().is_idempotent();
        if !wanted || !idempotent || !matches!(request.body(), Body::Empty) {
            return None;
        }
        let fields = request.headers().iter();
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields: fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    }

    fn into_request(self) -> Request {
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        let headers = request.headers_mut();
        headers.reserve(self.fields.len());
        for (name, value) in self.fields {
            headers.append(name, value);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_left_alone_for_a_little_longer_each_time() {
        for (attempts, least, most) in [(1, 5, 15), (2, 10, 30), (3, 20, 60)] {
            assert_eq!(back_off(attempts, 0), Duration::from_millis(least));
            assert!(back_off(attempts, 1023) < Duration::from_millis(most));
            assert!(back_off(attempts, u64::MAX) > Duration::from_millis(most - 1));
        }
        assert!(back_off(u32::MAX, u64::MAX) < Duration::from_secs(5));
    }
}
