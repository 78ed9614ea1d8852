//! What would become of somebody who wants to go out.
//!
//! The same steps as in `http/outward.rs`, on the same types: who asks, where to, what the rules say of it, and of
//! what is spoken inside a tunnel. Names are not looked up, so what is said of addresses is which may be
//! connected to. Pure.

mod print;
mod report;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::{HeaderValue, Method, Request, Uri, header, request::Parts};
use ipnet::IpNet;
use sluice_config::{
    Snapshot,
    model::{ClientCertificateMode, Listener, Protocol},
    names::ListenerName,
};

use super::{Unexplained, known};
use crate::{
    egress::{Ask, Asker, Decision, Kind, Outcome, Sni, Table, Target, Why},
    error::{Malformed, ProxyError},
    http::normalize::normalize,
};

pub use report::{EgressAnswer, EgressCandidate, EgressInside, EgressReport, Refusal};

/// An attempt to go out as somebody asks about it.
#[derive(Debug, Clone)]
pub struct AskedEgress {
    /// `CONNECT` or the method of a request; `TLS` or `TCP` for what is redirected to a transparent listener.
    pub method: String,
    /// `HOST:PORT`, or the URL of a request.
    pub target: String,
    /// The client's address; `127.0.0.1` when not given.
    pub client: Option<IpAddr>,
    /// Who the client is by its password, which is taken to be right.
    pub user: Option<String>,
    /// Who the client is by its certificate.
    pub identity: Option<String>,
    /// The name in the TLS handshake, which is empty where it names nobody.
    pub sni: Option<String>,
    /// Where it comes in; the first that fits when not given.
    pub listener: Option<ListenerName>,
}

/// What is to be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Tunnel,
    Request,
    Tls,
    Tcp,
}

impl Wish {
    fn of(method: &str) -> Self {
        match method {
            "CONNECT" => Self::Tunnel,
            "TLS" => Self::Tls,
            "TCP" => Self::Tcp,
            _ => Self::Request,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Tunnel | Self::Request => Protocol::ForwardProxy,
            Self::Tls | Self::Tcp => Protocol::Transparent,
        }
    }
}

/// Says what would become of `asked`.
pub fn explain_egress(
    snapshot: &Snapshot,
    asked: &AskedEgress,
) -> Result<EgressReport, Unexplained> {
    let wish = Wish::of(&asked.method);
    let listener = choose(snapshot, asked, wish.protocol())?;
    let client = asked.client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut report = EgressReport::new(listener, asked, client);
    if snapshot.egress.is_none() {
        report.note("there is no [egress]: everybody may reach everything that is public");
    }
    let walk = Walk {
        table: Table::compile(snapshot.egress.as_ref()),
        listener,
    };
    if let Err(error) = walk.go(wish, asked, &mut report) {
        report.answer = EgressAnswer::Refuse(Refusal::of(&error));
    }
    Ok(report)
}

/// The way of one attempt.
struct Walk<'a> {
    table: Table,
    listener: &'a Listener,
}

