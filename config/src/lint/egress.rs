//! Egress: ways out that nobody bounds, and rules that nobody can meet.

use std::sync::Arc;

use super::problem;
use crate::{
    Problem, Snapshot,
    model::{Basic, ClientCertificateMode, Egress, EgressDefault, EgressMode, Listener, Protocol},
};

pub(super) fn check(snapshot: &Snapshot) -> Vec<Problem> {
    let listeners = snapshot.listeners.values().map(Arc::as_ref);
    let listeners: Vec<&Listener> = listeners.filter(|it| it.protocol.is_egress()).collect();
    let Some(egress) = &snapshot.egress else {
        return listeners.into_iter().map(unbounded).collect();
    };
    let mut problems = Vec::new();
    if listeners.is_empty() {
        problems.push(problem(
            "unused_egress",
            "egress".to_owned(),
            "no listener leads out, so nothing is held against it".to_owned(),
            "write a listener with protocol = \"forward-proxy\" or \"transparent\", or take [egress] away",
        ));
        return problems;
    }
    let counts = egress.default == EgressDefault::Allow || egress.mode == EgressMode::Shadow;
    if !counts && !egress.addresses.is_empty() {
        problems.push(problem(
            "unused_addresses",
            "egress.addresses".to_owned(),
            "without default = \"allow\" only rules allow anything, and theirs count".to_owned(),
            "write them into the rules that need them",
        ));
    }
    problems.extend(strangers(egress, &listeners));
    problems.extend(unmarked(snapshot, egress));
    problems
}

/// Proxies to which connections lead without the mark that all others have.
fn unmarked(snapshot: &Snapshot, egress: &Egress) -> Vec<Problem> {
    let Some(mark) = egress.mark else {
        return Vec::new();
    };
    let vias = egress.allow.iter().filter_map(|rule| {
        let via = rule.via.as_ref()?;
        let upstream = snapshot.upstreams.get(via)?;
        upstream.socket.mark.is_none().then_some((rule, via))
    });
    let vias = vias.map(|(rule, via)| {
        problem(
            "unmarked_via",
            format!("egress.allow.{}.via", rule.name),
            format!("connections to {via} do not have the mark of [egress], so what redirects all others leads them back"),
            &format!("write socket = {{ mark = {mark} }} on upstreams.{via}"),
        )
    });
    vias.collect()
}

fn unbounded(listener: &Listener) -> Problem {
    problem(
        "unbounded_egress",
        format!("listeners.{}", listener.name),
        "everybody who gets in reaches everything that is public".to_owned(),
        "write [egress] with what is allowed, or [egress] default = \"allow\" where that is meant",
    )
}

/// Rules for users and identities that no client can have.
fn strangers(egress: &Egress, listeners: &[&Listener]) -> Vec<Problem> {
    let proxies = listeners.iter();
    let proxies = proxies.filter(|it| it.protocol == Protocol::ForwardProxy);
    let basics: Vec<&Basic> = proxies.filter_map(|it| it.basic.as_deref()).collect();
    // What stands in a file is known when it is loaded.
    let files = basics.iter().any(|basic| basic.file.is_some());
    let is_user = |name: &String| {
        let mut users = basics.iter().flat_map(|basic| &basic.users);
        files || users.any(|(user, _)| user == name)
    };
    let certified = listeners.iter().any(|it| {
        let asked = it
            .tls
            .as_ref()
            .and_then(|tls| tls.client_certificates.as_ref());
        asked.is_some_and(|asked| asked.mode != ClientCertificateMode::Off)
    });
    let mut problems = Vec::new();
    for rule in &egress.allow {
        let at = format!("egress.allow.{}.from", rule.name);
        let users = &rule.from.users;
        if !users.is_empty() && !users.iter().any(is_user) {
            problems.push(problem(
                "unknown_user",
                format!("{at}.users"),
                "no listener has a user of that name in `basic`, so that this rule never holds"
                    .to_owned(),
                "write the user into `basic` of a forward-proxy listener",
            ));
        }
        if !rule.from.identities.is_empty() && !certified {
            problems.push(problem(
                "unknown_identity",
                format!("{at}.identities"),
                "no forward-proxy listener asks for client certificates, so that this rule never holds"
                    .to_owned(),
                "write client_certificates on a forward-proxy listener with certificates",
            ));
        }
    }
    problems
}
