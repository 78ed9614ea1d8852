//! Step 4: Takes the plan, calls the steps, always answers, always logs.
//!
//! [`handle`] turns every outcome into an answer; [`answer`] is the list of steps. What must stay true:
//! a panic loses its own request and no other, no byte of an unread body is ever read as a request,
//! and response filters see every answer, refusals included.

mod fault;

use std::{panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use sluice_certs::Pending;
use sluice_config::model::Mode;

use super::{
    download::{self, Download},
    exchange::{Chosen, Exchange, Visitor},
    forward::{self, forward},
    forwarded,
    normalize::normalize,
    outward::{self, attempt::Attempt},
    respond, upgrade,
    upload::{self, Progress},
};
use crate::{
    error::ProxyError,
    filter::{self, Rpc},
    message::{Body, Request, Response},
    plan::{Action, Opening, Question},
    telemetry::metrics::{Counter, Shard},
};

/// An unread body up to this size is read and thrown away to keep the connection.
const DRAIN: u64 = 16 << 10;

/// A body that small is here, or on its way; longer than this nobody waits for it.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Answers one request. `upload` tells about its body; none when it has none.
pub(crate) async fn handle(
    visitor: &Rc<Visitor>,
    request: Request,
    upload: Option<Rc<Progress>>,
) -> Response {
    let (parts, mut body) = request.into_parts();
    let asks_first = parts.headers.contains_key(header::EXPECT);
    let upgrades = parts.headers.contains_key(header::UPGRADE);
    let mut exchange = Exchange::begin(visitor, &parts, upload);
    let steps = answer(&mut exchange, parts, &mut body);
    let outcome = isolated(steps, &visitor.local.counters).await;
    let outcome = outcome.and_then(|response| upgrade::hold(&exchange, response));
    let failed = outcome.is_err();
    // Who sends one malformed request is not trusted to frame the next; and where memory is short its
    // connection shall give back what it holds.
    let ends = matches!(
        outcome,
        Err(ProxyError::BadRequest(_) | ProxyError::Overloaded)
    );
    if matches!(outcome, Err(ProxyError::Overloaded)) {
        visitor.phase.leave();
    }
    let response = outcome.unwrap_or_else(|error| refuse(&mut exchange, &error));
    // A client that asks before it sends must not be told to go on by our reading the rest.
    let small = body.size_hint().upper().is_some_and(|size| size <= DRAIN);
    // Where other requests share the connection, what nobody reads is in nobody's way.
    if small && !asks_first && !exchange.is_stream() && !matches!(body, Body::Empty) {
        // Whether it worked stands in the upload's progress.
        let _in_time = tokio::time::timeout(DRAIN_TIME, drain(&mut body)).await;
    }
    // What is still here nobody will read, and what failed on its way neither.
    let unread = (failed || !matches!(body, Body::Empty))
        && exchange.upload().is_some_and(|upload| !upload.is_ended());
    drop(body);
    // What follows may be meant for the protocol that the client did not get.
    let beyond = upgrade::is_refused(&exchange, response.status()) || (failed && upgrades);
    finish(exchange, response, unread || ends || beyond)
}

/// A panic ends its own request. What it left behind is that request's alone, and is dropped with it.
fn isolated<'a>(
    steps: impl Future<Output = Result<Response, ProxyError>> + 'a,
    counters: &'a Shard,
) -> impl Future<Output = Result<Response, ProxyError>> + 'a {
    let caught = AssertUnwindSafe(steps).catch_unwind();
    caught.map(|outcome| {
        outcome.unwrap_or_else(|_panic| {
            counters.count(Counter::Panics);
            Err(ProxyError::Internal)
        })
    })
}