impl Walk<'_> {
    fn go(
        &self,
        wish: Wish,
        wanted: &AskedEgress,
        report: &mut EgressReport,
    ) -> Result<(), ProxyError> {
        let parts = match wish {
            Wish::Request => Some(self.request(wanted)?),
            Wish::Tunnel | Wish::Tls | Wish::Tcp => None,
        };
        let user = self.user(wanted, report)?;
        let identity = self.identity(wanted, report);
        let (target, port) = read(wish, wanted)?;
        report.target = Some(target.to_string());
        report.port = Some(port);
        report.path = parts.as_ref().map(|parts| parts.uri.path().to_owned());
        let asker = Asker {
            source: report.client,
            user: user.as_deref(),
            identity: identity.as_deref(),
        };
        let ask = |kind| Ask {
            target: &target,
            port,
            kind,
        };
        let outer = ask(match (&parts, wish) {
            (Some(parts), _) => Kind::Http {
                method: parts.method.as_str(),
                path: parts.uri.path(),
            },
            (None, Wish::Tls) => Kind::Tls {
                name: said(wanted.sni.as_deref(), &target),
            },
            (None, Wish::Tcp) => Kind::Tcp,
            (None, Wish::Tunnel | Wish::Request) => Kind::Tunnel,
        });
        let mut decision = self.table.decide(&asker, &outer);
        let mut addresses = self.table.listed(&decision).to_vec();
        report.candidates(&self.table, &asker, &outer);
        if outer.kind == Kind::Tunnel && decision.passes() {
            match &wanted.sni {
                Some(name) => {
                    let kind = Kind::Tls { name: sni(name) };
                    let outer = (&decision, &*addresses);
                    (decision, addresses) = self.spoken(outer, &asker, &ask, kind);
                }
                None => self.guess((&decision, &addresses), &asker, &ask, report),
            }
        }
        report.rule.clone_from(&decision.rule);
        report.answer = self.answer(&decision, addresses, &outer)?;
        Ok(())
    }

    /// The request as it is decided about: its path is brought into one form first.
    fn request(&self, asked: &AskedEgress) -> Result<Parts, ProxyError> {
        let malformed = || ProxyError::BadRequest(Malformed::Target);
        let uri: Uri = asked.target.parse().map_err(|_| malformed())?;
        let method = Method::from_bytes(asked.method.as_bytes()).map_err(|_| malformed())?;
        let (mut parts, ()) = Request::new(()).into_parts();
        if let Some(authority) = uri.authority() {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| malformed())?;
            parts.headers.insert(header::HOST, host);
        }
        parts.method = method;
        parts.uri = uri;
        normalize(&mut parts, self.listener)?;
        Ok(parts)
    }

    /// Who the client is, where the listener asks for it.
    fn user(
        &self,
        asked: &AskedEgress,
        report: &mut EgressReport,
    ) -> Result<Option<String>, ProxyError> {
        let Some(basic) = &self.listener.basic else {
            if asked.user.is_some() {
                report.note("the listener asks nobody for a name, so --user says nothing");
            }
            return Ok(None);
        };
        let Some(user) = &asked.user else {
            report.note("the listener asks for a name: say with --user which");
            return Err(ProxyError::ProxyAuthentication);
        };
        if !basic.users.iter().any(|(name, _)| name == user) {
            if basic.file.is_none() {
                report.note("`basic` of the listener has no such user");
                return Err(ProxyError::ProxyAuthentication);
            }
            report.note("taken as a user from the file of `basic`, which is not read here");
        }
        Ok(Some(user.clone()))
    }

    /// Who the client is by its certificate, where the listener looks at one.
    fn identity(&self, asked: &AskedEgress, report: &mut EgressReport) -> Option<String> {
        let tls = self.listener.tls.as_ref();
        let policy = tls.and_then(|tls| tls.client_certificates.as_ref());
        let mode = policy.map_or(ClientCertificateMode::Off, |policy| policy.mode);
        match (mode, &asked.identity) {
            (ClientCertificateMode::Off, Some(_)) => {
                report.note("the listener asks for no certificate, so --identity says nothing");
                None
            }
            (ClientCertificateMode::Required, None) => {
                report
                    .note("taken as a certificate without an identity: say with --identity which");
                None
            }
            (_, identity) => identity.clone(),
        }
    }

    /// What could be spoken inside of a tunnel, of which nothing is known.
    fn guess<'t>(
        &self,
        outer: (&Decision, &[IpNet]),
        asker: &Asker<'_>,
        ask: &impl Fn(Kind<'t>) -> Ask<'t>,
        report: &mut EgressReport,
    ) {
        let target = ask(Kind::Tunnel).target;
        let named = target.to_string();
        let (what, name) = match target {
            Target::Name(name) => (format!("TLS for {named}"), Sni::Name(name)),
            Target::Address(_) => ("TLS that names nobody".to_owned(), Sni::Absent),
        };
        let kinds = [
            (what, Kind::Tls { name }),
            ("anything else".to_owned(), Kind::Tcp),
        ];
        for (what, kind) in kinds {
            let (decision, addresses) = self.spoken(outer, asker, ask, kind);
            let inside = EgressInside::new(what, &decision, addresses);
            report.inside.push(inside);
        }
    }

    /// What is decided about what is spoken inside of a tunnel, and what that may be connected to: `outer` is
    /// why it could open, and to which addresses.
    fn spoken<'t>(
        &self,
        (outer, opened): (&Decision, &[IpNet]),
        asker: &Asker<'_>,
        ask: &impl Fn(Kind<'t>) -> Ask<'t>,
        kind: Kind<'t>,
    ) -> (Decision, Vec<IpNet>) {
        let within = |kind| {
            let decision = self.table.inside(outer, asker, &ask(kind));
            let addresses = if decision.passes() {
                shared(opened, self.table.listed(&decision))
            } else {
                opened.to_vec()
            };
            (decision, addresses)
        };
        let (own, anything) = (within(kind), within(Kind::Tcp));
        // Where anything may be spoken nobody looks at what it is.
        let allowed = own.0.outcome == Outcome::Allowed;
        let addresses = if allowed { &*own.1 } else { opened };
        let is_any = anything.0.outcome == Outcome::Allowed
            && addresses.iter().all(|network| covers(&anything.1, network));
        if is_any { anything } else { own }
    }

    fn answer(
        &self,
        decision: &Decision,
        addresses: Vec<IpNet>,
        ask: &Ask<'_>,
    ) -> Result<EgressAnswer, ProxyError> {
        let error = match decision.outcome {
            Outcome::Allowed => None,
            Outcome::Refused(Why::Address) => Some(ProxyError::EgressAddress),
            Outcome::Refused(why) => Some(ProxyError::EgressRefused { why: why.word() }),
        };
        match error {
            Some(error) if !decision.shadow => Err(error),
            error => {
                let shadow = error.as_ref().map(Refusal::of);
                let rule = self.table.leader(decision);
                Ok(EgressAnswer::pass(rule, addresses, ask, shadow))
            }
        }
    }
}

