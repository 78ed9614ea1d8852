//! Every reason word: provoked as it comes about in life, read in the access log as an operator reads
//! it, and looked up in `docs/verdicts.md`.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

#[path = "verdicts/ways.rs"]
mod ways;

macro_rules! provoked {
    ($($word:ident),* $(,)?) => {
        /// Words that a test of this file provokes.
        const PROVOKED: &[&str] = &[$(stringify!($word)),*];

        mod it_is_logged_and_explained {
            $(
                #[tokio::test]
                async fn $word() {
                    let line = super::ways::$word().await;
                    super::is_explained(stringify!($word), &line);
                }
            )*
        }
    };
}

// A new word needs a line here and a way to it.
provoked! {
    bad_request,
    expectation_failed,
    head_too_large,
    uri_too_long,
    body_too_large,
    head_timeout,
    body_timeout,
    flood,
    client_closed,
    client_stalled,
    misdirected,
    no_route,
    config_refused,
    no_target,
    fault,
    unknown_service,
    no_endpoint,
    overflow,
    connect,
    connect_timeout,
    upstream_tls,
    upstream_tls_name,
    upstream_tls_issuer,
    upstream_tls_validity,
    upstream_tls_certificate,
    upstream_tls_client_certificate,
    upstream_tls_alpn,
    upstream_startup,
    upstream_reset,
    upstream_protocol,
    stream_refused,
    response_timeout,
    try_timeout,
    upstream_stalled,
    response_broken,
    request_timeout,
    overloaded,
    protocol_refused,
    protocol_unsupported,
    upgrade_idle,
    upgrade_expired,
    stream_idle,
    stream_expired,
    proxy_authentication,
    authentication_busy,
    egress_target,
    egress_refused,
    egress_address,
    egress_rate,
    draining,
}

/// Words that no peer can provoke, or only in a process of their own, and the tests that do.
const INSIDE: &[(&str, &str, &str)] = &[
    (
        "internal",
        "gateway/src/http/handle.rs",
        "a_panic_is_a_failure_of_its_own_request",
    ),
    (
        "no_descriptor",
        "tests/tests/descriptors.rs",
        "the_reserve_is_not_for_connections_to_endpoints_either",
    ),
];

/// Upstream failures before which no endpoint was chosen.
const WITHOUT_ENDPOINT: &[&str] = &["no_endpoint", "overflow"];

fn read(path: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The rows of the one table of verdicts, as text: word and whose fault.
fn table(code: &str) -> Vec<(&str, &str)> {
    let rows = code.lines().filter(|line| {
        ["=> (StatusCode::", "=> (CLIENT_CLOSED", "=> (*status"]
            .iter()
            .any(|it| line.contains(it))
    });
    let rows = rows.filter_map(|line| {
        let mut texts = line.split('"');
        let word = texts.nth(1)?;
        let blame = texts.nth(2)?.split(',').nth(1)?;
        Some((word, blame.trim()))
    });
    rows.collect()
}

/// The entry of a word in the documentation: alias, status, gRPC, meaning, cause, remedy.
fn entry(page: &str, word: &str) -> Vec<String> {
    let row = page
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| `{word}` |")));
    let row = row.unwrap_or_else(|| panic!("{word} has no entry"));
    let cells = row.trim_end_matches('|').split('|');
    cells.map(|cell| cell.trim().to_owned()).collect()
}

fn is_explained(word: &str, line: &Value) {
    assert_eq!(line["verdict"], word, "{line}");
    let entry = entry(&read("docs/verdicts.md"), word);
    let [alias, status, _grpc, meaning, cause, remedy] = entry.as_slice() else {
        panic!("the entry of {word} has other cells: {entry:?}");
    };
    assert_eq!(line["flags"], *alias, "{line}");
    let told = line["status"].to_string();
    let begun = line["first_byte_ms"].is_number() && told == "200";
    assert!(
        status.contains(&told) || begun,
        "{told} is not {status}: {line}"
    );
    for text in [meaning, cause, remedy] {
        assert!(text.len() > 5, "{word} says too little: {text:?}");
    }

    let code = read("gateway/src/error.rs");
    let blame = table(&code).into_iter().find(|row| row.0 == word);
    if blame.expect("a row").1 != "Upstream" {
        return;
    }
    // Which endpoint, after how long, on which connection, and why that was the last attempt.
    let has_endpoint = !WITHOUT_ENDPOINT.contains(&word);
    assert_eq!(line["endpoint"].is_string(), has_endpoint, "{line}");
    assert!(line["upstream"].is_string(), "{line}");
    assert!(line["reused"].is_boolean(), "{line}");
    assert!(line["failed_ms"].is_number(), "{line}");
    let why = line["retry"].as_str().unwrap_or_else(|| panic!("{line}"));
    let page = read("docs/verdicts.md");
    assert!(page.contains(&format!("| `{why}` |")), "{why} has no entry");
}

#[test]
fn no_reason_word_is_left_unprovoked() {
    let code = read("gateway/src/error.rs");
    let words: BTreeSet<_> = table(&code).into_iter().map(|(word, _)| word).collect();
    let inside = INSIDE.iter().map(|(word, ..)| *word);
    let provoked: BTreeSet<_> = PROVOKED.iter().copied().chain(inside).collect();
    assert!(words.len() > 20, "{words:?}");
    assert_eq!(words, provoked);
}

#[test]
fn words_from_inside_have_their_tests_and_entries() {
    for (word, path, test) in INSIDE {
        assert!(
            read(path).contains(&format!("fn {test}()")),
            "{path}: {test}"
        );
        assert_eq!(entry(&read("docs/verdicts.md"), word).len(), 6);
    }
}
