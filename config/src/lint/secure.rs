//! What weakens TLS, or leads to it where there is none.

use super::problem;
use crate::{Problem, Snapshot, model::Protocol};

pub(super) fn check(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = insecure(snapshot);
    problems.extend(redirected_nowhere(snapshot));
    problems.extend(unused_certificates(snapshot));
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
    if listeners.any(|listener| listener.protocol == Protocol::Https) {
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
