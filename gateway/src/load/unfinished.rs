//! Words of the configuration that check but that nothing here serves yet: loading them would mean to
//! do something else than was written.

use sluice_config::{Problem, Snapshot, model::CertificateSource};

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
        let tls = listener.tls.as_ref();
        if tls.is_some_and(|tls| tls.certificates.auto.is_some()) {
            let at = format!("listeners.{}.certificates.auto", listener.name);
            refuse(at, NO_ORDERS);
        }
    }
    for (name, certificate) in &snapshot.certificates {
        if matches!(certificate.source, CertificateSource::Auto(_)) {
            refuse(format!("certificates.{name}.auto"), NO_ORDERS);
        }
    }
    problems
}

const NO_ORDERS: &str = "this version orders no certificates yet";

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    #[test]
    fn what_was_written_with_tls_is_never_done_without() {
        let text = "[listeners.web]\naddress = \":443\"\nprotocol = \"https\"\n\
            certificates = { auto = \"local\" }\n";
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot.expect("a good configuration");
        let keeper = super::super::Keeper::default();
        let problems = super::super::files(&snapshot, &keeper).expect_err("a refusal");
        let places: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(places, ["listeners.web.certificates.auto"]);
    }
}
