//! Which hosts of https listeners no certificate covers.
//!
//! Certificates from files without `hosts` stand for the names in them, which the check cannot know:
//! there the load step asks again, with [`uncovered`].

use std::collections::{BTreeMap, HashSet};

use crate::check::{Draft, Drafts, tls::client::is_refused};
use crate::{
    Problem, Snapshot,
    findings::{Finding, Findings},
    model::{Certificate, CertificateSource, HostPattern, Listener, Route},
    names::{CertificateName, ListenerName, RouteName},
    tree::At,
};

/// A host of a route that a listener cannot serve.
struct Gap {
    route: RouteName,
    position: usize,
    host: HostPattern,
    listener: ListenerName,
}

impl Gap {
    fn what(&self) -> String {
        let Self { host, listener, .. } = self;
        format!("no certificate of listener {listener} covers {host}")
    }

    fn hint(&self) -> String {
        let host = self.host.to_string();
        let below = match &self.host {
            HostPattern::Exact(_) => "",
            HostPattern::Wildcard(_) | HostPattern::Any => " (a wildcard needs a wildcard)",
        };
        format!(
            "add {host:?} to `hosts` of a [certificates.NAME]{below}, or write \
             certificates = {{ auto = \"ISSUER\" }} on the listener"
        )
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
    let certificates = drafts.certificates.iter();
    let certificates: BTreeMap<_, _> = certificates
        .filter_map(|(name, draft)| Some((name, draft.object.as_ref()?)))
        .collect();
    let gaps = gaps(
        &clean(&drafts.listeners).collect::<Vec<_>>(),
        &clean(&drafts.routes).collect::<Vec<_>>(),
        &certificates,
        &names,
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
    let certificates = snapshot.certificates.iter();
    let certificates = certificates
        .map(|(name, certificate)| (name, certificate.as_ref()))
        .collect();
    let gaps = gaps(&listeners, &routes, &certificates, names);
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

fn gaps(
    listeners: &[&Listener],
    routes: &[&Route],
    certificates: &BTreeMap<&CertificateName, &Certificate>,
    names: &dyn Fn(&Certificate) -> Option<Vec<HostPattern>>,
) -> Vec<Gap> {
    let covered: BTreeMap<&ListenerName, Covered> = listeners
        .iter()
        .filter_map(|listener| Some((&listener.name, Covered::by(listener, certificates, names)?)))
        .collect();
    let mut gaps = Vec::new();
    for route in routes.iter().filter(|route| !is_refused(route)) {
        for (position, host) in route.hosts.iter().enumerate() {
            let lacks = |listener: &&ListenerName| {
                let covered = covered.get(*listener);
                covered.is_some_and(|covered| !covered.has(host))
            };
            if let Some(listener) = route.listeners.iter().find(lacks) {
                gaps.push(Gap {
                    route: route.name.clone(),
                    position,
                    host: host.clone(),
                    listener: listener.clone(),
                });
            }
        }
    }
    gaps
}

/// What a listener can serve.
struct Covered {
    hosts: HashSet<HostPattern>,
    /// Whatever is routed gets a certificate.
    auto: bool,
}

impl Covered {
    /// None: it ends no TLS, or it is not known what its certificates stand for.
    fn by(
        listener: &Listener,
        certificates: &BTreeMap<&CertificateName, &Certificate>,
        names: &dyn Fn(&Certificate) -> Option<Vec<HostPattern>>,
    ) -> Option<Self> {
        let chosen = &listener.tls.as_ref()?.certificates;
        let mut hosts = HashSet::new();
        for (name, certificate) in certificates {
            if !chosen.names.has(name) {
                continue;
            }
            if certificate.hosts.is_empty() {
                hosts.extend(names(certificate)?);
            } else {
                hosts.extend(certificate.hosts.iter().cloned());
            }
        }
        Some(Self {
            hosts,
            auto: chosen.auto.is_some(),
        })
    }

    /// A wildcard in a certificate stands for one label (RFC 9525 §6.3), so a wildcard of a route,
    /// which stands for more, is served as far as a certificate goes: at least the same is needed.
    fn has(&self, host: &HostPattern) -> bool {
        if self.auto || *host == HostPattern::Any || self.hosts.contains(host) {
            return true;
        }
        let HostPattern::Exact(name) = host else {
            return false;
        };
        let suffix = name.find('.').and_then(|dot| name.get(dot..));
        let is_ip = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        suffix.is_some_and(|suffix| {
            !is_ip
                && self
                    .hosts
                    .contains(&HostPattern::Wildcard(suffix.to_owned()))
        })
    }
}