/// What is in a network of each side.
fn shared(one: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let within = |networks: &[IpNet], others: &[IpNet]| {
        let inner = networks.iter().filter(|it| covers(others, it));
        inner.copied().collect::<Vec<_>>()
    };
    let mut both = within(one, other);
    let rest = within(other, one).into_iter();
    both.extend(rest.filter(|it| !one.contains(it)));
    both
}

fn covers(networks: &[IpNet], network: &IpNet) -> bool {
    networks.iter().any(|it| it.contains(network))
}

/// Where to, as the listener reads it.
fn read(wish: Wish, asked: &AskedEgress) -> Result<(Target, u16), ProxyError> {
    let (text, port) = match wish {
        Wish::Request => {
            let rest = asked.target.strip_prefix("http://");
            let rest = rest.ok_or(ProxyError::EgressTarget)?;
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (rest.get(..end).unwrap_or_default(), Some(80))
        }
        Wish::Tunnel | Wish::Tls | Wish::Tcp => (asked.target.as_str(), None),
    };
    Target::parse(text, port).map_err(|_| ProxyError::EgressTarget)
}

/// The name in a handshake; when not given that of the target.
fn said<'a>(given: Option<&'a str>, target: &'a Target) -> Sni<'a> {
    match (given, target) {
        (Some(name), _) => sni(name),
        (None, Target::Name(name)) => Sni::Name(name),
        (None, Target::Address(_)) => Sni::Absent,
    }
}

fn sni(name: &str) -> Sni<'_> {
    if name.is_empty() {
        Sni::Absent
    } else {
        Sni::Name(name)
    }
}

/// The listener that is named, or the first that fits.
fn choose<'s>(
    snapshot: &'s Snapshot,
    asked: &AskedEgress,
    protocol: Protocol,
) -> Result<&'s Listener, Unexplained> {
    if let Some(name) = &asked.listener {
        let found = snapshot.listeners.get(name);
        let found = found.ok_or_else(|| Unexplained::NoListener {
            name: name.clone(),
            known: known(snapshot),
        })?;
        if found.protocol != protocol {
            return Err(Unexplained::NoEgress { protocol });
        }
        return Ok(found);
    }
    let mut listeners = snapshot.listeners.values();
    let found = listeners.find(|listener| listener.protocol == protocol);
    found
        .map(AsRef::as_ref)
        .ok_or(Unexplained::NoEgress { protocol })
}
