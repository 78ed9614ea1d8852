//! Configurations against what is made of them: `testdata/<case>.in.toml`, or a directory
//! `<case>.in`, with `<case>.out.json` (the canonical form) and `<case>.err.txt` (problems and
//! warnings as people see them). `SLUICE_BLESS=1` rewrites what is expected.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sluice_config::{Report, Sources, Style, check, read};

fn environment(name: &str) -> Option<String> {
    match name {
        "GREETING" => Some("hello".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn checked(path: &Path) -> (Sources, Report) {
    let sources = read(&[path.to_path_buf()], &environment);
    let report = check(&sources, None);
    (sources, report)
}

/// The inputs, by case.
fn cases() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir("testdata")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let cases = entries.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let case = name
            .strip_suffix(".in.toml")
            .or_else(|| name.strip_suffix(".in"))?;
        Some((case.to_owned(), path))
    });
    cases.collect()
}

/// Holds `seen` against the file, or rewrites it; nothing seen means that there is no file.
fn compare(path: &str, seen: Option<String>, differences: &mut Vec<String>) {
    let expected = fs::read_to_string(path).ok();
    if expected == seen {
        return;
    }
    if std::env::var_os("SLUICE_BLESS").is_none() {
        differences.push(format!("{path}: expected\n{expected:?}\nseen\n{seen:?}"));
    } else if let Some(seen) = seen {
        fs::write(path, seen).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn golden_configurations_check_to_what_is_expected() {
    let mut differences = Vec::new();
    for (case, path) in cases() {
        let (sources, report) = checked(&path);
        let json = report
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.to_json() + "\n");
        let text = Some(report.render(&sources, Style::Plain)).filter(|text| !text.is_empty());
        compare(&format!("testdata/{case}.out.json"), json, &mut differences);
        compare(&format!("testdata/{case}.err.txt"), text, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn golden_twenty_mistakes_in_five_files_are_twenty_problems_of_at_least_twelve_kinds() {
    let (sources, report) = checked(Path::new("testdata/mistakes.in"));
    assert_eq!(sources.files.len(), 5);
    assert!(report.snapshot.is_none());
    let kinds: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(
        report.problems.len(),
        20,
        "{}",
        report.render(&sources, Style::Plain)
    );
    assert!(kinds.len() >= 12, "{kinds:?}");
    assert!(
        report
            .problems
            .iter()
            .all(|problem| problem.place.is_some())
    );
}

#[test]
fn golden_canonical_forms_check_to_equal_snapshots_also_contained_ones() {
    for (case, path) in cases() {
        let (_, report) = checked(&path);
        let Some(snapshot) = report.snapshot else {
            continue;
        };
        for sources in [
            Sources::from_json("wire", &snapshot.to_json()),
            Sources::from_text("canonical.toml", &snapshot.to_toml()),
        ] {
            let again = check(&sources, None);
            assert_eq!(again.problems, [], "{case}");
            assert_eq!(again.snapshot.as_ref(), Some(&snapshot), "{case}");
        }
    }
}
