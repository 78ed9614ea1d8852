//! Which hosts of https listeners no certificate covers.
//!
//! Certificates from files without `hosts` stand for the names in them, which the check cannot know:
//! there the load step asks again, with [`uncovered`].

use std::collections::{BTreeMap, HashSet};

use crate::check::{Draft, Drafts, tls::client::is_refused};
use crate::{
    Problem, Snapshot,
    findings::{Finding, Findings},
    model::{
        Acme, Certificate, CertificateSource, HostPattern, Listener, Protocol, Route, is_address,
    },
    names::{CertificateName, IssuerName, ListenerName, RouteName},
    tree::At,
};

/// A host of a route that a listener cannot serve.
struct Gap {
    route: RouteName,
    position: usize,
    host: HostPattern,
    listener: ListenerName,
    /// It has an issuer, which cannot prove that host.
    issuer: bool,
}

impl Gap {
    fn what(&self) -> String {
        let Self { host, listener, .. } = self;
        format!("no certificate of listener {listener} covers {host}")
    }

    fn hint(&self) -> String {
        let host = self.host.to_string();
        let add = format!("add {host:?} to `hosts` of a [certificates.NAME]");
        match (&self.host, self.issuer) {
            (HostPattern::Exact(_), false) => {
                format!("{add}, or write certificates = {{ auto = \"ISSUER\" }} on the listener")
            }
            (HostPattern::Exact(_), true) => {
                format!("{add}: the issuer of the listener cannot prove an address with dns-01")
            }
            (HostPattern::Wildcard(_) | HostPattern::Any, false) => format!(
                "{add} (a wildcard needs a wildcard), or write certificates = {{ auto = \"ISSUER\" }} \
                 on the listener"
            ),
            (HostPattern::Wildcard(_) | HostPattern::Any, true) => format!(
                "{add}, or let the issuer of the listener prove it with challenge = \"dns-01\", or \
                 write `on_demand` for the names below"
            ),
        }
    }
}

/// Reports hosts that no certificate covers, and refuses their routes.
pub(in crate::check) fn check(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    fn clean<N, T>(drafts: &BTreeMap<N, Draft<T>>) -> impl Iterator<Item = &T> {
        let clean = drafts.values().filter(|draft| draft.clean);
        clean.filter_map(|draft| draft.object.as_ref())
    }

    let names = |certificate: &Certificate| match certificate.source {
        CertificateSource::Files(_) | CertificateSource::Refused => None,
        CertificateSource::Auto(_) => Some(Vec::new()),
    };
    let certificates = named(&drafts.certificates, |draft| draft.object.as_ref());
    let gaps = gaps(
        &clean(&drafts.listeners).collect::<Vec<_>>(),
        &clean(&drafts.routes).collect::<Vec<_>>(),
        &Held {
            certificates,
            acme: named(&drafts.acme, |draft| draft.object.as_ref()),
            names: &names,
        },
    );
    for gap in gaps {
        let at = At::Root.key("routes");
        let at = at.key(gap.route.as_str());
        let at = at.key("hosts");
        let finding = Finding::new("uncovered_host", gap.what());
        findings.value(&at.index(gap.position), finding.hint(gap.hint()));
        drafts.refuse_route(&gap.route);
    }
}

/// The hosts of `snapshot` that no certificate covers. `names` gives the hosts of a certificate from
/// files for which none are written: those of all its pairs; none where they are not known.
pub fn uncovered(
    snapshot: &Snapshot,
    names: &dyn Fn(&Certificate) -> Option<Vec<HostPattern>>,
) -> Vec<Problem> {
    let listeners: Vec<&Listener> = snapshot.listeners.values().map(AsRef::as_ref).collect();
    let routes: Vec<&Route> = snapshot.routes.values().map(AsRef::as_ref).collect();
    let held = Held {
        certificates: named(&snapshot.certificates, |it| Some(it.as_ref())),
        acme: named(&snapshot.acme, |it| Some(it.as_ref())),
        names,
    };
    let gaps = gaps(&listeners, &routes, &held);
    let problems = gaps.into_iter().map(|gap| Problem {
        code: "uncovered_host",
        at: format!("routes.{}.hosts[{}]", gap.route, gap.position),
        what: gap.what(),
        hint: Some(gap.hint()),
        witness: None,
        place: None,
    });
    problems.collect()
}

