//! `sluice version`, `sluice schema`, `sluice completions SHELL`: what the program says of itself.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Exit;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Prints the version.
pub(super) fn version() -> anyhow::Result<Exit> {
    say(format!("sluice {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

/// Prints the JSON Schema, for editors that complete and check the configuration.
pub(super) fn schema() -> anyhow::Result<Exit> {
    say(sluice_config::schema::json().as_bytes())
}

/// Prints the script.
pub(super) fn completions(args: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut words = crate::args::Args::command();
    clap_complete::generate(args.shell, &mut words, "sluice", &mut script);
    say(&script)
}

fn say(text: &[u8]) -> anyhow::Result<Exit> {
    io::stdout().lock().write_all(text)?;
    Ok(Exit::Fine)
}
