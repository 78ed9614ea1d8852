//! What the documentation says is what the code does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use sluice_config::Sources;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every piece of `text` between two marks.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open)
        .skip(1)
        .filter_map(move |rest| rest.split(close).next())
}

#[test]
fn every_reason_word_has_a_row_with_its_alias_and_every_row_a_word() {
    // The one table of verdicts is read as text: its rows need no instances of every failure then.
    let code = read("gateway/src/error.rs");
    let table = between(
        &code,
        "let (status, reason, flags, blame, retry) = match self {",
        "};",
    )
    .next();
    let words: BTreeMap<_, _> = table
        .expect("the table")
        .lines()
        .filter_map(|line| {
            let mut texts = between(line, ", \"", "\"");
            Some((texts.next()?, texts.next()?))
        })
        .collect();
    let page = read("docs/verdicts.md");
    // The tables of other words have fewer columns.
    let rows: BTreeMap<_, _> = page
        .lines()
        .filter(|line| line.split('|').count() > 8)
        .filter_map(|line| {
            let word = between(line, "| `", "`").next()?;
            Some((word, line.split('|').nth(2)?.trim()))
        })
        .collect();
    assert!(words.len() > 20, "{words:?}");
    assert_eq!(words, rows);
}

#[test]
fn the_statuses_in_the_table_of_verdicts_are_those_of_the_code() {
    let code = read("gateway/src/error.rs");
    let page = read("docs/verdicts.md");
    for (name, status) in [
        ("BAD_REQUEST", 400),
        ("NOT_FOUND", 404),
        ("REQUEST_TIMEOUT", 408),
        ("PAYLOAD_TOO_LARGE", 413),
        ("URI_TOO_LONG", 414),
        ("EXPECTATION_FAILED", 417),
        ("REQUEST_HEADER_FIELDS_TOO_LARGE", 431),
        ("SWITCHING_PROTOCOLS", 101),
        ("INTERNAL_SERVER_ERROR", 500),
        ("BAD_GATEWAY", 502),
        ("SERVICE_UNAVAILABLE", 503),
        ("GATEWAY_TIMEOUT", 504),
    ] {
        let rows = code
            .lines()
            .filter(|line| line.contains(&format!("=> (StatusCode::{name},")));
        for word in rows.filter_map(|line| between(line, ", \"", "\"").next()) {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{word}` ")));
            let row = row.unwrap_or_else(|| panic!("no row for {word}"));
            assert!(
                row.split('|')
                    .nth(3)
                    .is_some_and(|cell| cell.contains(&status.to_string())),
                "{row}"
            );
        }
    }
}

#[test]
fn the_statuses_of_grpc_in_the_table_of_verdicts_are_those_of_the_code() {
    let code = read("gateway/src/error.rs");
    let section = |from, to| between(&code, from, to).next().expect("a table");
    let verdicts = section("let (status, reason,", "};");
    let word_of = |variant: &str| {
        let arms = verdicts.lines().map(str::trim_start);
        let names = |arm: &&str| {
            let rest = arm
                .strip_prefix("Self::")
                .and_then(|arm| arm.strip_prefix(variant));
            rest.is_some_and(|rest| rest.starts_with([' ', '(']))
        };
        let mut arms = arms.filter(names);
        let arm = arms
            .next()
            .unwrap_or_else(|| panic!("no verdict of {variant}"));
        between(arm, ", \"", "\"").next().expect("a word")
    };
    let page = read("docs/verdicts.md");
    let mut arms = section("pub const fn grpc_status", "\n    }\n").split("GrpcStatus::");
    let grpc = read("config/src/model/value/grpc.rs");
    let codes = between(&grpc, "statuses! {", "\n}\n").next();
    let codes = codes.expect("a table");
    let mut checked = BTreeSet::new();
    let mut variants = arms.next().expect("the first arm");
    for arm in arms {
        let is_name = |it: char| it.is_ascii_alphanumeric();
        let (status, rest) = arm.split_at(arm.find(|it| !is_name(it)).expect("an end"));
        let name = format!(" {status} = \"");
        let code = between(codes, &name, "\"").next();
        // DeadlineExceeded is written DEADLINE_EXCEEDED.
        let title = status.chars().fold(String::new(), |mut title, letter| {
            if letter.is_ascii_uppercase() && !title.is_empty() {
                title.push('_');
            }
            title.push(letter.to_ascii_uppercase());
            title
        });
        let cell = format!("{title} {}", code.expect("a number"));
        for variant in variants.split("Self::").skip(1) {
            let name = variant.split(|it| !is_name(it)).next().expect("a name");
            let word = word_of(name);
            let mut rows = page.lines();
            let row = rows.find(|line| line.starts_with(&format!("| `{word}` ")));
            let row = row.unwrap_or_else(|| panic!("no row for {word}"));
            assert_eq!(
                row.split('|').nth(4).map(str::trim),
                Some(cell.as_str()),
                "{word}"
            );
            checked.insert(word);
        }
        variants = rest;
    }
    assert!(checked.len() > 25, "{checked:?}");
}

#[test]
fn every_toml_in_the_documentation_is_a_good_configuration() {
    let mut seen = 0;
    for page in [
        "README.md",
        "docs/architecture.md",
        "docs/data-path.md",
        "docs/glossary.md",
        "docs/streams.md",
        "docs/testing.md",
        "docs/tls.md",
        "docs/traffic.md",
        "docs/verdicts.md",
        "CONTRIBUTING.md",
    ] {
        let text = read(page);
        for example in between(&text, "```toml\n", "```") {
            let sources = Sources::from_text(page, example);
            let report = sluice_config::check(&sources, None);
            assert!(report.problems.is_empty(), "{page}: {:#?}", report.problems);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut pages = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("CHANGELOG.md"),
    ];
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    pages.extend(
        docs.map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file()),
    );
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for target in between(&text, "](", ")") {
            if target.contains("://") || target.starts_with('#') || target.contains(' ') {
                continue;
            }
            let target = target.split('#').next().unwrap_or_default();
            let path = page.parent().expect("a folder").join(target);
            assert!(path.exists(), "{}: {target}", page.display());
        }
    }
}
