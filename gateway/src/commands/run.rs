//! `sluice run`.

use crate::{Exit, args::ConfigPaths};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigPaths,
}

/// Runs the gateway.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    crate::log::start();
    anyhow::bail!("cannot read {} paths yet", args.config.resolve().len())
}
