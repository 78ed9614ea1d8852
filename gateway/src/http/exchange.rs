//! One request and what became of it: the facts that later steps, templates and the access log ask for.
//!
//! What must stay true: every exchange ends exactly once, with its line and its counters, also when
//! its task is dropped in the middle. Then the client is gone, or the connection says why.

mod line;
mod trace;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};
use sluice_config::{model::PathMatch, names::UpstreamName};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    normalize::Normalized,
    outward::attempt::Attempt as OutwardAttempt,
    serve::phase::Phase,
    upload::{Fault, Progress},
};
use crate::{
    downstream::{Connection, Downstream},
    egress::Kind,
    error::{Blame, Malformed, ProxyError, Verdict},
    filter::{Chain, Facts, Rpc},
    l4::copy::Carried,
    message::Tunnel,
    plan::{self, Local, Route, Rule},
    telemetry::{
        access_log::Line,
        attempt::Attempt,
        metrics::{Counter, Outcome, Traffic},
        trace::Trace,
    },
    upstream::{EndpointKey, Upstream},
};

/// A client on its connection: what its requests have in common.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) connection: Arc<Connection>,
    pub(crate) listener: Arc<plan::Listener>,
    pub(crate) local: Rc<Local>,
    pub(crate) phase: Rc<Phase>,
    /// What is to be joined with the connection once its 101 is out.
    pub(crate) joint: RefCell<Option<Box<Joint>>>,
}

/// A connection to an endpoint that waits for its client to be told, and the exchange that ends
/// with it.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) exchange: Exchange,
    pub(crate) tunnel: Box<Tunnel>,
}

/// One request and what became of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) visitor: Rc<Visitor>,
    pub(crate) started: Instant,
    pub(crate) method: Method,
    pub(crate) accept: Option<HeaderValue>,
    /// What its content type says it is.
    rpc: Option<Rpc>,
    pub(crate) chosen: Option<Chosen>,
    pub(crate) upstream: Option<UpstreamName>,
    pub(crate) endpoint: Option<EndpointKey>,
    pub(crate) attempts: u32,
    pub(crate) reused: bool,
    pub(crate) attempt: Attempt,
    /// How long `fault` of its rule held it back.
    pub(crate) delayed: Option<Duration>,
    /// What response filters will ask of the request's headers.
    pub(crate) kept: HeaderMap,
    /// The protocols that the client wants to go over to.
    pub(crate) upgrades: Vec<String>,
    /// The key that its origin, if that speaks HTTP/1.1, has to prove that it read (WebSocket).
    pub(crate) key: Option<HeaderValue>,
    /// What it wants outside, where it came to a forward proxy.
    pub(crate) outward: Option<Box<OutwardAttempt>>,
    /// The bytes of an upgraded connection.
    pub(crate) carried: Option<Rc<Carried>>,
    time: OffsetDateTime,
    protocol: Version,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// As it came, then as it was normalised.
    uri: Uri,
    host: Option<Box<str>>,
    port: Option<u16>,
    downstream: Downstream,
    /// None when there is no body.
    pub(crate) upload: Option<Rc<Progress>>,
    status: Option<StatusCode>,
    /// Kept apart: few requests fail, and every request under way has this.
    verdict: Option<Box<Verdict>>,
    bytes_out: u64,
    /// Of its upstream.
    traffic: Option<Arc<Traffic>>,
    trace: Option<Box<Trace>>,
    /// It was the validating server of an issuer, which got its answer.
    validates: bool,
    ended: bool,
}

/// The rule that decides about a request.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) version: sluice_config::Version,
    pub(crate) route: Arc<Route>,
    pub(crate) rule: Arc<Rule>,
    pub(crate) filters: Arc<Chain>,
    /// Which of the rule's matches held; none when it has none.
    pub(crate) matched: Option<usize>,
}

