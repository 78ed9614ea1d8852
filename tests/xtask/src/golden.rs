//! `cargo xtask golden`: the tests that hold inputs against expectations kept in files.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::Report;

/// The packages with golden tests, whose names begin with `golden`.
const PACKAGES: [&str; 1] = ["sluice-config"];

/// Runs them; with `bless` they write what they see instead of comparing it.
pub(crate) fn run(root: &Path, bless: bool) -> anyhow::Result<Report> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut report = Report::default();
    for package in PACKAGES {
        let mut command = Command::new(&cargo);
        command.current_dir(root).args([
            "test",
            "--quiet",
            "--locked",
            "--package",
            package,
            "golden",
        ]);
        if bless {
            command.env("SLUICE_BLESS", "1");
        }
        let status = command.status().context("running cargo test")?;
        if !status.success() {
            report.violations.push(format!(
                "{package}: its golden tests fail; `cargo xtask golden --bless` accepts what they see"
            ));
        }
    }
    report.summary = if bless {
        "golden: expectations rewritten; review the difference".to_owned()
    } else {
        "golden: every expectation holds".to_owned()
    };
    Ok(report)
}
