//! Words of the configuration that check but that nothing here serves yet: loading them would mean to
//! do something else than was written.

use sluice_config::{Problem, Snapshot};

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
    problems
}

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    #[test]
    fn what_was_written_with_tls_is_never_done_without() {
        let text = "[listeners.web]\naddress = \":443\"\nprotocol = \"https\"\n\
            certificates = { auto = \"local\" }\n";
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot.expect("a good configuration");
        let problems = super::super::files(&snapshot).expect_err("a refusal");
        assert_eq!(problems[0].at, "listeners.web.protocol");
    }
}
