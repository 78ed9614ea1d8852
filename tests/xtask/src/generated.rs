//! `cargo xtask schema`: files that are generated from the types and committed.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::Report;

/// Each generated file and what it should hold.
fn files() -> Vec<(&'static str, String)> {
    vec![
        ("config/sluice.schema.json", sluice_config::schema::json()),
        ("docs/config.md", sluice_config::schema::markdown()),
    ]
}

/// Writes every file.
pub(crate) fn write(root: &Path) -> anyhow::Result<Report> {
    let files = files();
    for (path, text) in &files {
        fs::write(root.join(path), text).with_context(|| format!("writing {path}"))?;
    }
    let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    Ok(Report {
        summary: format!("schema: wrote {}", names.join(" and ")),
        ..Report::default()
    })
}

/// Says which files are stale.
pub(crate) fn check(root: &Path) -> anyhow::Result<Report> {
    let mut report = Report {
        summary: "schema: every generated file is current".to_owned(),
        ..Report::default()
    };
    for (path, text) in files() {
        let path = root.join(path);
        let current = if path.exists() {
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?
        } else {
            String::new()
        };
        if current != text {
            report.violations.push(format!(
                "{}: is stale; run `cargo xtask schema`",
                path.display()
            ));
        }
    }
    Ok(report)
}
