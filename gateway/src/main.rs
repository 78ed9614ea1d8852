//! The command line of Sluice.
//!
//! Exit codes are interface: 0 fine, 1 failure, 2 usage, 3 configuration refused, 4 no route
//! matches (`explain`).

mod args;
mod commands;
mod log;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use args::Args;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Fine = 0,
    /// Something failed.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration was refused.
    Refused = 3,
    /// No route matches.
    NoMatch = 4,
}

fn main() -> ExitCode {
    let exit = match commands::run(Args::parse()) {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => Exit::Fine,
        Err(error) => {
            // Where not even standard error takes it there is nobody to tell.
            writeln!(io::stderr().lock(), "sluice: {error:#}").unwrap_or_default();
            Exit::Failure
        }
    };
    ExitCode::from(match exit {
        Exit::Fine => 0,
        Exit::Failure => 1,
        Exit::Usage => 2,
        Exit::Refused => 3,
        Exit::NoMatch => 4,
    })
}

/// Whether the reader of our output has seen enough: `sluice schema | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
