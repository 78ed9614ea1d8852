//! What there is to tell about somebody who wants to go out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use sluice_config::{
    model::{Bind, EgressRule, Listener, Protocol, Rate},
    names::{EgressName, ListenerName, UpstreamName},
};

use super::AskedEgress;
use crate::{
    egress::{Ask, Asker, Decision, Kind, Table, Why, dialled_port},
    error::ProxyError,
};

/// What would become of an attempt to go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressReport {
    /// Where it comes in.
    pub listener: ListenerName,
    /// The address of the listener.
    pub address: Bind,
    /// What the listener speaks.
    pub protocol: Protocol,
    /// The method, or `TLS` or `TCP`.
    pub method: String,
    /// What was asked for, as it is written.
    pub asked: String,
    /// Whom it is meant for; none when that cannot be read.
    pub target: Option<String>,
    /// At which port.
    pub port: Option<u16>,
    /// The path of a request, normalised.
    pub path: Option<String>,
    /// The client.
    pub client: IpAddr,
    /// Who it says it is.
    pub user: Option<String>,
    /// Who its certificate says it is.
    pub identity: Option<String>,
    /// The rule that allows it, or the nearest of those that do not.
    pub rule: Option<EgressName>,
    /// Every rule for the host, in the order in which they are asked.
    pub candidates: Vec<EgressCandidate>,
    /// What could be spoken inside of a tunnel, where that was not said.
    pub inside: Vec<EgressInside>,
    /// What becomes of it.
    pub answer: EgressAnswer,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// A rule for the host that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressCandidate {
    /// Its name.
    pub rule: EgressName,
    /// The first of its conditions that does not hold; none where it allows.
    pub lacks: Option<&'static str>,
}

/// Something that could be spoken inside of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressInside {
    /// What.
    pub what: String,
    /// The rule that allows it, or the nearest of those that do not.
    pub rule: Option<EgressName>,
    /// Why not; none where it is allowed.
    pub refused: Option<&'static str>,
    /// It passes nevertheless.
    pub shadow: bool,
    /// What it is connected to is public, or one of these: both this rule and the one that let the tunnel open
    /// list them.
    pub addresses: Vec<IpNet>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum EgressAnswer {
    /// It goes out.
    Pass {
        /// To this port.
        port: u16,
        /// Besides public addresses to these.
        addresses: Vec<IpNet>,
        /// Through this proxy, which looks for the address itself.
        via: Option<UpstreamName>,
        /// Inside of TLS that begins here.
        tls: bool,
        /// As often as this at most.
        rate: Option<Rate>,
        /// What it would be but for `mode = "shadow"`.
        shadow: Option<Refusal>,
    },
    /// It does not.
    Refuse(Refusal),
}

/// What somebody is told, and the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The word in the access log.
    pub reason: &'static str,
    /// The same for people.
    pub why: String,
}

impl EgressReport {
    pub(super) fn new(listener: &Listener, asked: &AskedEgress, client: IpAddr) -> Self {
        Self {
            listener: listener.name.clone(),
            address: listener.address.clone(),
            protocol: listener.protocol,
            method: asked.method.clone(),
            asked: asked.target.clone(),
            target: None,
            port: None,
            path: None,
            client: client.to_canonical(),
            user: asked.user.clone(),
            identity: asked.identity.clone(),
            rule: None,
            candidates: Vec::new(),
            inside: Vec::new(),
            answer: EgressAnswer::Refuse(Refusal::of(&ProxyError::EgressTarget)),
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub(super) fn candidates(&mut self, table: &Table, asker: &Asker<'_>, ask: &Ask<'_>) {
        let candidates = table.candidates(asker, ask);
        let candidates = candidates.map(|(rule, why)| EgressCandidate {
            rule: rule.name.clone(),
            lacks: why.map(Why::word),
        });
        self.candidates = candidates.collect();
    }

    /// Whether it goes out.
    pub fn matches(&self) -> bool {
        matches!(self.answer, EgressAnswer::Pass { .. })
    }
}

impl EgressInside {
    pub(super) fn new(what: String, decision: &Decision, addresses: Vec<IpNet>) -> Self {
        Self {
            what,
            rule: decision.rule.clone(),
            refused: decision.why().map(Why::word),
            shadow: decision.shadow,
            addresses,
        }
    }
}

impl EgressAnswer {
    pub(super) fn pass(
        rule: Option<&EgressRule>,
        addresses: Vec<IpNet>,
        ask: &Ask<'_>,
        shadow: Option<Refusal>,
    ) -> Self {
        Self::Pass {
            port: rule.map_or(ask.port, |rule| dialled_port(rule, ask)),
            addresses,
            via: rule.and_then(|rule| rule.via.clone()),
            tls: rule.is_some_and(|rule| rule.tls.is_some())
                && matches!(ask.kind, Kind::Http { .. }),
            rate: rule.and_then(|rule| rule.rate),
            shadow,
        }
    }
}

impl Refusal {
    pub(super) fn of(error: &ProxyError) -> Self {
        let verdict = error.verdict();
        Self {
            status: verdict.status.as_u16(),
            reason: verdict.reason,
            why: error.to_string(),
        }
    }
}
