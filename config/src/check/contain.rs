//! `on_error = "contain"`: what stands in for an object that is refused.
//!
//! Its previous version where there is one. Else it fails closed: a route or rule still matches
//! and answers 503 `config_refused`, nobody accepts on a listener, and what used a refused object is
//! refused with it. A route whose hosts or listeners cannot be read refuses everything, since
//! nobody knows what it would have matched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Draft, Drafts, references::place};
use crate::{
    Objects, Snapshot,
    model::{
        Acme, Action, Certificate, CertificateNames, CertificateSource, Destination, Egress,
        EgressDefault, EgressRule, Listener, Route, Rule, Upstream,
    },
    names::{CertificateName, IssuerName, UpstreamName},
};

/// The objects that may run; none when that cannot be said.
pub(super) fn contain(drafts: Drafts, previous: Option<&Snapshot>) -> Option<Objects> {
    let access_log = one(
        drafts.access_log,
        previous.map(|previous| &previous.access_log),
    );
    let dns = one(drafts.dns, previous.map(|previous| &previous.dns));
    let tracing = one(drafts.tracing, previous.map(|previous| &previous.tracing));
    let storage = one(drafts.storage, previous.map(|previous| &previous.storage));
    let mut objects = Objects {
        acme: keep(drafts.acme, previous.map(|previous| &previous.acme)),
        storage: storage.unwrap_or_default(),
        listeners: keep(
            drafts.listeners,
            previous.map(|previous| &previous.listeners),
        ),
        upstreams: keep(
            drafts.upstreams,
            previous.map(|previous| &previous.upstreams),
        ),
        routes: BTreeMap::new(),
        certificates: BTreeMap::new(),
        egress: None,
        access_log: access_log.unwrap_or_default(),
        dns: dns.unwrap_or_default(),
        tracing: tracing.unwrap_or_default(),
    };
    for (name, draft) in drafts.certificates {
        let before = previous.and_then(|previous| previous.certificates.get(&name));
        let certificate = match (draft.into_clean(), before) {
            (Ok(certificate), _) => Arc::new(certificate),
            (Err(_), Some(before)) => Arc::clone(before),
            (Err(rest), None) => Arc::new(rest?),
        };
        let certificate = ordered(certificate, &objects);
        objects.certificates.insert(name, certificate);
    }
    for listener in objects.listeners.values_mut() {
        without_lost(listener, &objects.certificates, &objects.acme);
    }
    let before = previous.and_then(|previous| previous.egress.as_ref());
    objects.egress = match drafts.egress.into_clean() {
        Ok(egress) => egress.map(Arc::new),
        // Where nothing was said before nobody knows what it was meant to refuse.
        Err(_) => Some(before.map_or_else(|| Arc::new(Egress::closed()), Arc::clone)),
    };
    if let Some(egress) = &mut objects.egress {
        with_proxies(egress, &objects.upstreams);
    }
    // A listener that keeps its previous address may stand where another one has moved.
    let addresses = objects.listeners.values().map(|listener| place(listener));
    let addresses: Vec<_> = addresses
        .filter(|(_, address)| address.port() != Some(0))
        .collect();
    if addresses.len() != addresses.iter().collect::<BTreeSet<_>>().len() {
        return None;
    }
    for (name, draft) in drafts.routes {
        let before = previous.and_then(|previous| previous.routes.get(&name));
        let route = match (draft.into_clean(), before) {
            (Ok(route), _) => Arc::new(route),
            (Err(_), Some(before)) => Arc::clone(before),
            (Err(rest), None) => Arc::new(rest?),
        };
        if let Some(route) = bound(&route, &objects) {
            objects.routes.insert(name, route);
        }
    }
    (!objects.listeners.is_empty()).then_some(objects)
}

/// It when it is clean, else its previous version.
fn one<T>(draft: Draft<T>, previous: Option<&Arc<T>>) -> Option<Arc<T>> {
    match draft.into_clean() {
        Ok(object) => Some(Arc::new(object)),
        Err(_) => previous.map(Arc::clone),
    }
}

