//! The project's own checks, as `cargo xtask NAME`. `make check` runs them all.
//!
//! Each ends with exit code 0 and one line, or 1 and every violation with its file.

mod generated;
mod golden;
mod layers;
mod sizes;
mod source;

use std::{env, path::PathBuf, process::ExitCode};

const USAGE: &str = "usage: cargo xtask <check>

  layers              who may import whom: packages, rows of the gateway, homes of heavy libraries
  sizes               files, folders, tests and TODOs stay small
  schema [--check]    write the JSON schema and docs/config.md, or only say whether they are stale
  golden [--bless]    run the golden tests, or rewrite their expectations";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let outcome = match arguments.as_slice() {
        ["layers"] => layers::run(&root),
        ["sizes"] => sizes::run(&root),
        ["schema"] => generated::write(&root),
        ["schema", "--check"] => generated::check(&root),
        ["golden"] => golden::run(&root, false),
        ["golden", "--bless"] => golden::run(&root, true),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(report) => report.print(),
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// One line on success.
    summary: String,
    /// To be read, without failing.
    warnings: Vec<String>,
    /// Each fails the check.
    violations: Vec<String>,
}

impl Report {
    fn print(&self) -> ExitCode {
        for warning in &self.warnings {
            say(&format!("warning: {warning}"));
        }
        for violation in &self.violations {
            say(&format!("error: {violation}"));
        }
        if self.violations.is_empty() {
            say(&self.summary);
            ExitCode::SUCCESS
        } else {
            say(&format!("{} violations", self.violations.len()));
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace: cargo runs us with the manifest directory set.
fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest
        .and_then(|own| own.ancestors().nth(2).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}

fn say(text: &str) {
    #[expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
    {
        println!("{text}");
    }
}
