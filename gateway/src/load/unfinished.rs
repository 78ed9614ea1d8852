//! Words of the configuration that check but that nothing here serves yet: loading them would mean to
//! do something else than was written.

use sluice_config::{Problem, Snapshot};

/// What of `snapshot` cannot be done.
pub(super) fn refuse(snapshot: &Snapshot) -> Vec<Problem> {
    let tls = snapshot
        .listeners
        .values()
        .filter(|listener| listener.tls.is_some());
    tls.map(|listener| Problem {
        code: "unsupported",
        at: format!("listeners.{}.protocol", listener.name),
        what: "this version does not end TLS yet".to_owned(),
        hint: Some("only \"http\" is served now".to_owned()),
        witness: None,
        place: None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    #[test]
    fn a_listener_with_tls_is_never_served_without() {
        let text = "[listeners.web]\naddress = \":443\"\nprotocol = \"https\"\n\
            certificates = { auto = \"local\" }\n";
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot.expect("a good configuration");
        let problems = super::super::files(&snapshot).expect_err("a refusal");
        assert_eq!(problems[0].at, "listeners.web.protocol");
    }
}