/// The clean ones, and previous versions of the others.
fn keep<K: Ord, T>(
    drafts: BTreeMap<K, Draft<T>>,
    previous: Option<&BTreeMap<K, Arc<T>>>,
) -> BTreeMap<K, Arc<T>> {
    let kept = drafts.into_iter().filter_map(|(name, draft)| {
        let object = one(draft, previous.and_then(|previous| previous.get(&name)))?;
        Some((name, object))
    });
    kept.collect()
}

/// A certificate whose issuer is refused and gone is refused with it.
fn ordered(certificate: Arc<Certificate>, objects: &Objects) -> Arc<Certificate> {
    match &certificate.source {
        CertificateSource::Auto(issuer)
            if !issuer.is_local() && !objects.acme.contains_key(issuer) =>
        {
            Arc::new(Certificate {
                source: CertificateSource::Refused,
                ..(*certificate).clone()
            })
        }
        _ => certificate,
    }
}

/// A listener that keeps its previous version serves of its certificates those that are still there.
fn without_lost(
    listener: &mut Arc<Listener>,
    certificates: &BTreeMap<CertificateName, Arc<Certificate>>,
    acme: &BTreeMap<IssuerName, Arc<Acme>>,
) {
    let there = |name: &CertificateName| certificates.contains_key(name);
    let Some(tls) = &listener.tls else {
        return;
    };
    let chosen = &tls.certificates;
    let listed = match &chosen.names {
        CertificateNames::All => true,
        CertificateNames::Listed(names) => names.iter().all(there),
    };
    let issued = |issuer: &IssuerName| issuer.is_local() || acme.contains_key(issuer);
    let ordered = chosen.auto.as_ref().is_none_or(issued);
    if listed && ordered && chosen.default.as_ref().is_none_or(there) {
        return;
    }
    if let Some(tls) = &mut Arc::make_mut(listener).tls {
        tls.certificates.default.take_if(|name| !there(name));
        tls.certificates.auto.take_if(|issuer| !issued(issuer));
        if let CertificateNames::Listed(names) = &mut tls.certificates.names {
            names.retain(there);
        }
    }
}

/// A rule whose proxy is refused and gone is refused with it; then nothing may pass that no rule allows, for
/// nobody knows what would have gone through that proxy.
fn with_proxies(egress: &mut Arc<Egress>, upstreams: &BTreeMap<UpstreamName, Arc<Upstream>>) {
    let there = |rule: &EgressRule| {
        let via = rule.via.as_ref();
        via.is_none_or(|name| upstreams.contains_key(name))
    };
    if egress.allow.iter().all(there) {
        return;
    }
    let egress = Arc::make_mut(egress);
    egress.allow.retain(there);
    egress.default = EgressDefault::Deny;
}

/// The route without what it referred to and is not there any more; none when nothing can reach it.
fn bound(route: &Arc<Route>, objects: &Objects) -> Option<Arc<Route>> {
    let there = |name| {
        let listener = objects.listeners.get(name);
        listener.is_some_and(|listener| route.mode.is_allowed_on(listener.protocol))
    };
    let lacks = |rule: &Arc<Rule>| match &rule.action {
        Action::Forward(targets) => targets.iter().any(|target| match &target.destination {
            Destination::Upstream(name) => !objects.upstreams.contains_key(name),
            Destination::Service { .. } | Destination::Address(_) => false,
        }),
        Action::Redirect(_) | Action::Respond(_) | Action::Refused => false,
    };
    if route.listeners.iter().all(there) && !route.rules.iter().any(lacks) {
        return Some(Arc::clone(route));
    }
    let listeners: Vec<_> = route
        .listeners
        .iter()
        .filter(|name| there(name))
        .cloned()
        .collect();
    if listeners.is_empty() {
        return None;
    }
    let rules = route.rules.iter().map(|rule| {
        if lacks(rule) {
            Arc::new(Rule {
                action: Action::Refused,
                ..(**rule).clone()
            })
        } else {
            Arc::clone(rule)
        }
    });
    let rules = rules.collect();
    Some(Arc::new(Route {
        listeners,
        rules,
        ..(**route).clone()
    }))
}
