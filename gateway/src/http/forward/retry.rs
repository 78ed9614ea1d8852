//! When a request is sent once more, and what that takes.
//!
//! What must stay true: what may have had an effect is repeated only where its method, its sender or its
//! rule says that it may be. Two repetitions need no rule: on a connection that had served before and died
//! without a word, once; and after a refusal unseen.

use std::{
    ops::ControlFlow,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::{FutureExt as _, future::Either};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use sluice_config::model::{BackOff, Retry, RetryOn};
use tokio::time::timeout;

use super::spare::Spare;
use crate::{
    error::{self, ProxyError},
    http::{exchange::Exchange, upload::Progress},
    message::{Body, Request, Response},
    telemetry::attempt::WhyLast,
    upstream::{Choice, EndpointKey, Failed, Lease, Upstream},
};

/// Which attempt it is, as other proxies say it.
const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// What holds where nothing is written.
static USUAL: LazyLock<Retry> = LazyLock::new(Retry::default);

/// How an attempt ended that may be followed by another one.
#[derive(Debug)]
pub(super) enum Ended {
    /// There was no connection to be had; nothing was sent.
    NotConnected(ProxyError),
    /// There was no answer.
    Failed(Failed),
    /// There was one, which will not do.
    Answered(Response),
}

/// Another attempt.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) request: Request,
    pub(super) choice: Choice,
    pub(super) pause: Option<Duration>,
    /// Why the last one was not enough, for the trace.
    pub(super) reason: &'static str,
}

/// The retries of one request.
#[derive(Debug)]
pub(super) struct Retries {
    policy: Option<Arc<Retry>>,
    /// Whether its endpoint may be asked again after it may have acted on it.
    repeatable: bool,
    /// Endpoints that were tried.
    tried: Vec<EndpointKey>,
    made: u32,
}

impl Retries {
    pub(super) fn of(exchange: &Exchange, request: &Request) -> Self {
        // Whoever sent it repeats it, too; both together would multiply.
        let policy = exchange.filters().retry().cloned();
        let policy = match policy {
            Some(_) if request.headers().contains_key(ATTEMPT) => None,
            policy => policy,
        };
        let allowed = policy.as_ref().is_some_and(|policy| policy.non_idempotent);
        // RFC 9110 §9.2.2; and who sends a key sees to it that its request is taken once.
        let repeatable = allowed
            || request.method().is_idempotent()
            || request.headers().contains_key("idempotency-key");
        Self {
            policy,
            repeatable,
            tried: Vec::new(),
            made: 0,
        }
    }

    fn policy(&self) -> &Retry {
        self.policy.as_deref().unwrap_or(&USUAL)
    }

