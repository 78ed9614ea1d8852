//! The decision itself: the first rule for the host all of whose conditions hold.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use ipnet::IpNet;
use sluice_config::{
    model::{self, EgressDefault, EgressMode, EgressRule, Method},
    names::EgressName,
};

use super::{
    Ask, Asker, Decision, Kind, Outcome, Sni, Target, Why, addresses::is_dialable, hosts::Hosts,
};
use crate::route::path_holds;

/// Ports of requests and of TLS that a rule is for without saying so.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// This machine, by whatever name.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
];

/// Every rule, ready to be asked.
#[derive(Debug)]
pub struct Table {
    /// None where there is no `[egress]`.
    written: Option<Arc<model::Egress>>,
    settings: Arc<model::Egress>,
    hosts: Hosts,
}

/// Where an ask comes from, as far as its port goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is.
    Direct,
    /// Inside a tunnel, whose port was decided about with it.
    Tunnelled,
}

impl Table {
    /// Compiles `[egress]`. Without it everybody may reach everything that is public, and open tunnels to port
    /// 443.
    pub fn compile(model: Option<&Arc<model::Egress>>) -> Self {
        let settings = model.map_or_else(
            || {
                Arc::new(model::Egress {
                    default: EgressDefault::Allow,
                    ..model::Egress::default()
                })
            },
            Arc::clone,
        );
        Self {
            written: model.map(Arc::clone),
            hosts: Hosts::compile(&settings.allow),
            settings,
        }
    }

    /// Whether it is made of `model`.
    pub(super) fn is_of(&self, model: Option<&Arc<model::Egress>>) -> bool {
        self.written.as_ref() == model
    }

    pub(super) fn settings(&self) -> &model::Egress {
        &self.settings
    }

    /// Whether what is refused passes.
    pub fn is_shadow(&self) -> bool {
        self.settings.mode == EgressMode::Shadow
    }

    /// Every rule, in the order of their names.
    pub fn rules(&self) -> &[EgressRule] {
        &self.settings.allow
    }

    /// The rule of that name.
    pub fn rule(&self, name: &EgressName) -> Option<&EgressRule> {
        self.rules().get(self.position(name)?)
    }

    pub(super) fn position(&self, name: &EgressName) -> Option<usize> {
        let rules = self.rules();
        rules.binary_search_by(|rule| rule.name.cmp(name)).ok()
    }

    /// The rule that says how an attempt is led outside; none where no rule does.
    pub fn leader(&self, decision: &Decision) -> Option<&EgressRule> {
        self.rule(decision.led_by()?)
    }

    /// The networks that are not public and may be dialled for an attempt that passes.
    pub fn listed(&self, decision: &Decision) -> &[IpNet] {
        match self.leader(decision) {
            Some(rule) => &rule.addresses,
            None if decision.passes() => &self.settings.addresses,
            None => &[],
        }
    }

    /// What becomes of an attempt, but for rates. A tunnel is allowed when something inside it could be.
    pub fn decide(&self, asker: &Asker<'_>, ask: &Ask<'_>) -> Decision {
        self.find(asker, ask, Way::Direct)
    }

    /// As [`Table::decide`], about what is spoken inside a tunnel that `outer` let open. It leads where it leads:
    /// who would have to go another way may not, not even in the shadow.
    pub fn inside(&self, outer: &Decision, asker: &Asker<'_>, ask: &Ask<'_>) -> Decision {
        let mut decision = self.find(asker, ask, Way::Tunnelled);
        let via = |decision| self.leader(decision).and_then(|rule| rule.via.as_ref());
        if decision.passes() && via(&decision) != via(outer) {
            let why = decision.why().unwrap_or(Why::Protocol);
            decision.outcome = Outcome::Refused(why);
            decision.shadow = false;
        }
        decision
    }

