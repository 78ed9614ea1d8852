//! One who wants outside, from the moment of asking: what was asked for, what was decided, what is told.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, header, request::Parts, uri::Scheme};
use sluice_config::model::{Listener, Protocol};
use sluice_config::names::EgressName;
use tokio::time::Instant;

use crate::{
    authn::basic::User,
    downstream::{Connection, Downstream},
    egress::{Ask, Asker, Decision, Egress, Kind, Outcome, Target, Why},
    error::ProxyError,
    plan::{Outlet, Plan},
    telemetry::access_log::{EgressFacts, EgressNote},
};

/// One who wants outside.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Who it says it is: every `Proxy-Authorization`.
    pub(crate) credentials: HeaderMap,
    /// The target as it was written, where the request has one besides `Host`.
    authority: Option<Box<str>>,
    scheme: Option<Scheme>,
    pub(crate) user: Option<User>,
    /// The listener asks who it is, and nobody knows so far.
    pub(crate) is_unknown: bool,
    /// Where to, once that could be read.
    place: Option<(Target, u16)>,
    /// Where it was to go before it was led here.
    led: Option<SocketAddr>,
    judged: Option<Judged>,
    /// What it is connected to, where that is the target itself.
    pub(crate) dialled: Option<SocketAddr>,
    /// It was counted.
    told: bool,
}

/// What was decided, and by what.
#[derive(Debug, Clone)]
struct Judged {
    egress: Arc<Egress>,
    decision: Decision,
    outlet: Arc<Outlet>,
}

impl Attempt {
    /// What a request asks for, before anything is taken from it; none where nobody gets outside.
    pub(crate) fn of(
        listener: &Listener,
        connection: &Connection,
        parts: &Parts,
    ) -> Option<Box<Self>> {
        match listener.protocol {
            Protocol::ForwardProxy => Some(Self::asked(parts)),
            Protocol::Transparent => Some(Self::led(connection)),
            Protocol::Http
            | Protocol::Https
            | Protocol::Tls
            | Protocol::Tcp
            | Protocol::Udp
            | Protocol::Auto => None,
        }
    }

    /// Who asks a proxy.
    fn asked(parts: &Parts) -> Box<Self> {
        let mut credentials = HeaderMap::new();
        for value in parts.headers.get_all(header::PROXY_AUTHORIZATION) {
            credentials.append(header::PROXY_AUTHORIZATION, value.clone());
        }
        Box::new(Self {
            credentials,
            authority: parts.uri.authority().map(|it| it.as_str().into()),
            scheme: parts.uri.scheme().cloned(),
            ..Self::at(None, 0)
        })
    }

    /// Who was led here on the way to our side of `connection`: nobody says who that is.
    fn led(connection: &Connection) -> Box<Self> {
        let mut attempt = Self::at(None, connection.local.port());
        attempt.led = Some(connection.local);
        Box::new(attempt)
    }

    /// One who wants to `target`, where that could be read.
    pub(crate) fn at(target: Option<Target>, port: u16) -> Self {
        Self {
            credentials: HeaderMap::new(),
            authority: None,
            scheme: None,
            user: None,
            is_unknown: false,
            place: target.map(|target| (target, port)),
            led: None,
            judged: None,
            dialled: None,
            told: false,
        }
    }

    /// Reads which host somebody means who was led here. Whoever names another port than the one that it
    /// dialled, or wants a tunnel, makes no sense.
    pub(crate) fn name(&mut self, host: Option<&str>, port: Option<u16>, is_tunnel: bool) {
        let Some(led) = self.led.filter(|_| !is_tunnel) else {
            return;
        };
        if port.is_none_or(|port| port == led.port()) {
            let text = host.map(|host| Target::parse(host, Some(led.port())));
            self.place = text.and_then(Result::ok);
        }
    }

    /// Where it was led away from, if it was.
    pub(crate) fn led_from(&self) -> Option<SocketAddr> {
        self.led
    }

    /// The target does not stand for the address that was dialled. Gives what leads there nevertheless, in the
    /// shadow.
    pub(crate) fn doubt_address(&mut self, plan: &Plan) -> Result<Arc<Outlet>, ProxyError> {
        let judged = self.judged.as_mut().ok_or(ProxyError::Internal)?;
        judged.decision.refuse_addresses();
        judged.decision.shadow = judged.egress.table().is_shadow();
        judged.outlet = Arc::clone(plan.outlets.of(judged.decision.led_by()));
        refusal(&judged.decision).map_or(Ok(Arc::clone(&judged.outlet)), Err)
    }

    /// What the access log is told of it in the end.
    pub(crate) fn note(&self) -> EgressNote {
        let facts = self.facts();
        EgressNote {
            port: facts.port,
            rule: facts.rule.map(Box::from),
            reason: facts.reason,
            shadow: facts.shadow,
        }
    }

    /// Reads where a tunnel, or a request in absolute form, shall lead.
    pub(crate) fn read(&mut self, is_tunnel: bool) {
        let default_port = match &self.scheme {
            _ if is_tunnel => None,
            // Who wants TLS speaks it, inside a tunnel: what comes here in clear is to stay so, or a rule
            // says otherwise.
            Some(scheme) if *scheme == Scheme::HTTP => Some(80),
            // What was meant for an origin, or is in a form that nobody has agreed on.
            Some(_) | None => return,
        };
        let authority = self.authority.as_deref();
        self.place = authority.and_then(|text| Target::parse(text, default_port).ok());
    }

    /// Where to.
    pub(crate) fn place(&self) -> Result<(Target, u16), ProxyError> {
        self.place.clone().ok_or(ProxyError::EgressTarget)
    }