    /// Tells the endpoint which attempt it is, where a rule has written when to retry: so the next hop need
    /// not repeat what we will.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if self.policy.as_deref().is_some_and(|it| it.attempts > 0) {
            let number = HeaderValue::from(self.made.saturating_add(1));
            headers.insert(ATTEMPT, number);
        }
    }

    /// Sends a request, for as long as one attempt may take. Not `async`: what has no such limit costs no
    /// more room than the sending itself.
    pub(super) fn timed(
        &self,
        lease: Lease,
        request: Request,
    ) -> impl Future<Output = Result<Response, Failed>> + use<> {
        let policy = self.policy.as_deref();
        let Some(limit) = policy.and_then(|it| it.per_try_timeout.get()) else {
            return Either::Left(lease.send(request));
        };
        let reused = lease.reused();
        let sent = timeout(limit, lease.send(request));
        Either::Right(Box::pin(sent.map(move |sent| {
            sent.unwrap_or_else(|_| {
                Err(Failed {
                    error: ProxyError::TryTimeout,
                    request: None,
                    reused,
                    answered: false,
                })
            })
        })))
    }

    /// Whether there may be a retry after the endpoint has seen the request.
    fn repeats_seen(&self) -> bool {
        let Some(policy) = self.policy.as_deref() else {
            return false;
        };
        let mut on = policy.on.iter();
        policy.attempts > 0
            && (!policy.headers.is_empty() || on.any(|condition| !condition.is_harmless()))
    }

    /// Whether the body is small enough to be kept, and may have to be sent again.
    pub(super) fn wants_body(&self, request: &Request) -> bool {
        if !self.repeats_seen() || !matches!(request.body(), Body::Stream(_)) {
            return false;
        }
        let most = u64::try_from(self.policy().max_body).unwrap_or(u64::MAX);
        let known = http_body::Body::size_hint(request.body()).exact();
        known.is_some_and(|size| size <= most) && self.may_repeat(request.headers())
    }

    /// Reads the body whole, so that it can be sent again.
    pub(super) async fn keep(&self, request: &mut Request) -> Result<(), ProxyError> {
        let body = std::mem::take(request.body_mut());
        let whole = body.collect().await?;
        if whole.trailers().is_none() {
            *request.body_mut() = Body::from(whole.to_bytes());
            return Ok(());
        }
        // What ends with trailers is sent as it came, once.
        *request.body_mut() = Body::stream(whole.map_err(|never| match never {}));
        Ok(())
    }

    /// A call of gRPC whose status is a condition is one that the rule says to repeat.
    fn may_repeat(&self, headers: &HeaderMap) -> bool {
        let names_grpc = || {
            let mut on = self.policy().on.iter();
            on.any(|condition| matches!(condition, RetryOn::Grpc(_)))
        };
        self.repeatable || (is_grpc(headers) && names_grpc())
    }

    /// What it takes to send `request` again, where that may come to pass.
    pub(super) fn spare(&self, request: &Request, reused: bool) -> Option<Spare> {
        let died = reused && self.made == 0 && request.method().is_idempotent();
        let rule = self.repeats_seen()
            && self.made < self.policy().attempts
            && self.may_repeat(request.headers());
        (died || rule).then(|| Spare::of(request)).flatten()
    }

    /// Whether an answer will not do, and another attempt may be made.
    pub(super) fn refuses(&self, response: &Response) -> bool {
        let Some(policy) = self.policy.as_deref() else {
            return false;
        };
        if self.made >= policy.attempts || is_upgrade(response) {
            return false;
        }
        let headers = response.headers();
        let status = response.status();
        let mut named = policy.headers.iter();
        named.any(|name| headers.contains_key(name.as_str()))
            || policy
                .on
                .iter()
                .any(|condition| holds_for(*condition, status, headers))
    }

    /// The next attempt, or why there is none. An answer that is not replaced by another one stands.
    pub(super) fn next(
        &mut self,
        exchange: &mut Exchange,
        upstream: &Upstream,
        (request, spare): (Option<Request>, Option<Spare>),
        ended: Ended,
    ) -> ControlFlow<Result<Response, ProxyError>, Again> {
        self.tried.extend(exchange.endpoint.clone());
        let step = match &ended {
            Ended::NotConnected(error) => self.after_no_connection(upstream, error, request),
            Ended::Failed(failed) => self.after_failure(exchange, failed, request, spare),
            Ended::Answered(_) => spare
                .map(|spare| (spare.into_request(), self.elsewhere(), true))
                .ok_or(WhyLast::BodySent),
        };
        let reason = match &ended {
            Ended::NotConnected(error) => error.verdict().reason,
            Ended::Failed(failed) => failed.error.verdict().reason,
            Ended::Answered(_) => "answered",
        };
        match step {
            Ok((request, choice, pauses)) => {
                self.made = self.made.saturating_add(1);
                let random = exchange.visitor.local.random();
                let pause = pauses.then(|| pause(self.policy().back_off, self.made, random));
                ControlFlow::Continue(Again {
                    request,
                    choice,
                    pause,
                    reason,
                })
            }
            Err(why) => {
                exchange.attempt.give_up(why);
                ControlFlow::Break(match ended {
                    Ended::NotConnected(error) => Err(error),
                    Ended::Failed(failed) => Err(failed.error),
                    Ended::Answered(response) => Ok(response),
                })
            }
        }
    }

    fn elsewhere(&self) -> Choice {
        Choice::Avoid(self.tried.clone())
    }

    /// Nothing was sent; another endpoint may do better. The same one would be no faster.
    fn after_no_connection(
        &self,
        upstream: &Upstream,
        error: &ProxyError,
        request: Option<Request>,
    ) -> Result<(Request, Choice, bool), WhyLast> {
        let policy = self.policy();
        let may = error.verdict().retry == error::Retry::Always
            && self.made < policy.attempts
            && policy.on.iter().any(|on| {
                matches!(
                    on,
                    RetryOn::ConnectFailure | RetryOn::GatewayError | RetryOn::ServerError
                )
            });
        let request = request.filter(|_| may && upstream.has_besides(&self.tried));
        let request = request.ok_or(WhyLast::NotConnected)?;
        Ok((request, self.elsewhere(), true))
    }

    fn after_failure(
        &self,
        exchange: &Exchange,
        failed: &Failed,
        unsent: Option<Request>,
        spare: Option<Spare>,
    ) -> Result<(Request, Choice, bool), WhyLast> {
        let unread = !exchange.upload().is_some_and(Progress::is_touched);
        let endpoint = exchange.endpoint.clone();
        let kind = failed.error.verdict().retry;
        let policy = self.policy();
        let more = self.made < policy.attempts;
        if kind == error::Retry::Always {
            // It was refused unseen.
            let named = policy.on.iter().any(|on| {
                matches!(
                    on,
                    RetryOn::RefusedStream | RetryOn::GatewayError | RetryOn::ServerError
                )
            });
            return match unsent.or_else(|| spare.map(Spare::into_request)) {
                Some(request) if more && named => Ok((request, Choice::Any, true)),
                Some(_) if !named => Err(WhyLast::WouldNotHelp),
                Some(_) => Err(WhyLast::TriedAgain),
                None => Err(WhyLast::BodySent),
            };
        }
        // What took too long has not died.
        let died = failed.reused
            && !failed.answered
            && self.made == 0
            && kind == error::Retry::IfIdempotent
            && !matches!(failed.error, ProxyError::TryTimeout);
        let fresh = endpoint.map_or(Choice::Any, Choice::FreshOf);
        let (unsent, spare) = match (unsent, spare) {
            // What died of old age is asked again where it died, at once.
            (Some(request), _) if died && unread => {
                return Ok((request, fresh, false));
            }
            (None, Some(spare)) if died && exchange.method.is_idempotent() => {
                return Ok((spare.into_request(), fresh, false));
            }
            rest => rest,
        };
        let mut on = policy.on.iter();
        let sent = unsent.is_none();
        let named = on.any(|condition| condition_holds(*condition, &failed.error, sent));
        match unsent.or_else(|| spare.map(Spare::into_request)) {
            Some(request) if more && named => Ok((request, self.elsewhere(), true)),
            _ if kind == error::Retry::Never && !named => Err(WhyLast::WouldNotHelp),
            _ if self.made > 0 => Err(WhyLast::TriedAgain),
            _ if failed.answered => Err(WhyLast::Answered),
            _ if !failed.reused && !named => Err(WhyLast::NewConnection),
            _ if !self.repeatable => Err(WhyLast::NotIdempotent),
            _ => Err(WhyLast::BodySent),
        }
    }
}