    /// Every rule for the host, in the order in which they are asked, with the first of its conditions that does
    /// not hold; none where it allows. For whoever wants to know why.
    pub fn candidates<'t>(
        &'t self,
        asker: &'t Asker<'_>,
        ask: &'t Ask<'_>,
    ) -> impl Iterator<Item = (&'t EgressRule, Option<Why>)> {
        self.objections(asker, ask, Way::Direct)
    }

    fn objections<'t>(
        &'t self,
        asker: &'t Asker<'_>,
        ask: &'t Ask<'_>,
        way: Way,
    ) -> impl Iterator<Item = (&'t EgressRule, Option<Why>)> {
        let rules = self.hosts.find(ask.target);
        let rules = rules.filter_map(|position| self.rules().get(position));
        rules.map(move |rule| (rule, self.objection(rule, asker, ask, way)))
    }

    fn find(&self, asker: &Asker<'_>, ask: &Ask<'_>, way: Way) -> Decision {
        let mut nearest: Option<(Why, &EgressName)> = None;
        for (rule, objection) in self.objections(asker, ask, way) {
            match objection {
                None => return allowed(Some(&rule.name)),
                Some(why) if nearest.is_none_or(|(known, _)| known < why) => {
                    nearest = Some((why, &rule.name));
                }
                Some(_) => {}
            }
        }
        match (self.settings.default, nearest) {
            (EgressDefault::Allow, _) => match self.objection_of_all(ask, way) {
                None => allowed(None),
                Some(why) => self.refused(ask, why, None),
            },
            (EgressDefault::Deny, Some((why, rule))) => self.refused(ask, why, Some(rule)),
            (EgressDefault::Deny, None) => self.refused(ask, Why::Host, None),
        }
    }

    /// What would pass in the shadow but for its address is refused for that.
    fn refused(&self, ask: &Ask<'_>, why: Why, rule: Option<&EgressName>) -> Decision {
        // As where everything may be: the rule has not allowed it.
        let reachable = is_reachable(ask.target, &self.settings.addresses);
        let why = match self.settings.mode {
            EgressMode::Shadow if !reachable => Why::Address,
            EgressMode::Shadow | EgressMode::Enforce => why,
        };
        Decision {
            rule: rule.cloned(),
            outcome: Outcome::Refused(why),
            shadow: self.is_shadow() && reachable,
            wait: None,
        }
    }

    /// Why not, where no rule says anything and everything else may be.
    fn objection_of_all(&self, ask: &Ask<'_>, way: Way) -> Option<Why> {
        if ask.kind == Kind::Tunnel
            && way == Way::Direct
            && !has(&self.settings.connect_ports, ask.port)
        {
            return Some(Why::Port);
        }
        let reachable = is_reachable(ask.target, &self.settings.addresses);
        (!reachable).then_some(Why::Address)
    }

    /// The first condition of a rule for the host that does not hold. In the order of [`Why`].
    fn objection(
        &self,
        rule: &EgressRule,
        asker: &Asker<'_>,
        ask: &Ask<'_>,
        way: Way,
    ) -> Option<Why> {
        if !self.admits_port(rule, ask, way) {
            return Some(Why::Port);
        }
        if !speaks(rule, ask.kind) {
            return Some(Why::Protocol);
        }
        if let Kind::Http { method, path } = ask.kind {
            if !any_or_none(&rule.methods, |it: &Method| it.as_str() == method) {
                return Some(Why::Method);
            }
            if !any_or_none(&rule.paths, |it| path_holds(it, path)) {
                return Some(Why::Path);
            }
        }
        let source = asker.source.to_canonical();
        if !any_or_none(&rule.from.sources, |it| it.contains(&source)) {
            return Some(Why::Source);
        }
        if !any_or_none(&rule.from.users, |it| Some(it.as_str()) == asker.user) {
            return Some(Why::User);
        }
        let identity = asker.identity;
        if !any_or_none(&rule.from.identities, |it| {
            identity.is_some_and(|identity| it.covers(identity))
        }) {
            return Some(Why::Identity);
        }
        if !is_reachable(ask.target, &rule.addresses) {
            return Some(Why::Address);
        }
        name_objection(rule, ask)
    }

    fn admits_port(&self, rule: &EgressRule, ask: &Ask<'_>, way: Way) -> bool {
        let port = dialled_port(rule, ask);
        match (&rule.ports, ask.kind, way) {
            (Some(ports), _, _) => has(ports, port),
            (None, Kind::Http { .. }, _) => matches!(port, HTTP | HTTPS),
            (None, Kind::Tunnel, _) | (None, _, Way::Tunnelled) => {
                has(&self.settings.connect_ports, port)
            }
            (None, Kind::Tls { .. } | Kind::Tcp, Way::Direct) => port == HTTPS,
        }
    }
}

/// What can be said of addresses before a name is resolved.
fn is_reachable(target: &Target, listed: &[IpNet]) -> bool {
    match target {
        Target::Address(address) => is_dialable(*address, listed),
        Target::Name(_) if target.is_loopback_name() => {
            LOOPBACK.iter().any(|own| is_dialable(*own, listed))
        }
        Target::Name(_) => true,
    }
}

/// The port that is dialled for an attempt which `rule` allows: TLS is not spoken to the port of plain HTTP.
pub fn dialled_port(rule: &EgressRule, ask: &Ask<'_>) -> u16 {
    match ask.kind {
        Kind::Http { .. } if rule.tls.is_some() && ask.port == HTTP => HTTPS,
        _ => ask.port,
    }
}

fn allowed(rule: Option<&EgressName>) -> Decision {
    Decision {
        rule: rule.cloned(),
        outcome: Outcome::Allowed,
        shadow: false,
        wait: None,
    }
}

/// Whether a rule is for what is spoken, or could be for something inside a tunnel.
fn speaks(rule: &EgressRule, kind: Kind<'_>) -> bool {
    let wanted = rule.protocols;
    // What can be held against methods and paths is a request that we see.
    let sees = !rule.methods.is_empty() || !rule.paths.is_empty();
    match kind {
        Kind::Http { .. } => wanted.http,
        Kind::Tunnel | Kind::Tls { .. } => (wanted.tls || wanted.tcp) && !sees,
        Kind::Tcp => wanted.tcp && !sees,
    }
}

/// Whom TLS has to be for, unless anything may be spoken.
fn name_objection(rule: &EgressRule, ask: &Ask<'_>) -> Option<Why> {
    let Kind::Tls { name } = ask.kind else {
        return None;
    };
    if rule.protocols.tcp {
        return None;
    }
    match name {
        Sni::Name(name) => (!ask.target.is(name)).then_some(Why::SniMismatch),
        Sni::Absent => (!rule.without_sni).then_some(Why::SniAbsent),
        Sni::Encrypted => (!rule.encrypted_client_hello).then_some(Why::SniEncrypted),
    }
}

fn has(ports: &[RangeInclusive<u16>], port: u16) -> bool {
    ports.iter().any(|range| range.contains(&port))
}

/// Whether there is no condition, or one of its alternatives holds.
fn any_or_none<T>(alternatives: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(holds)
}
