//! `sluice fmt`.

use std::path::PathBuf;

use crate::Exit;

/// Arguments of `fmt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or directories of `*.toml`.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Formats.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("cannot format {} paths yet", args.paths.len())
}
