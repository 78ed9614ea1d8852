//! Words of the configuration that check but that nothing here serves yet: loading them would mean to
//! do something else than was written.

use sluice_config::{Problem, Snapshot, model::CertificateSource, names::IssuerName};

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
        let issuer = listener.tls.as_ref();
        let issuer = issuer.and_then(|tls| tls.certificates.auto.as_ref());
        if issuer.is_some_and(IssuerName::is_local) {
            let at = format!("listeners.{}.certificates.auto", listener.name);
            refuse(at, NO_DEVELOPMENT_CA);
        }
    }
    for (name, certificate) in &snapshot.certificates {
        if let CertificateSource::Auto(issuer) = &certificate.source
            && issuer.is_local()
        {
            refuse(format!("certificates.{name}.auto"), NO_DEVELOPMENT_CA);
        }
    }
    problems
}

const NO_DEVELOPMENT_CA: &str = "this version has no development CA yet";

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    #[test]
    fn what_was_written_with_tls_is_never_done_without() {
        let text = "[listeners.web]\naddress = \":443\"\nprotocol = \"https\"\n\
            certificates = { auto = \"local\" }\n";
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot.expect("a good configuration");
        let known = super::super::CertificateFiles::default();
        let problems = super::super::files(&snapshot, &known).expect_err("a refusal");
        let places: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(places, ["listeners.web.certificates.auto"]);
    }
}
