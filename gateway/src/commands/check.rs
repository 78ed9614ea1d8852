//! `sluice check`: everything that `run` does before it serves, but for binding sockets.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use sluice_config::{Report, Sources, Style};
use sluice_gateway::authn::users::Lists;
use sluice_gateway::load::{self, CertificateFiles};

use crate::{Exit, args::environment};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or directories of `*.toml`, that make one configuration.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print problems: text on standard error, or one JSON array on standard output.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Print the canonical form, with every default, on standard output.
    #[arg(long, conflicts_with = "format")]
    print: bool,
}

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// Checks.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let sources = sluice_config::read(&args.paths, &environment);
    let mut report = sluice_config::check(&sources, None);
    if let Some(snapshot) = &report.snapshot
        && let Err(mut problems) =
            load::files(snapshot, &CertificateFiles::default(), &Lists::default())
    {
        sluice_config::locate(&mut problems, &sources);
        report.problems.extend(problems);
    }
    match args.format {
        Format::Json => {
            let text = report.render(&sources, Style::Json);
            writeln!(io::stdout().lock(), "{}", text.trim_end())?;
        }
        Format::Human => print(&report, &sources)?,
    }
    if !report.problems.is_empty() {
        return Ok(Exit::Refused);
    }
    if args.print
        && let Some(snapshot) = &report.snapshot
    {
        io::stdout()
            .lock()
            .write_all(snapshot.to_toml().as_bytes())?;
    }
    Ok(Exit::Fine)
}

/// Problems and warnings for a person, and what to make of them.
fn print(report: &Report, sources: &Sources) -> io::Result<()> {
    let style = if io::stderr().is_terminal() {
        Style::Color
    } else {
        Style::Plain
    };
    let mut out = io::stderr().lock();
    write!(out, "{}", report.render(sources, style))?;
    let warnings = count(report.warnings.len(), "warning");
    match &report.snapshot {
        Some(snapshot) if report.problems.is_empty() => writeln!(
            out,
            "the configuration is good: version {}, {}, {}, {}, {warnings}",
            snapshot.version,
            count(snapshot.listeners.len(), "listener"),
            count(snapshot.routes.len(), "route"),
            count(snapshot.upstreams.len(), "upstream"),
        ),
        Some(_) | None => {
            let problems = count(report.problems.len(), "problem");
            writeln!(out, "the configuration is refused: {problems}, {warnings}")
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