/// By chance up to a bound that doubles with each retry (full jitter): who fails together shall not come
/// back together.
fn pause(back_off: BackOff, made: u32, random: u64) -> Duration {
    let doubled = 1_u32
        .checked_shl(made.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let most = back_off.base.saturating_mul(doubled).min(back_off.max);
    most.saturating_mul(u32::try_from(random % 1024).unwrap_or_default()) / 1024
}

fn is_upgrade(response: &Response) -> bool {
    matches!(response.body(), Body::Tunnel(_))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether an answer is what a condition speaks of.
fn holds_for(condition: RetryOn, status: StatusCode, headers: &HeaderMap) -> bool {
    let number = status.as_u16();
    match condition {
        RetryOn::ServerError => status.is_server_error(),
        RetryOn::GatewayError => (502..=504).contains(&number),
        RetryOn::Conflict => number == 409,
        RetryOn::Status(named) => number == named,
        RetryOn::Grpc(named) => {
            let said = headers.get("grpc-status");
            said.is_some_and(|said| said.as_bytes() == named.code().as_bytes())
        }
        RetryOn::Reset
        | RetryOn::ResetBeforeRequest
        | RetryOn::ConnectFailure
        | RetryOn::RefusedStream => false,
    }
}

/// Whether the lack of an answer is what a condition speaks of.
fn condition_holds(condition: RetryOn, error: &ProxyError, sent: bool) -> bool {
    let lost = matches!(
        error,
        ProxyError::UpstreamReset { .. }
            | ProxyError::ResponseTimeout { .. }
            | ProxyError::TryTimeout
            | ProxyError::UpstreamStalled { .. }
    );
    match condition {
        RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Reset => lost,
        RetryOn::ResetBeforeRequest => lost && !sent,
        RetryOn::ConnectFailure
        | RetryOn::RefusedStream
        | RetryOn::Conflict
        | RetryOn::Grpc(_)
        | RetryOn::Status(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use sluice_config::model::GrpcStatus;

    use super::*;

    #[test]
    fn pauses_are_by_chance_and_double_up_to_a_bound() {
        let back_off = BackOff {
            base: Duration::from_millis(100),
            max: Duration::from_millis(300),
        };
        for (made, most) in [(1, 100), (2, 200), (3, 300), (4, 300), (u32::MAX, 300)] {
            assert_eq!(pause(back_off, made, 0), Duration::ZERO);
            let half = pause(back_off, made, 512);
            assert_eq!(half, Duration::from_millis(most) / 2, "{made}");
            assert!(pause(back_off, made, u64::MAX) < Duration::from_millis(most));
        }
    }

    #[test]
    fn an_answer_is_held_against_the_conditions_that_speak_of_answers() {
        let mut call = HeaderMap::new();
        call.insert("grpc-status", HeaderValue::from_static("14"));
        let unavailable = RetryOn::Grpc(GrpcStatus::Unavailable);
        for (condition, status, holds) in [
            (RetryOn::ServerError, 500, true),
            (RetryOn::ServerError, 499, false),
            (RetryOn::GatewayError, 500, false),
            (RetryOn::GatewayError, 502, true),
            (RetryOn::GatewayError, 505, false),
            (RetryOn::Conflict, 409, true),
            (RetryOn::Conflict, 400, false),
            (RetryOn::Status(429), 429, true),
            (RetryOn::Status(429), 428, false),
            (RetryOn::Reset, 503, false),
            (RetryOn::ConnectFailure, 503, false),
            (unavailable, 200, true),
            (RetryOn::Grpc(GrpcStatus::Internal), 200, false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                holds_for(condition, status, &call),
                holds,
                "{condition:?} {status}"
            );
        }
    }

    #[test]
    fn the_lack_of_an_answer_is_held_against_those_that_speak_of_that() {
        let late = ProxyError::TryTimeout;
        for (condition, sent, holds) in [
            (RetryOn::Reset, true, true),
            (RetryOn::ServerError, true, true),
            (RetryOn::GatewayError, true, true),
            (RetryOn::ResetBeforeRequest, true, false),
            (RetryOn::ResetBeforeRequest, false, true),
            (RetryOn::Grpc(GrpcStatus::DeadlineExceeded), true, false),
            (RetryOn::Status(504), true, false),
            (RetryOn::ConnectFailure, true, false),
        ] {
            assert_eq!(
                condition_holds(condition, &late, sent),
                holds,
                "{condition:?}"
            );
        }
        assert!(!condition_holds(
            RetryOn::Reset,
            &ProxyError::RequestTimeout,
            true
        ));
    }
}