/// What listeners may choose from.
struct Held<'h> {
    certificates: BTreeMap<&'h CertificateName, &'h Certificate>,
    acme: BTreeMap<&'h IssuerName, &'h Acme>,
    /// The hosts of a certificate for which none are written.
    names: &'h dyn Fn(&Certificate) -> Option<Vec<HostPattern>>,
}

fn named<'d, N: Ord, D, T>(
    all: &'d BTreeMap<N, D>,
    object: impl Fn(&'d D) -> Option<&'d T>,
) -> BTreeMap<&'d N, &'d T> {
    let all = all.iter();
    all.filter_map(|(name, it)| Some((name, object(it)?)))
        .collect()
}

fn gaps(listeners: &[&Listener], routes: &[&Route], held: &Held<'_>) -> Vec<Gap> {
    // On auto a host may be meant for requests without TLS.
    let covered: BTreeMap<&ListenerName, (Protocol, Covered<'_>)> = listeners
        .iter()
        .filter(|listener| listener.protocol != Protocol::Auto)
        .filter_map(|listener| {
            let covered = Covered::by(listener, held)?;
            Some((&listener.name, (listener.protocol, covered)))
        })
        .collect();
    let mut gaps = Vec::new();
    for route in routes.iter().filter(|route| !is_refused(route)) {
        for (position, host) in route.hosts.iter().enumerate() {
            let lacks = |listener: &&ListenerName| {
                let covered = covered.get(*listener);
                covered.is_some_and(|(protocol, covered)| {
                    route.mode.is_inside_tls_of(*protocol) && !covered.has(host)
                })
            };
            if let Some(listener) = route.listeners.iter().find(lacks) {
                gaps.push(Gap {
                    route: route.name.clone(),
                    position,
                    host: host.clone(),
                    listener: listener.clone(),
                    issuer: covered
                        .get(listener)
                        .is_some_and(|(_, it)| it.issuer.is_some()),
                });
            }
        }
    }
    gaps
}

/// What a listener can serve.
struct Covered<'h> {
    hosts: HashSet<HostPattern>,
    issuer: Option<Issuer<'h>>,
}

/// Who issues certificates for what is routed.
enum Issuer<'h> {
    /// For everything: the development CA, or one that is refused, of which nothing is known.
    Any,
    /// For what it can prove.
    Acme(&'h Acme),
}

impl<'h> Covered<'h> {
    /// None: it ends no TLS, or it is not known what its certificates stand for.
    fn by(listener: &Listener, held: &Held<'h>) -> Option<Self> {
        let chosen = &listener.tls.as_ref()?.certificates;
        let mut hosts = HashSet::new();
        for (name, certificate) in &held.certificates {
            if !chosen.names.has(name) {
                continue;
            }
            if certificate.hosts.is_empty() {
                hosts.extend((held.names)(certificate)?);
            } else {
                hosts.extend(certificate.hosts.iter().cloned());
            }
        }
        let issuer = chosen.auto.as_ref().map(|name| {
            let acme = held.acme.get(name);
            acme.map_or(Issuer::Any, |acme| Issuer::Acme(acme))
        });
        Some(Self { hosts, issuer })
    }

    fn is_issued(&self, host: &HostPattern) -> bool {
        match (&self.issuer, host) {
            (None, _) => false,
            (Some(Issuer::Any), _) => true,
            (Some(Issuer::Acme(acme)), HostPattern::Wildcard(suffix)) => {
                let below = |demand: &crate::model::OnDemand| demand.admits_below(suffix);
                acme.can_order(host) || acme.on_demand.as_ref().is_some_and(below)
            }
            (Some(Issuer::Acme(acme)), _) => acme.can_order(host),
        }
    }

    /// A wildcard in a certificate stands for one label (RFC 9525 §6.3), so a wildcard of a route,
    /// which stands for more, is served as far as a certificate goes: at least the same is needed.
    fn has(&self, host: &HostPattern) -> bool {
        if *host == HostPattern::Any || self.hosts.contains(host) || self.is_issued(host) {
            return true;
        }
        let HostPattern::Exact(name) = host else {
            return false;
        };
        let suffix = name.find('.').and_then(|dot| name.get(dot..));
        suffix.is_some_and(|suffix| {
            !is_address(name)
                && self
                    .hosts
                    .contains(&HostPattern::Wildcard(suffix.to_owned()))
        })
    }
}
