//! What weakens TLS, or leads to it where there is none.

use super::problem;
use crate::{
    Problem, Snapshot,
    model::{AcmeChallenge, CertificateSource, Listener, Protocol},
    names::IssuerName,
};

pub(super) fn check(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = insecure(snapshot);
    problems.extend(redirected_nowhere(snapshot));
    problems.extend(certificates_without_tls(snapshot));
    problems.extend(unused_certificates(snapshot));
    problems.extend(issuers(snapshot));
    problems
}

fn insecure(snapshot: &Snapshot) -> Vec<Problem> {
    let upstreams = snapshot.upstreams.values();
    let insecure =
        upstreams.filter(|upstream| upstream.tls.as_ref().is_some_and(|tls| tls.insecure));
    let problems = insecure.map(|upstream| {
        problem(
            "insecure_upstream",
            format!("upstreams.{}.tls.insecure", upstream.name),
            "every certificate is taken, so anybody on the way can read and change what passes"
                .to_owned(),
            "write ca = \"FILE\" with the CA that signed it, or san with the names it has",
        )
    });
    problems.collect()
}

/// Behind a proxy that is trusted to have ended TLS, the redirect leads back to that one.
fn redirected_nowhere(snapshot: &Snapshot) -> Vec<Problem> {
    let mut listeners = snapshot.listeners.values();
    let serves = |it: &Listener| match it.protocol {
        Protocol::Https => true,
        Protocol::Auto => it.tls.is_some(),
        Protocol::Http
        | Protocol::Tls
        | Protocol::Tcp
        | Protocol::Udp
        | Protocol::ForwardProxy
        | Protocol::Transparent => false,
    };
    if listeners.any(|listener| serves(listener)) {
        return Vec::new();
    }
    let listeners = snapshot.listeners.values();
    let redirecting = listeners.filter(|listener| {
        listener.https_redirect.is_some() && listener.trusted_proxies.is_empty()
    });
    let problems = redirecting.map(|listener| {
        problem(
            "no_https_listener",
            format!("listeners.{}.https_redirect", listener.name),
            "everybody is sent to https, which no listener serves".to_owned(),
            "write a listener with protocol = \"https\", or trusted_proxies where another program \
             ends TLS",
        )
    });
    problems.collect()
}

/// Nobody can show a certificate where no TLS is ended, so that nobody is served there.
fn certificates_without_tls(snapshot: &Snapshot) -> Vec<Problem> {
    let bound = snapshot.routes.values().flat_map(|route| {
        let listeners = route.listeners.iter();
        let listeners = listeners.filter_map(|name| snapshot.listeners.get(name));
        listeners.map(move |listener| (route, listener))
    });
    let useless = bound.filter(|(route, listener)| {
        let redirects = listener.https_redirect.is_some();
        let ends = listener.tls.is_some() && listener.hands_from_tls(route.mode);
        route.demands_certificate_on(listener) && !ends && !redirects
    });
    let problems = useless.map(|(route, listener)| {
        problem(
            "certificate_without_tls",
            format!("routes.{}.client_certificates", route.name),
            format!(
                "on listener {:?} nobody can show a certificate, so that nobody is served there",
                listener.name.as_str()
            ),
            "take the listener out of `listeners`, or let it redirect to https",
        )
    });
    problems.collect()
}

fn unused_certificates(snapshot: &Snapshot) -> Vec<Problem> {
    let used = |name| {
        let listeners = snapshot.listeners.values();
        let mut chosen = listeners.filter_map(|listener| listener.tls.as_ref());
        chosen.any(|tls| tls.certificates.names.has(name))
    };
    let unused = snapshot.certificates.keys().filter(|name| !used(name));
    let problems = unused.map(|name| {
        problem(
            "unused_certificate",
            format!("certificates.{name}"),
            format!("no listener serves certificate {:?}", name.as_str()),
            "name it in `certificates` of a listener with TLS, or take it away",
        )
    });
    problems.collect()
}

fn issuers(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, acme) in &snapshot.acme {
        if !orders(snapshot, name) {
            problems.push(problem(
                "unused_issuer",
                format!("acme.{name}"),
                format!("nothing is ordered from issuer {:?}", name.as_str()),
                "name it in `auto` of a listener or certificate, or in `fallback`, or take it away",
            ));
            continue;
        }
        let on = |port: u16, serves: fn(&Listener) -> bool| {
            let mut listeners = snapshot.listeners.values();
            listeners.any(|it| it.address.port() == Some(port) && serves(it))
        };
        let plain = |it: &Listener| matches!(it.protocol, Protocol::Http | Protocol::Auto);
        let (port, protocol, there) = match acme.challenge {
            AcmeChallenge::Http01 => (80, "http", on(80, plain)),
            AcmeChallenge::TlsAlpn01 => (443, "https", on(443, |it| it.tls.is_some())),
            AcmeChallenge::Dns01 => continue,
        };
        if !there {
            problems.push(problem(
                "challenge_port",
                format!("acme.{name}.challenge"),
                format!("the issuer comes to port {port}, where no {protocol} listener accepts"),
                "where another port is passed on to a listener here, that is fine; else add one",
            ));
        }
    }
    problems
}

/// Whether anything is ordered from an issuer.
fn orders(snapshot: &Snapshot, name: &IssuerName) -> bool {
    let listeners = snapshot.listeners.values();
    let mut listeners = listeners.filter_map(|listener| listener.tls.as_ref());
    let mut certificates = snapshot.certificates.values();
    let mut issuers = snapshot.acme.values();
    listeners.any(|tls| tls.certificates.auto.as_ref() == Some(name))
        || certificates
            .any(|it| matches!(&it.source, CertificateSource::Auto(issuer) if issuer == name))
        || issuers.any(|issuer| issuer.fallback.contains(name))
}