impl Exchange {
    /// A request whose head is here.
    pub(crate) fn begin(
        visitor: &Rc<Visitor>,
        parts: &Parts,
        upload: Option<Rc<Progress>>,
    ) -> Self {
        visitor.listener.traffic.begin(visitor.local.worker);
        let header = |name| parts.headers.get(name).cloned();
        Self {
            visitor: Rc::clone(visitor),
            started: Instant::now(),
            method: parts.method.clone(),
            accept: header(header::ACCEPT),
            rpc: Rpc::of(&parts.method, &parts.headers),
            chosen: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            reused: false,
            attempt: Attempt::default(),
            delayed: None,
            kept: HeaderMap::new(),
            upgrades: Vec::new(),
            key: None,
            outward: None,
            carried: None,
            time: OffsetDateTime::now_utc(),
            protocol: parts.version,
            user_agent: header(header::USER_AGENT),
            referer: header(header::REFERER),
            uri: parts.uri.clone(),
            host: None,
            port: None,
            downstream: unknown(&visitor.connection),
            upload,
            status: None,
            verdict: None,
            bytes_out: 0,
            traffic: None,
            trace: visitor.local.plan().tracer.begin(&parts.headers),
            validates: false,
            ended: false,
        }
    }

    /// Who asks for what, once that is known for sure.
    pub(crate) fn learn(&mut self, parts: &Parts, normalized: Normalized, downstream: Downstream) {
        self.method = parts.method.clone();
        self.uri = parts.uri.clone();
        self.host = normalized.host;
        self.port = normalized.port;
        self.upgrades = normalized.upgrades;
        self.downstream = downstream;
    }

    /// Its rule decides about it.
    pub(crate) fn choose(&mut self, chosen: Chosen) {
        chosen.route.traffic.begin(self.visitor.local.worker);
        if let Some(trace) = &mut self.trace {
            trace.decide(chosen.filters.trace());
        }
        self.chosen = Some(chosen);
    }

    /// It is answered for the issuer of a certificate, and concerns no route.
    pub(crate) fn validates(&mut self) {
        self.validates = true;
    }

    /// It goes to this upstream.
    pub(crate) fn send_to(&mut self, upstream: &Upstream) {
        self.upstream = Some(upstream.name().clone());
        upstream.traffic().begin(self.visitor.local.worker);
        self.traffic = Some(Arc::clone(upstream.traffic()));
    }

    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(crate) fn downstream(&self) -> &Downstream {
        &self.downstream
    }

    pub(crate) fn upload(&self) -> Option<&Progress> {
        self.upload.as_deref()
    }

    /// What it wants outside, and who asks.
    pub(crate) fn outside(&mut self) -> Option<(&mut OutwardAttempt, &Downstream)> {
        let attempt = self.outward.as_deref_mut()?;
        Some((attempt, &self.downstream))
    }

