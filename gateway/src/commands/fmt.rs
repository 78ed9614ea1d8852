//! `sluice fmt`: one layout for configuration files.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use sluice_config::{Sources, Style};

use crate::Exit;

/// Arguments of `fmt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; exit 1 when a file would change.
    #[arg(long)]
    check: bool,
    /// Files, which are rewritten in place.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What became of a file.
enum Outcome {
    Same,
    Changed,
    Refused,
}

/// Formats.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut exit = Exit::Fine;
    for file in &args.files {
        match one(file, args.check)? {
            Outcome::Same => {}
            Outcome::Changed => {
                writeln!(io::stdout().lock(), "{}", file.display())?;
                if args.check && exit == Exit::Fine {
                    exit = Exit::Failure;
                }
            }
            Outcome::Refused => exit = Exit::Refused,
        }
    }
    Ok(exit)
}

fn one(file: &Path, check: bool) -> anyhow::Result<Outcome> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let formatted = match sluice_config::format(&text) {
        Ok(formatted) => formatted,
        Err(mut problem) => {
            let path = file.display().to_string();
            if let Some(place) = &mut problem.place {
                place.path.clone_from(&path);
            }
            let style = if io::stderr().is_terminal() {
                Style::Color
            } else {
                Style::Plain
            };
            let sources = Sources::from_text(&path, &text);
            let text = sluice_config::render(&[problem], &sources, style);
            write!(io::stderr().lock(), "{text}")?;
            return Ok(Outcome::Refused);
        }
    };
    if formatted == text {
        return Ok(Outcome::Same);
    }
    if !check {
        replace(file, &formatted).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(Outcome::Changed)
}

/// Replaces a file as a whole, so that a gateway that watches it never reads half of it. Its
/// permissions stay; where it is a link, what it points to is replaced.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let draft = file.with_file_name(name);
    fs::write(&draft, text)
        .and_then(|()| fs::set_permissions(&draft, fs::metadata(&file)?.permissions()))
        .and_then(|()| fs::rename(&draft, &file))
        .inspect_err(|_| fs::remove_file(&draft).unwrap_or_default())
}