    /// Decides by the rules of `plan`; gives what leads there.
    pub(crate) fn judge(
        &mut self,
        plan: &Plan,
        downstream: &Downstream,
        kind: Kind<'_>,
    ) -> Result<Arc<Outlet>, ProxyError> {
        let egress = Arc::clone(&plan.egress);
        let (target, port) = self.place.as_ref().ok_or(ProxyError::EgressTarget)?;
        let (asker, ask) = (self.asker(downstream), ask(target, *port, kind));
        let decision = egress.attempt(&asker, &ask, Instant::now());
        let outlet = Arc::clone(plan.outlets.of(decision.led_by()));
        let refused = refusal(&decision);
        self.judged = Some(Judged {
            egress,
            decision,
            outlet: Arc::clone(&outlet),
        });
        refused.map_or(Ok(outlet), Err)
    }

    /// Whether whatever is said inside a tunnel may be, where it has led to.
    pub(crate) fn takes_anything(&self, downstream: &Downstream) -> bool {
        let (Some(judged), Some((target, port))) = (&self.judged, &self.place) else {
            return false;
        };
        let ask = ask(target, *port, Kind::Tcp);
        let (table, outer) = (judged.egress.table(), &judged.decision);
        let decision = table.inside(outer, &self.asker(downstream), &ask);
        decision.outcome == Outcome::Allowed && self.may_stay(&judged.egress, &decision)
    }

    /// Whether what it is connected to may be by `decision`, too.
    fn may_stay(&self, egress: &Egress, decision: &Decision) -> bool {
        let dialled = self.dialled.map(|address| address.ip());
        dialled.is_none() || egress.dialable(decision, dialled).next().is_some()
    }

    /// Decides once more, now that it is known what a tunnel is for. Another rule may be about that, which
    /// has to allow where the first one has led to.
    pub(crate) fn judge_inside(
        &mut self,
        plan: &Plan,
        downstream: &Downstream,
        kind: Kind<'_>,
    ) -> Result<(), ProxyError> {
        let (target, port) = self.place.as_ref().ok_or(ProxyError::EgressTarget)?;
        let outer = self.judged.clone().ok_or(ProxyError::Internal)?;
        let egress = &outer.egress;
        let (asker, ask) = (self.asker(downstream), ask(target, *port, kind));
        let mut decision = egress.inside(&outer.decision, &asker, &ask, Instant::now());
        let outlet = Arc::clone(plan.outlets.of(decision.led_by()));
        if decision.passes() && !self.may_stay(egress, &decision) {
            decision.refuse_addresses();
        }
        let refused = refusal(&decision);
        egress.tell(&asker, &ask, &decision, SystemTime::now());
        self.told = true;
        self.judged = Some(Judged {
            egress: Arc::clone(egress),
            decision,
            outlet,
        });
        refused.map_or(Ok(()), Err)
    }

    /// None of the addresses of its target may be connected to.
    pub(crate) fn refuse_addresses(&mut self) -> ProxyError {
        if let Some(judged) = &mut self.judged {
            judged.decision.refuse_addresses();
        }
        ProxyError::EgressAddress
    }

    /// What was decided, and by what.
    pub(crate) fn decided(&self) -> Option<(&Egress, &Decision)> {
        let judged = self.judged.as_ref()?;
        Some((&judged.egress, &judged.decision))
    }

    /// What leads there.
    pub(crate) fn outlet(&self) -> Option<&Arc<Outlet>> {
        self.judged.as_ref().map(|judged| &judged.outlet)
    }

    /// Counts it, unless that was done. Where nobody knows who it was, the report has nothing of it.
    pub(crate) fn tell(&mut self, plan: &Plan, downstream: &Downstream, kind: Kind<'_>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if self.is_unknown {
            return plan.egress.tell_unknown();
        }
        let (asker, now) = (self.asker(downstream), SystemTime::now());
        match (&self.judged, &self.place) {
            (Some(judged), Some((target, port))) => {
                let ask = ask(target, *port, kind);
                judged.egress.tell(&asker, &ask, &judged.decision, now);
            }
            (None, None) => drop(plan.egress.tell_unreadable(&asker, now)),
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    /// What the access log is told.
    pub(crate) fn facts(&self) -> EgressFacts<'_> {
        let decision = self.judged.as_ref().map(|judged| &judged.decision);
        let rule = decision.and_then(|decision| decision.rule.as_ref());
        let why = decision.and_then(Decision::why);
        EgressFacts {
            port: self.place.as_ref().map(|(_, port)| *port),
            user: self.user.as_ref().map(User::as_str),
            rule: rule.map(EgressName::as_str),
            reason: match (why, &self.place) {
                (None, None) if !self.is_unknown => Some(Why::Target.word()),
                (why, _) => why.map(Why::word),
            },
            shadow: decision.is_some_and(|decision| decision.shadow),
        }
    }

    fn asker<'a>(&'a self, downstream: &'a Downstream) -> Asker<'a> {
        Asker {
            source: downstream.client,
            user: self.user.as_ref().map(User::as_str),
            identity: downstream.connection.identity(),
        }
    }
}

fn ask<'a>(target: &'a Target, port: u16, kind: Kind<'a>) -> Ask<'a> {
    Ask { target, port, kind }
}

/// What a client is told that may not.
fn refusal(decision: &Decision) -> Option<ProxyError> {
    if decision.passes() {
        return None;
    }
    Some(match decision.why()? {
        Why::Address => ProxyError::EgressAddress,
        Why::Rate => ProxyError::EgressRate {
            after: decision.wait.unwrap_or_default(),
        },
        why => ProxyError::EgressRefused { why: why.word() },
    })
}