/// The steps, in the order of `docs/data-path.md`. `body` is taken by whoever sends it on.
async fn answer(
    exchange: &mut Exchange,
    mut parts: Parts,
    body: &mut Body,
) -> Result<Response, ProxyError> {
    let visitor = Rc::clone(&exchange.visitor);
    let (listener, local) = (&visitor.listener.model, &visitor.local);
    if local.pressure.is_overloaded() {
        return Err(ProxyError::Overloaded);
    }

    exchange.outward = Attempt::of(listener, &visitor.connection, &parts);
    let normalized = normalize(&mut parts, listener)?;
    let dropped = u64::try_from(normalized.underscores_dropped).unwrap_or(u64::MAX);
    local
        .counters
        .add(Counter::UnderscoreHeadersDropped, dropped);
    let trailers = normalized.trailers;
    let sender = forwarded::downstream(&mut parts, &visitor.connection, listener, new_id);
    exchange.learn(&parts, normalized, sender);
    if exchange.outward.is_some() {
        limit_body(exchange, body)?;
        end_of_nothing(body).await?;
        return Box::pin(outward::answer(exchange, parts, body, trailers)).await;
    }
    is_addressed(exchange)?;

    if let Some(answer) = validation(exchange, &parts).await {
        return Ok(answer);
    }
    if let Some(redirect) = listener.https_redirect
        && let Some(location) =
            filter::https_redirect(redirect, exchange.downstream(), exchange.host(), &parts.uri)
    {
        return Ok(respond::redirect(redirect.status, location));
    }

    choose(exchange, &parts)?;
    limit_body(exchange, body)?;
    end_of_nothing(body).await?;
    exchange.kept = exchange.filters().kept(&parts.headers);
    if let Some(harm) = fault::meant(exchange, &parts.headers) {
        Box::pin(fault::suffer(exchange, harm)).await?;
    }

    let Some(rule) = exchange.chosen.as_ref().map(|it| Arc::clone(&it.rule)) else {
        return Err(ProxyError::NoRoute);
    };
    match &rule.action {
        Action::Forward(split) => {
            let wish = upgrade::asked(exchange, &parts.method)?;
            let web = exchange.web().filter(|_| wish.is_none());
            if let Some(wish) = wish {
                upgrade::ask(exchange, wish, &mut parts, body)?;
            } else if trailers || web.is_some() {
                forward::want_trailers(&mut parts.headers);
            }
            let mut request = Request::from_parts(parts, std::mem::take(body));
            if let Some((form, _)) = web {
                request = upload::from_web(request, form, exchange.upload.clone());
            }
            let response = forward(exchange, split, rule.timeout, request).await?;
            Ok(match web {
                None => response,
                Some((_, form)) => download::into_web(response, form),
            })
        }
        Action::Redirect(redirect) => {
            let location = filter::redirect(redirect, &exchange.facts(&parts.headers));
            Ok(respond::redirect(redirect.status, location))
        }
        Action::Respond(respond) => Ok(respond::respond(respond, exchange, &parts.headers)),
        Action::Refused => Err(ProxyError::ConfigRefused),
    }
}

/// Whether a request may come over its connection: browsers send what is for several hosts over one,
/// as long as its certificate is for them (RFC 9113 §9.1.1).
fn is_addressed(exchange: &Exchange) -> Result<(), ProxyError> {
    let session = exchange.visitor.connection.tls.as_ref();
    let asked = session.zip(exchange.host());
    match asked {
        Some((session, host)) if !session.covers(host) => Err(ProxyError::Misdirected),
        _ => Ok(()),
    }
}

/// The answer for the validating server of an issuer, where one is pending: for this very path under this
/// very host, over plain HTTP (RFC 8555 §8.3). Any other request is one like all others.
async fn validation(exchange: &mut Exchange, parts: &Parts) -> Option<Response> {
    let token = Pending::token(parts.uri.path())?;
    let asks = matches!(parts.method, Method::GET | Method::HEAD);
    if !asks || exchange.visitor.listener.tls.is_some() {
        return None;
    }
    let pending = Arc::clone(&exchange.visitor.local.plan().pending);
    let found = Box::pin(pending.find_http(exchange.host()?, token)).await?;
    exchange.validates();
    Some(respond::validation(&found))
}

