//! `sluice check`.

use std::path::PathBuf;

use crate::Exit;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or directories of `*.toml`.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Checks.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("cannot check {} paths yet", args.paths.len())
}
