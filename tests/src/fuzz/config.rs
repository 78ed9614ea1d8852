//! The configuration: whatever a file holds, the check answers and never contradicts itself.

use std::sync::Arc;

use sluice_config::{
    Report, Snapshot, Sources, Style, check, format,
    model::{Action, RespondBody},
};

/// Files to begin with.
pub const FILES: &[&[u8]] = &[
    include_bytes!("../../../config/examples/reference.toml"),
    include_bytes!("../../../config/examples/canary.toml"),
    include_bytes!("../../../config/examples/limits.toml"),
    include_bytes!("../../../config/examples/merged.toml"),
    include_bytes!("../../../config/examples/smallest.toml"),
    b"on_error = \"contain\"\n[routes.a]\nto = \"nowhere\"\n[routes.b]\nhosts = [\"b\"]\nto = \"10.0.0.1:80\"\n",
];

/// Words of the language.
pub const WORDS: &[&str] = &[
    "[routes.a]\n",
    "[[routes.a.rules]]\n",
    "[upstreams.u]\n",
    "[listeners.l]\n",
    "match = { path = { regex = \"/a(b|c)*\" } }\n",
    "to = \"u\"\n",
    "hosts = [\"*.example.com\"]\n",
    "on_error = \"contain\"\n",
    "use = [\"f\"]\n",
    "address = \"[::]:80\"\n",
    "${NAME:-x}",
    "{client.ip}",
    "{1}",
    "\"\"\"",
    "'''",
    "= [",
    "= {",
    "\u{fffd}",
    "ß",
    "\u{1f600}",
    "99999999999999999999",
    "inf",
];

/// A file of any bytes.
///
/// # Panics
/// When the report contradicts itself.
pub fn parse(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let sources = Sources::from_text("sluice.toml", &text);
    let report = check(&sources, None);
    if report.problems.is_empty() {
        assert!(
            report.snapshot.is_some(),
            "nothing is wrong, and nothing may run"
        );
    }
    for problem in report.problems.iter().chain(&report.warnings) {
        assert!(
            !problem.code.is_empty() && !problem.what.is_empty(),
            "{problem:?}"
        );
        if let Some(place) = &problem.place {
            assert!(
                text.get(place.bytes.clone()).is_some(),
                "outside the file: {problem:?}"
            );
            assert!(place.line >= 1 && place.column >= 1, "{problem:?}");
        }
    }
    shown(&report, &sources);
    if let Some(snapshot) = &report.snapshot {
        written_again(snapshot);
    }
    formatted(&text, &report);
    let again = check(&sources, None);
    assert_eq!(
        report.problems, again.problems,
        "the same file, other problems"
    );
    assert_eq!(
        report.snapshot, again.snapshot,
        "the same file, another snapshot"
    );
}

/// Everything can be shown, and what is for programs is JSON.
fn shown(report: &Report, sources: &Sources) {
    report.render(sources, Style::Plain);
    report.render(sources, Style::Color);
    let json = report.render(sources, Style::Json);
    let read = serde_json::from_str::<serde_json::Value>(&json);
    assert!(read.is_ok(), "{read:?}: {json}");
}

/// The canonical form means the same.
fn written_again(snapshot: &Snapshot) {
    let json = Sources::from_json("canonical.json", &snapshot.to_json());
    let toml = Sources::from_text("canonical.toml", &snapshot.to_toml());
    for sources in [json, toml] {
        let report = check(&sources, None);
        assert_eq!(report.problems, [], "{sources:?}");
        assert_eq!(report.snapshot.as_deref(), Some(snapshot), "{sources:?}");
    }
}

/// Formatting twice is formatting once, and changes no meaning.
fn formatted(text: &str, report: &Report) {
    let Ok(once) = format(text) else {
        assert!(
            !report.problems.is_empty(),
            "cannot be formatted, and nothing is wrong"
        );
        return;
    };
    assert_eq!(format(&once).as_ref(), Ok(&once), "formatted twice");
    let after = check(&Sources::from_text("sluice.toml", &once), None);
    assert_eq!(
        report.snapshot, after.snapshot,
        "formatting changed the meaning"
    );
    assert_eq!(
        report.problems.len(),
        after.problems.len(),
        "formatting changed the problems"
    );
}

/// Texts to begin with.
pub const TEXTS: &[&[u8]] = &[
    b"plain",
    b"${A}",
    b"a ${A} b ${UNSET:-default} c",
    b"$${A} ${UNSET}",
    b"${A:-x:-y}${B}",
    b"${",
    b"${}",
    b"$$$${A}",
    b"${A",
];

/// What decides in a substitution.
pub const MARKS: &[&str] = &[
    "${", "$${", "}", ":-", "${A}", "${B}", "${UNSET", "$", "_", "}}",
];

/// The environment: the text of a value is never substituted again.
const ENVIRONMENT: [(&str, &str); 2] = [("A", "${B}"), ("B", "b")];

/// Any text as the value of a key: substituted as the plainest reading of the rules says.
///
/// # Panics
/// When it is not.
pub fn substitute(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Control characters cannot be written plainly, and an empty body is none.
    if text.is_empty() {
        return;
    }
    let written = quoted(&text);
    let file = format!("[routes.a.respond]\nbody = {written}\n");
    let sources = ENVIRONMENT.iter().fold(
        Sources::from_text("sluice.toml", &file),
        |sources, (name, value)| sources.with_variable(name, value),
    );
    let report = check(&sources, None);
    match expected(&text) {
        Some(expected) => {
            assert_eq!(report.problems, [], "{text:?}");
            assert_eq!(body(&report).unwrap_or_default(), expected, "{text:?}");
        }
        None => assert!(!report.problems.is_empty(), "{text:?} was taken"),
    }
}

fn body(report: &Report) -> Option<String> {
    let snapshot = Arc::clone(report.snapshot.as_ref()?);
    let route = snapshot.routes.values().next()?;
    match &route.rules.first()?.action {
        Action::Respond(respond) => match respond.body.as_ref()? {
            RespondBody::Text(text) => Some(text.clone()),
            RespondBody::File(_) => None,
        },
        Action::Forward(_) | Action::Redirect(_) | Action::Refused => None,
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let characters = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", characters.collect::<String>())
}

/// The rules, read character by character; none where they refuse the text.
fn expected(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("${") {
            let (inside, tail) = tail.split_once('}')?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
            let digit = name.chars().next()?.is_ascii_digit();
            if digit || !name.chars().all(letters) {
                return None;
            }
            let set = ENVIRONMENT.iter().find(|(known, _)| *known == name);
            out.push_str(set.map(|(_, value)| *value).or(default)?);
            rest = tail;
        } else {
            out.push(first);
            rest = rest.strip_prefix(first).unwrap_or_default();
        }
    }
    Some(out)
}
