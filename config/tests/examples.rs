//! Every example in `config/examples` is a configuration that may run.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sluice_config::{
    check,
    model::{Action, RespondBody},
    read, schema,
};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = fs::read_dir(&folder).expect("the folder of examples");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|one| one == "toml"))
        .collect();
    paths.sort();
    paths
}

/// The codes in lines `# warns: CODE`.
fn announced(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("# warns: "));
    lines.map(|code| code.trim().to_owned()).collect()
}

#[test]
fn every_example_is_fine_and_warns_only_where_it_says_so() {
    let examples = examples();
    assert!(examples.len() >= 10, "{examples:?}");
    for path in examples {
        let sources = read(std::slice::from_ref(&path), &|_| None);
        let report = check(&sources, None);
        assert_eq!(report.problems, [], "{}", path.display());
        assert!(report.snapshot.is_some(), "{}", path.display());
        let texts: String = sources
            .files
            .iter()
            .map(|file| file.text.as_str())
            .collect();
        let warned: BTreeSet<String> = report
            .warnings
            .iter()
            .map(|warning| warning.code.to_owned())
            .collect();
        assert_eq!(
            warned,
            announced(&texts),
            "{}: {:?}",
            path.display(),
            report.warnings
        );
    }
}

#[test]
fn a_file_is_looked_for_beside_the_file_that_names_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let report = check(&read(&[folder.join("maintenance.toml")], &|_| None), None);
    let snapshot = report.snapshot.expect("a good example");
    let rules = snapshot.routes.values().flat_map(|route| &route.rules);
    let files: Vec<&Path> = rules
        .filter_map(|rule| match &rule.action {
            Action::Respond(respond) => match respond.body.as_ref()? {
                RespondBody::File(path) => Some(path.as_path()),
                RespondBody::Text(_) => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(files, [folder.join("maintenance.html")]);
    assert!(files.iter().all(|file| file.exists()));
}

#[test]
fn every_example_says_where_its_schema_is() {
    for path in examples() {
        let files = if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect()
        } else {
            vec![path]
        };
        for file in files {
            let text = fs::read_to_string(&file).expect("an example");
            let first = text.lines().next().unwrap_or_default();
            let named = first
                .strip_prefix("#:schema ")
                .map(|schema| file.with_file_name(schema));
            assert!(
                named.is_some_and(|schema| schema.exists()),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn the_reference_example_uses_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/reference.toml");
    let text = fs::read_to_string(path).expect("the reference example");
    let written: Value = toml::from_str(&text).expect("TOML");
    let schema: Value = serde_json::from_str(&schema::json()).expect("JSON");
    let mut used = BTreeSet::new();
    walk(&schema, "", &schema, &written, &mut used);
    let unused: Vec<String> = all_keys(&schema).difference(&used).cloned().collect();
    assert_eq!(
        unused, [""; 0],
        "keys that the reference example does not show"
    );
}

/// `Definition.key` of everything that may be written.
fn all_keys(schema: &Value) -> BTreeSet<String> {
    let definitions = schema["$defs"].as_object().expect("definitions");
    let tables = definitions
        .iter()
        .map(|(name, table)| (name.as_str(), table));
    let keys = tables.chain([("", schema)]).flat_map(|(name, table)| {
        let keys = table["properties"].as_object().into_iter().flatten();
        keys.map(move |(key, _)| format!("{name}.{key}"))
    });
    // `refused` belongs to the canonical form of what was contained; nobody writes it.
    // `directory` of the storage excludes `etcd`, which is shown.
    keys.filter(|key| !key.ends_with(".refused") && key != "Storage.directory")
        .collect()
}

fn walk(schema: &Value, name: &str, here: &Value, written: &Value, used: &mut BTreeSet<String>) {
    if let Some(reference) = here["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/");
        return walk(schema, name, &schema["$defs"][name], written, used);
    }
    for branch in here["anyOf"].as_array().into_iter().flatten() {
        walk(schema, name, branch, written, used);
    }
    for item in written.as_array().into_iter().flatten() {
        walk(schema, name, &here["items"], item, used);
    }
    for (key, value) in written.as_object().into_iter().flatten() {
        if let Some(property) = here["properties"].get(key) {
            used.insert(format!("{name}.{key}"));
            walk(schema, name, property, value, used);
        } else if here["additionalProperties"].is_object() {
            walk(schema, name, &here["additionalProperties"], value, used);
        }
    }
}
