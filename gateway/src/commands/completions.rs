//! `sluice completions SHELL`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Exit;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut words = crate::args::Args::command();
    clap_complete::generate(args.shell, &mut words, "sluice", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Fine)
}
