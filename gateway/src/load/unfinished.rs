//! Words of the configuration that check but that nothing here serves yet: loading them would mean to
//! do something else than was written.

use sluice_config::{
    Problem, Snapshot,
    model::{Action, Destination, Scheme, Target},
};

/// What of `snapshot` cannot be done.
pub(super) fn refuse(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |at: String, what: &str| {
        problems.push(Problem {
            code: "unsupported",
            at,
            what: what.to_owned(),
            hint: None,
            witness: None,
            place: None,
        });
    };
    for listener in snapshot.listeners.values() {
        if listener.tls.is_some() {
            let at = format!("listeners.{}.protocol", listener.name);
            refuse(at, "this version does not end TLS yet");
        }
    }
    let upstreams = snapshot.upstreams.values();
    for upstream in upstreams.filter(|upstream| upstream.tls.is_some()) {
        let at = format!("upstreams.{}.tls", upstream.name);
        refuse(at, NOT_YET);
    }
    for (name, route) in &snapshot.routes {
        let mut targets = route.rules.iter().flat_map(|rule| match &rule.action {
            Action::Forward(targets) => targets.as_slice(),
            Action::Redirect(_) | Action::Respond(_) | Action::Refused => &[],
        });
        let over_tls = |target: &Target| match &target.destination {
            Destination::Address(address) => {
                matches!(address.scheme, Scheme::Https | Scheme::H2)
            }
            Destination::Upstream(_) | Destination::Service { .. } => false,
        };
        if targets.any(over_tls) {
            refuse(format!("routes.{name}"), NOT_YET);
        }
    }
    problems
}

const NOT_YET: &str = "this version does not reach endpoints over TLS yet";

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    #[test]
    fn what_was_written_with_tls_is_never_done_without() {
        let text = "[listeners.web]\naddress = \":443\"\nprotocol = \"https\"\n\
            certificates = { auto = \"local\" }\n[routes.a]\nto = \"https://b\"\n\
            [upstreams.u]\nendpoints = \"10.0.0.1:443\"\ntls = true\n";
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot.expect("a good configuration");
        let problems = super::super::files(&snapshot).expect_err("a refusal");
        let places: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(
            places,
            ["listeners.web.protocol", "upstreams.u.tls", "routes.a"]
        );
    }
}