    /// Whether other requests share its connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.visitor.phase.is_stream()
    }

    /// Why the request body broke off, if it did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.upload().and_then(Progress::fault)
    }

    /// The filters of its rule, else those of its listener.
    pub(crate) fn filters(&self) -> &Chain {
        match &self.chosen {
            Some(chosen) => &chosen.filters,
            None => &self.visitor.listener.filters,
        }
    }

    /// The remote call that it is; calls from browsers count where they are translated.
    pub(crate) fn rpc(&self) -> Option<Rpc> {
        self.rpc
            .filter(|rpc| *rpc == Rpc::Grpc || self.filters().grpc_web())
    }

    /// The call from a browser that has to be translated, and the form of its answer.
    pub(crate) fn web(&self) -> Option<(Rpc, Rpc)> {
        let rpc = self.rpc().filter(|rpc| *rpc != Rpc::Grpc)?;
        Some((rpc, rpc.answered_as(self.accept.as_ref())))
    }

    /// Whether a call whose answer has begun can be told in trailers that it failed. On HTTP/1 they
    /// are an offer, and gRPC-Web has them where the rest of a message might be missing.
    pub(crate) fn hears_trailers(&self) -> bool {
        self.rpc == Some(Rpc::Grpc) && self.protocol == Version::HTTP_2
    }

    /// What templates may speak of.
    pub(crate) fn facts<'a>(&'a self, headers: &'a HeaderMap) -> Facts<'a> {
        let chosen = self.chosen.as_ref();
        Facts {
            downstream: &self.downstream,
            method: self.method.as_str(),
            host: self.host(),
            port: self.port,
            path: self.uri.path(),
            query: self.uri.query(),
            headers,
            listener: self.visitor.connection.listener.as_str(),
            route: chosen.map_or("", |chosen| chosen.route.model.name.as_str()),
            rule: chosen.map_or("", |chosen| chosen.rule.model.name.as_str()),
            upstream: self.upstream.as_ref().map(UpstreamName::as_str),
            path_match: chosen.and_then(Chosen::path_match),
        }
    }

    /// The client was told this.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// It failed, before or after the client was told something.
    pub(crate) fn fail(&mut self, error: &ProxyError) {
        let verdict = error.verdict();
        self.verdict = Some(Box::new(verdict));
        if verdict.blame == Blame::Upstream {
            self.attempt.fail();
            if let Some(trace) = &mut self.trace {
                trace.attempt_failed(verdict.reason);
            }
        }
        self.status.get_or_insert(verdict.status);
    }

    /// A piece of the response body went out.
    pub(crate) fn sent(&mut self, data: &Bytes) {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.bytes_out = self.bytes_out.saturating_add(length);
    }

    /// The response's body has ended, well or not.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let local = &self.visitor.local;
        if let Some(outward) = &mut self.outward {
            let kind = if self.method == Method::CONNECT {
                Kind::Tunnel
            } else {
                Kind::Http {
                    method: self.method.as_str(),
                    path: self.uri.path(),
                }
            };
            outward.tell(&local.plan(), &self.downstream, kind);
        }
        local.counters.count(Counter::Requests);
        self.account();
        let plan = local.plan();
        if plan.access_log.is_on() {
            plan.access_log.write(local.worker, &self.line());
        }
        self.end_trace();
        self.visitor.phase.end();
    }

    /// What was carried in and out.
    fn bytes(&self) -> (u64, u64) {
        match &self.carried {
            Some(carried) => (carried.inward.get(), carried.outward.get()),
            None => (self.upload().map_or(0, Progress::bytes), self.bytes_out),
        }
    }

    fn account(&self) {
        let (bytes_in, bytes_out) = self.bytes();
        let outcome = Outcome {
            status: self.status.map_or(0, |status| status.as_u16()),
            reason: self.verdict.as_ref().map(|verdict| verdict.reason),
            duration: self.started.elapsed(),
            bytes_in,
            bytes_out,
        };
        let worker = self.visitor.local.worker;
        self.visitor.listener.traffic.end(worker, &outcome);
        if let Some(chosen) = &self.chosen {
            chosen.route.traffic.end(worker, &outcome);
        }
        if let Some(traffic) = &self.traffic {
            traffic.end(worker, &outcome);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            let phase = &self.visitor.phase;
            let broken =
                || phase.gone().is_none() && self.upload().is_some_and(Progress::is_broken);
            let cause = if self.visitor.listener.tasks.is_aborted() {
                ProxyError::Draining
            } else if broken() {
                ProxyError::BadRequest(Malformed::Body)
            } else {
                phase.cause()
            };
            self.fail(&cause);
            self.end();
        }
    }
}

impl Chosen {
    fn path_match(&self) -> Option<&PathMatch> {
        self.rule.model.matches.get(self.matched?)?.path.as_ref()
    }
}

/// Notes a request whose head never became one, and how long that took.
pub(crate) fn unreadable(visitor: &Visitor, error: &ProxyError, lasted: Duration) {
    let verdict = error.verdict();
    let local = &visitor.local;
    local.counters.count(Counter::Requests);
    local.counters.count(Counter::RequestsRefused);
    let outcome = Outcome {
        status: verdict.status.as_u16(),
        reason: Some(verdict.reason),
        duration: lasted,
        bytes_in: 0,
        bytes_out: 0,
    };
    visitor.listener.traffic.begin(local.worker);
    visitor.listener.traffic.end(local.worker, &outcome);
    let plan = local.plan();
    if plan.access_log.is_on() {
        let downstream = unknown(&visitor.connection);
        let line = Line {
            verdict: Some(verdict.reason),
            flags: Some(verdict.flags),
            duration: lasted,
            status: verdict.status.as_u16(),
            ..Line::blank(OffsetDateTime::now_utc(), &downstream)
        };
        plan.access_log.write(local.worker, &line);
    }
}

/// The sender of a request before anybody has looked for a better one.
fn unknown(connection: &Arc<Connection>) -> Downstream {
    Downstream {
        connection: Arc::clone(connection),
        client: connection.peer.ip().to_canonical(),
        trusted: false,
        scheme: connection.scheme,
        request_id: HeaderValue::from_static(""),
    }
}