/// Finds the rule. Of the plan the request keeps what it needs, so that a reload can free the rest.
fn choose(exchange: &mut Exchange, parts: &Parts) -> Result<(), ProxyError> {
    let plan = exchange.visitor.local.plan();
    let question = Question {
        mode: Mode::Http,
        host: exchange.host(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: parts.method.as_str(),
        headers: &parts.headers,
        client: exchange.downstream().client,
        opening: Opening::plain(exchange.visitor.connection.local),
    };
    let visitor = &exchange.visitor;
    let found = plan.find(&visitor.connection.listener, &question)?;
    if !plan.admits(found.route, &visitor.connection, &visitor.listener) {
        return Err(ProxyError::Misdirected);
    }
    let chosen = Chosen {
        version: plan.version.clone(),
        route: Arc::clone(found.route),
        rule: Arc::clone(found.rule),
        filters: Arc::clone(found.filters),
        matched: found.matched,
    };
    exchange.choose(chosen);
    Ok(())
}

/// Refuses what is announced as too large; what is not announced is counted as it comes.
fn limit_body(exchange: &Exchange, body: &Body) -> Result<(), ProxyError> {
    let limit = exchange.filters().max_body();
    if let Some(upload) = exchange.upload() {
        upload.allow(limit, exchange.downstream().trusted);
    }
    match limit {
        Some(limit) if body.size_hint().lower() > limit => Err(ProxyError::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

/// Over HTTP/2 something may follow where nothing was promised, which makes the request malformed (RFC 9113
/// §8.1.1). An origin would have all of it before that is known, so its end is waited for.
async fn end_of_nothing(body: &mut Body) -> Result<(), ProxyError> {
    if body.size_hint().exact() == Some(0) && !body.is_end_stream() {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        *body = Body::Empty;
    }
    Ok(())
}

/// An answer to a failure.
fn refuse(exchange: &mut Exchange, error: &ProxyError) -> Response {
    let cause: &dyn std::error::Error = error;
    tracing::debug!(request = %exchange.downstream().request_id(), cause, "refused");
    exchange.fail(error);
    let counters = &exchange.visitor.local.counters;
    counters.count(Counter::RequestsRefused);
    match exchange.rpc() {
        Some(rpc) => respond::grpc_refusal(error, rpc),
        None if exchange.outward.is_some() => outward::refusal(exchange, error),
        None => respond::refusal(error.verdict().status, exchange.accept.as_ref()),
    }
}

async fn drain(body: &mut Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// The answer as it goes out, and with its body the exchange to its end.
fn finish(mut exchange: Exchange, response: Response, last: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    let facts = exchange.facts(&exchange.kept);
    exchange.filters().on_response(&facts, &mut parts.headers);
    if let Body::Tunnel(tunnel) = &body {
        upgrade::grant(&exchange, tunnel, &mut parts);
    }
    if exchange.is_stream() {
        // Its connection is told to end by other means.
        parts.version = Version::HTTP_2;
    } else {
        parts.version = Version::HTTP_11;
        if last || exchange.visitor.listener.is_ending() {
            let close = HeaderValue::from_static("close");
            parts.headers.insert(header::CONNECTION, close);
        }
    }
    if let Some(upload) = exchange.upload() {
        upload.converse();
        if exchange.is_stream() {
            upload.be_patient();
        }
    }
    exchange.answered(parts.status);
    let body = match body {
        Body::Tunnel(tunnel) => {
            upgrade::accept(exchange, tunnel);
            return Response::from_parts(parts, Body::Empty);
        }
        body => body,
    };

    let bodiless = exchange.method == Method::HEAD
        || matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
        || body.is_end_stream();
    let body = match body {
        _ if bodiless => Body::Empty,
        Body::Full(bytes) if !exchange.is_stream() => {
            exchange.sent(&bytes);
            Body::Full(bytes)
        }
        body => {
            let call = exchange.hears_trailers()
                && Rpc::read(&parts.headers) == Some(Rpc::Grpc)
                && !parts.headers.contains_key(header::CONTENT_LENGTH);
            let timeout = exchange.chosen.as_ref().and_then(|it| it.rule.timeout);
            let deadline = timeout.and_then(|timeout| exchange.started.checked_add(timeout));
            let download = Download::new(body, exchange, deadline, call);
            return Response::from_parts(parts, Body::stream(download));
        }
    };
    exchange.end();
    Response::from_parts(parts, body)
}

/// A request id: 128 bits by chance, as in trace contexts. From the generator for secrets: nobody may
/// tell the next one from the last.
fn new_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random: [u8; 16] = rand::random();
    let mut text = [b'0'; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
        for (place, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *place = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
    // Cloned at least once: it goes to the origin, too.
    let shared = Bytes::from_owner(text);
    HeaderValue::from_maybe_shared(shared).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an `async fn` returns.
    fn size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_under_way_is_small() {
        let size = size(handle);
        assert!((1_000..4_000).contains(&size), "{size} bytes");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_own_request() {
        let metrics = crate::telemetry::metrics::Metrics::new(1);
        let counters = metrics.worker(0);
        let steps = async { panic!("on purpose") };

        let outcome = isolated(steps, &counters).await;

        assert!(matches!(outcome, Err(ProxyError::Internal)));
        assert_eq!(metrics.sum(Counter::Panics), 1);
    }
}
