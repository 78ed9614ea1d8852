//! What the language has words for and the gateway does not do yet: refused, so that nobody believes
//! that it is done.

use sluice_config::{
    Problem, Snapshot,
    model::{Balance, Listener, Protocol, Upstream},
};

/// Everything in `snapshot` that is not done yet.
pub(super) fn problems(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, listener) in &snapshot.listeners {
        let keys = of_listener(listener).into_iter();
        let keys = keys.filter(|(_, written)| *written);
        problems.extend(keys.map(|(key, _)| problem(format!("listeners.{name}.{key}"))));
    }
    for (name, upstream) in &snapshot.upstreams {
        let keys = of_upstream(upstream).into_iter();
        let keys = keys.filter(|(_, written)| *written);
        problems.extend(keys.map(|(key, _)| problem(format!("upstreams.{name}.{key}"))));
    }
    problems
}

/// Keys of a listener.
fn of_listener(listener: &Listener) -> [(&'static str, bool); 1] {
    [("protocol", listener.protocol == Protocol::Udp)]
}

/// Keys of an upstream.
fn of_upstream(upstream: &Upstream) -> [(&'static str, bool); 1] {
    [("balance", upstream.balance == Balance::RingHash)]
}

fn problem(at: String) -> Problem {
    Problem {
        code: "unsupported",
        what: format!("what {at} asks for is not in this version yet"),
        at,
        hint: Some("take it away".to_owned()),
        witness: None,
        place: None,
    }
}
