//! A session: what one client and one endpoint say to each other, and under which rule.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use sluice_config::{Version, model};
use socket2::SockRef;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    downstream::{Connection, Downstream},
    error::{Blame, ProxyError, Verdict},
    plan::{self, Local, Route, Rule, Seat},
    telemetry::{
        access_log::Line,
        metrics::{Counter, Event, Outcome, Traffic},
        trace::Trace,
    },
    upstream::{Aim, Upstream},
};

use super::wire::pass_on;

/// Who speaks to which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// As the socket knows it.
    pub(super) client: SocketAddr,
    /// None where the socket has only one.
    pub(super) local: Option<IpAddr>,
}

impl Peer {
    /// The client, in the form that people write.
    pub(super) fn client_address(&self) -> SocketAddr {
        SocketAddr::new(self.client.ip().to_canonical(), self.client.port())
    }

    /// Our address, on a socket that is bound to `ours`.
    pub(super) fn local_ip(&self, ours: SocketAddr) -> IpAddr {
        self.local.unwrap_or_else(|| ours.ip()).to_canonical()
    }
}

/// What one client and one endpoint say to each other.
#[derive(Debug)]
pub(super) struct Session {
    /// Unique in this process.
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) ground: Rc<Ground>,
    /// Connected to the endpoint: what anybody else sends there never arrives.
    pub(super) socket: UdpSocket,
    pub(super) upstream: Arc<Upstream>,
    pub(super) aim: Aim,
    /// What the endpoint is told of the client in front of the first datagram; none once it was.
    pub(super) header: Option<Bytes>,
    pub(super) inward: Carried,
    pub(super) outward: Carried,
    /// Of both, what the metrics have already.
    pub(super) counted: (u64, u64),
    pub(super) began: (OffsetDateTime, Instant),
    /// When something moved last.
    pub(super) moved: Instant,
    pub(super) trace: Option<Box<Trace>>,
    /// Its place among the sessions of the listener.
    #[expect(dead_code, reason = "given back when it is dropped")]
    pub(super) seat: Seat,
}

/// What went in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carried {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
}

impl Carried {
    pub(super) fn add(&mut self, length: usize) {
        self.datagrams = self.datagrams.saturating_add(1);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
    }
}

/// What sessions stand on: their listener, route and rule, as these were when they began.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) listener: Arc<plan::Listener>,
    pub(super) route: Arc<Route>,
    pub(super) rule: Arc<Rule>,
    pub(super) version: Version,
    pub(super) limits: model::StreamLimits,
    /// The share of sessions whose traces are recorded, where the rule says.
    pub(super) sample: Option<model::Share>,
    /// Since when the listener or the route is gone or has other settings.
    pub(super) ends: Cell<Option<Instant>>,
}

impl Ground {
    pub(super) fn new(
        listener: &Arc<plan::Listener>,
        (route, rule): (&Arc<Route>, &Arc<Rule>),
        version: Version,
    ) -> Self {
        let filters = rule.filters(&listener.model.name);
        Self {
            listener: Arc::clone(listener),
            route: Arc::clone(route),
            rule: Arc::clone(rule),
            version,
            limits: filters.map_or_else(Default::default, |filters| filters.stream()),
            sample: filters.and_then(|filters| filters.trace()),
            ends: Cell::new(None),
        }
    }

    /// Looks whether its objects are still those that run.
    pub(super) fn look(&self, now: Instant) {
        let is_over = self.listener.streams.is_draining() || self.route.streams.is_draining();
        if is_over && self.ends.get().is_none() {
            self.ends.set(Some(now));
        }
    }
}

impl Session {
    pub(super) fn settings(&self) -> &model::Udp {
        &self.ground.listener.model.udp
    }

    /// Sends as many of these datagrams to the endpoint as go out at once, each as a whole. Gives how many.
    pub(super) fn send(&mut self, run: &[&[u8]]) -> io::Result<usize> {
        let (first, header) = match (run, &self.header) {
            ([], _) => return Ok(0),
            ([first, ..], Some(header)) => (first, header),
            ([only], None) => return self.socket.send(only).map(|_| 1),
            (run, None) => return pass_on(&self.socket, run),
        };
        let parts = [IoSlice::new(header), IoSlice::new(first)];
        SockRef::from(&self.socket).send_vectored(&parts)?;
        self.header = None;
        Ok(1)
    }

    /// Whether everything that was asked has been answered, where that ends a session.
    pub(super) fn is_answered(&self) -> bool {
        self.settings().one_shot && self.outward.datagrams >= self.inward.datagrams
    }

    /// Why it is over by now, if it is. `stopped`: since when nobody new is let in.
    pub(super) fn is_overdue(&self, now: Instant, stopped: Option<Instant>) -> Option<Over> {
        let past = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let limits = &self.ground.limits;
        let drained = |since: &Instant| past(*since, limits.drain);
        if stopped.as_ref().is_some_and(drained)
            || self.ground.ends.get().as_ref().is_some_and(drained)
        {
            return Some(Over::Draining);
        }
        if limits
            .max_duration
            .get()
            .is_some_and(|limit| past(self.began.1, limit))
        {
            return Some(Over::Expired);
        }
        if !past(self.moved, self.settings().idle_timeout) {
            return None;
        }
        let is_silent = self.settings().one_shot && self.outward.datagrams == 0;
        Some(if is_silent { Over::Silent } else { Over::Idle })
    }

