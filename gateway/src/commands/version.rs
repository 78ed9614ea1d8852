//! `sluice version`.

use std::io::{self, Write};

use crate::Exit;

/// Prints the version.
pub(super) fn run() -> anyhow::Result<Exit> {
    writeln!(io::stdout().lock(), "sluice {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::Fine)
}
