//! What is told of a raw stream: its line in the access log, its metrics, its spans.
//!
//! Told when it is dropped, so that every stream is told of once, whatever ends it.

use std::{cell::Cell, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue};
use sluice_config::{Version, names::UpstreamName};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::copy::Carried;
use crate::{
    downstream::{Connection, Downstream},
    drain::Tasks,
    error::{Blame, ProxyError, Verdict},
    filter::Chain,
    plan::{self, Local, Outlet, Route, Rule, Ruled},
    telemetry::{
        access_log::{EgressNote, Line},
        attempt::{Attempt, WhyLast},
        metrics::{Counter, Event, Outcome},
        trace::{AttemptFacts, Trace},
    },
    upstream::{EndpointKey, Upstream},
};

/// What is told of a stream once it is over.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) local: Rc<Local>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) listener: Arc<plan::Listener>,
    /// Bytes that went through.
    pub(crate) carried: Carried,
    /// Those of them that the metrics have already.
    counted: Cell<(u64, u64)>,
    /// `tcp`, `tls` or `udp`: what the client speaks.
    scheme: &'static str,
    /// The name in a `ClientHello` that was only looked at.
    pub(crate) sni: Option<Box<str>>,
    /// What was decided about a stream that wants outside.
    pub(crate) outside: Option<EgressNote>,
    /// What leads it there.
    pub(crate) outlet: Option<Arc<Outlet>>,
    time: OffsetDateTime,
    started: Instant,
    chosen: Option<Chosen>,
    upstream: Option<Arc<Upstream>>,
    endpoint: Option<EndpointKey>,
    attempts: u32,
    attempt: Attempt,
    trace: Option<Box<Trace>>,
    /// Counted among those that are open.
    opened: bool,
    /// An endpoint gave a connection.
    connected: bool,
    outcome: Told,
}

/// The rule that a stream belongs to.
#[derive(Debug)]
struct Chosen {
    route: Arc<Route>,
    rule: Arc<Rule>,
    filters: Arc<Chain>,
    version: Version,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// It is still going on.
    Nothing,
    /// Both sides were done.
    Done,
    Failed(Verdict),
}

impl Record {
    /// A stream comes in. It counts once it is known to be one. Boxed: its task has little room.
    pub(crate) fn new(
        connection: Arc<Connection>,
        listener: Arc<plan::Listener>,
        local: Rc<Local>,
        scheme: &'static str,
    ) -> Box<Self> {
        Box::new(Self {
            scheme,
            sni: None,
            outside: None,
            outlet: None,
            time: OffsetDateTime::now_utc(),
            started: Instant::now(),
            chosen: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            attempt: Attempt::default(),
            trace: local.plan().tracer.begin(&HeaderMap::new()),
            opened: false,
            connected: false,
            outcome: Told::Nothing,
            carried: Carried::default(),
            counted: Cell::default(),
            local,
            connection,
            listener,
        })
    }