    /// It begins, and counts as open until it is over.
    pub(super) fn begin(&mut self, local: &Local) {
        if let Some(trace) = &mut self.trace {
            trace.decide(self.ground.sample);
        }
        local.counters.count(Counter::StreamsOpened);
        local.counters.count(Counter::UpstreamAttempts);
        self.ground.listener.datagrams.opened(local.worker);
        for traffic in self.traffic() {
            traffic.begin_stream(local.worker);
        }
        self.upstream.traffic().count(local.worker, Event::Attempt);
    }

    /// What has moved since the last time counts from now on.
    pub(super) fn account(&mut self, local: &Local) {
        let moved = (self.inward.bytes, self.outward.bytes);
        let before = std::mem::replace(&mut self.counted, moved);
        if moved == before {
            return;
        }
        let inward = moved.0.saturating_sub(before.0);
        let outward = moved.1.saturating_sub(before.1);
        for traffic in self.traffic() {
            traffic.carry_stream(local.worker, inward, outward);
        }
    }

    /// It is over: whoever wants to know is told. `ours` is where its socket is bound.
    pub(super) fn end(mut self, over: Over, ours: SocketAddr, local: &Local) {
        let verdict = self.failure(over).map(|failure| failure.verdict());
        local.counters.count(Counter::StreamsClosed);
        self.ground.listener.datagrams.ended(local.worker);
        self.account(local);
        let outcome = Outcome {
            status: 0,
            reason: verdict.map(|verdict| verdict.reason),
            duration: self.began.1.elapsed(),
            // They count already.
            bytes_in: 0,
            bytes_out: 0,
        };
        for traffic in self.traffic() {
            traffic.end_stream(local.worker, &outcome);
        }
        self.tell(verdict, ours, local);
    }

    /// Where it is counted.
    fn traffic(&self) -> [&Traffic; 3] {
        let (listener, route) = (&self.ground.listener, &self.ground.route);
        [&listener.traffic, &route.traffic, self.upstream.traffic()]
    }

    /// The failure that the end of the session is, if it is one.
    fn failure(&self, over: Over) -> Option<ProxyError> {
        let upstream = || self.upstream.name().clone();
        match over {
            Over::Idle | Over::Answered => None,
            Over::Silent => Some(ProxyError::ResponseTimeout {
                upstream: upstream(),
            }),
            Over::Expired => Some(ProxyError::StreamExpired),
            Over::Draining => Some(ProxyError::Draining),
            Over::Failed(source) if self.outward.datagrams == 0 => Some(ProxyError::Connect {
                upstream: upstream(),
                source,
            }),
            Over::Failed(source) => Some(ProxyError::UpstreamReset {
                upstream: upstream(),
                source: source.into(),
            }),
        }
    }

    /// Its line in the access log, and its span.
    fn tell(&mut self, verdict: Option<Verdict>, ours: SocketAddr, local: &Local) {
        let plan = local.plan();
        let mut trace = self.trace.take();
        if !plan.access_log.is_on() && trace.is_none() {
            return;
        }
        let ground = &*self.ground;
        let listener = ground.listener.model.name.clone();
        let client = self.peer.client_address();
        let ours = SocketAddr::new(self.peer.local_ip(ours), ours.port());
        let downstream = Downstream {
            connection: Arc::new(Connection::new(self.id, listener, client, ours)),
            client: client.ip(),
            trusted: false,
            scheme: "udp",
            request_id: HeaderValue::from_static(""),
        };
        let id = trace.as_deref().map(|trace| trace.id().to_owned());
        let duration = self.began.1.elapsed();
        let broken = verdict.filter(|verdict| verdict.blame == Blame::Upstream);
        let line = Line {
            scheme: Some(downstream.scheme),
            verdict: verdict.map(|verdict| verdict.reason),
            flags: verdict.map(|verdict| verdict.flags),
            bytes_in: self.inward.bytes,
            bytes_out: self.outward.bytes,
            datagrams: Some((self.inward.datagrams, self.outward.datagrams)),
            duration,
            failed: broken.map(|_| duration),
            route: Some(ground.route.model.name.as_str()),
            rule: Some(ground.rule.model.name.as_str()),
            upstream: Some(self.upstream.name().as_str()),
            endpoint: Some(self.aim.endpoint().as_str()),
            attempts: 1,
            trace_id: id.as_deref(),
            version: Some(ground.version.as_str()),
            ..Line::blank(self.began.0, &downstream)
        };
        if plan.access_log.is_on() {
            plan.access_log.write(local.worker, &line);
        }
        if let Some(trace) = &mut trace {
            trace.end_stream(&line);
        }
    }
}

/// Why a session is over.
#[derive(Debug)]
pub(super) enum Over {
    /// Nothing moved any more.
    Idle,
    /// All that was asked has been answered.
    Answered,
    /// Nothing was ever answered.
    Silent,
    /// It lasted as long as it may.
    Expired,
    /// Its listener or route is gone, or the gateway stops.
    Draining,
    /// The endpoint is not there.
    Failed(io::Error),
}
