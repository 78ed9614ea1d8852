//! What the command line can do: one file per verb, each with its arguments and a `run`.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod run;
mod schema;
mod version;

use crate::{
    Exit,
    args::{Args, Command},
};

/// Does what was asked.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Schema => schema::run(),
        Command::Version => version::run(),
        Command::Completions(args) => completions::run(&args),
    }
}