    /// It is one: it counts as open until it is told.
    pub(crate) fn open(&mut self) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        let worker = self.local.worker;
        self.local.counters.count(Counter::StreamsOpened);
        self.listener.traffic.begin_stream(worker);
        if let Some(chosen) = &self.chosen {
            chosen.route.traffic.begin_stream(worker);
        }
        if let Some(upstream) = &self.upstream {
            upstream.traffic().begin_stream(worker);
        }
    }

    /// Its rule decides about it.
    pub(crate) fn choose(&mut self, found: Ruled<'_>, version: &Version) {
        if self.opened {
            found.route.traffic.begin_stream(self.local.worker);
        }
        if let Some(trace) = &mut self.trace {
            trace.decide(found.filters.trace());
        }
        self.chosen = Some(Chosen {
            route: Arc::clone(found.route),
            rule: Arc::clone(found.rule),
            filters: Arc::clone(found.filters),
            version: version.clone(),
        });
    }

    /// The filters that are effective for it: those of its rule, else those of its listener.
    pub(crate) fn filters(&self) -> &Chain {
        match &self.chosen {
            Some(chosen) => &chosen.filters,
            None => &self.listener.filters,
        }
    }

    /// What besides its listener tells it to finish: its route, or the rule that lets it outside.
    pub(crate) fn owner(&self) -> Option<&Tasks> {
        let route = self.chosen.as_ref().map(|it| &it.route.streams);
        route.or_else(|| Some(&self.outlet.as_ref()?.streams))
    }

    /// It goes to this upstream.
    pub(crate) fn send_to(&mut self, upstream: &Arc<Upstream>) {
        if self.opened {
            upstream.traffic().begin_stream(self.local.worker);
        }
        self.upstream = Some(Arc::clone(upstream));
    }

    /// The name of the upstream it goes to.
    pub(crate) fn upstream(&self) -> Option<UpstreamName> {
        self.upstream.as_ref().map(|it| it.name().clone())
    }

    /// An attempt to get a connection begins.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt.begin();
        if let Some(trace) = &mut self.trace {
            trace.begin_attempt();
        }
    }

    /// It came to `endpoint`, if it came to any, which gave a connection or did not.
    pub(crate) fn tried(&mut self, endpoint: Option<EndpointKey>, connected: bool) {
        self.attempt.connected(false);
        self.connected = connected;
        if endpoint.is_some() {
            self.attempts = self.attempts.saturating_add(1);
            self.local.counters.count(Counter::UpstreamAttempts);
            if let Some(upstream) = &self.upstream {
                upstream.traffic().count(self.local.worker, Event::Attempt);
            }
        }
        self.endpoint = endpoint;
        if connected {
            self.end_attempt();
        }
    }

    /// It failed for `reason`, and another one follows.
    pub(crate) fn tries_again(&mut self, reason: &'static str) {
        self.local.counters.count(Counter::UpstreamRetries);
        if let Some(upstream) = &self.upstream {
            upstream.traffic().count(self.local.worker, Event::Retry);
        }
        if let Some(trace) = &mut self.trace {
            trace.attempt_failed(reason);
        }
        self.end_attempt();
    }

    /// How many attempts there were.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What came of it.
    pub(crate) fn settle(&mut self, outcome: Result<(), ProxyError>) {
        match outcome {
            Ok(()) => self.outcome = Told::Done,
            Err(error) => {
                let (connection, cause): (_, &dyn std::error::Error) = (self.connection.id, &error);
                tracing::debug!(connection, cause, "the stream ended");
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &ProxyError) {
        let verdict = error.verdict();
        if verdict.blame == Blame::Upstream {
            self.attempt.fail();
            self.attempt.give_up(if self.carried.outward.get() > 0 {
                WhyLast::Answered
            } else if self.connected {
                WhyLast::NewConnection
            } else {
                WhyLast::NotConnected
            });
            if let Some(trace) = &mut self.trace {
                trace.attempt_failed(verdict.reason);
            }
        }
        self.outcome = Told::Failed(verdict);
    }

    fn verdict(&self) -> Option<Verdict> {
        match self.outcome {
            Told::Failed(verdict) => Some(verdict),
            Told::Nothing | Told::Done => None,
        }
    }

    /// What has gone through since the last time counts from now on.
    pub(crate) fn account(&self) {
        let moved = (self.carried.inward.get(), self.carried.outward.get());
        let before = self.counted.replace(moved);
        let inward = moved.0.saturating_sub(before.0);
        let outward = moved.1.saturating_sub(before.1);
        let worker = self.local.worker;
        self.listener.traffic.carry_stream(worker, inward, outward);
        if let Some(chosen) = &self.chosen {
            let traffic = &chosen.route.traffic;
            traffic.carry_stream(worker, inward, outward);
        }
        if let Some(upstream) = &self.upstream {
            upstream.traffic().carry_stream(worker, inward, outward);
        }
    }

    fn tell(&mut self) {
        self.open();
        self.account();
        let worker = self.local.worker;
        self.local.counters.count(Counter::StreamsClosed);
        let outcome = Outcome {
            status: 0,
            reason: self.verdict().map(|verdict| verdict.reason),
            duration: self.started.elapsed(),
            // They count already.
            bytes_in: 0,
            bytes_out: 0,
        };
        self.listener.traffic.end_stream(worker, &outcome);
        if let Some(chosen) = &self.chosen {
            chosen.route.traffic.end_stream(worker, &outcome);
        }
        if let Some(upstream) = &self.upstream {
            upstream.traffic().end_stream(worker, &outcome);
        }
        self.end_attempt();
        let mut trace = self.trace.take();
        let plan = self.local.plan();
        if !plan.access_log.is_on() && trace.is_none() {
            return;
        }
        let downstream = Downstream {
            connection: Arc::clone(&self.connection),
            client: self.connection.peer.ip(),
            trusted: false,
            scheme: self.scheme,
            request_id: HeaderValue::from_static(""),
        };
        if plan.access_log.is_on() {
            let line = self.line(&downstream, trace.as_deref());
            plan.access_log.write(worker, &line);
        }
        if let Some(trace) = &mut trace
            && trace.decide(self.listener.filters.trace())
        {
            trace.end_stream(&self.line(&downstream, None));
        }
    }

    fn line<'a>(&'a self, downstream: &'a Downstream, trace: Option<&'a Trace>) -> Line<'a> {
        let verdict = self.verdict();
        let chosen = self.chosen.as_ref();
        let answered = self.carried.answered.get();
        let line = Line::blank(self.time, downstream);
        let sni = self.sni.as_deref().or(line.sni);
        Line {
            scheme: Some(self.scheme),
            host: sni,
            sni,
            verdict: verdict.map(|verdict| verdict.reason),
            flags: verdict.map(|verdict| verdict.flags),
            bytes_in: self.carried.inward.get(),
            bytes_out: self.carried.outward.get(),
            duration: self.started.elapsed(),
            connect: self.attempt.connect(),
            first_byte: answered.map(|at| at.duration_since(self.started)),
            failed: self.attempt.failed(),
            route: chosen.map(|it| it.route.model.name.as_str()),
            rule: chosen.map(|it| it.rule.model.name.as_str()),
            upstream: self.upstream.as_ref().map(|it| it.name().as_str()),
            endpoint: self.endpoint.as_ref().map(EndpointKey::as_str),
            attempts: self.attempts,
            retry: self.attempt.why_last().map(WhyLast::word),
            trace_id: trace.map(Trace::id),
            version: chosen.map(|it| it.version.as_str()),
            egress: self.outside.as_ref().map(EgressNote::facts),
            ..line
        }
    }

    fn end_attempt(&mut self) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        let endpoint = self.endpoint.as_ref().map(EndpointKey::as_str);
        let facts = endpoint.zip(self.upstream.as_ref());
        trace.end_attempt(facts.map(|(endpoint, upstream)| AttemptFacts {
            method: None,
            upstream: upstream.name().as_str(),
            endpoint,
            number: self.attempts,
            reused: false,
        }));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        match self.outcome {
            // It was none after all.
            Told::Nothing if !self.opened => {}
            // Its task panicked, or was dropped: the deadline of a drain is over.
            Told::Nothing if std::thread::panicking() => {
                self.fail(&ProxyError::Internal);
                self.tell();
            }
            Told::Nothing => {
                self.fail(&ProxyError::Draining);
                self.tell();
            }
            Told::Done | Told::Failed(_) => self.tell(),
        }
    }
}
