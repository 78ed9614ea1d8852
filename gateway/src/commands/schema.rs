//! `sluice schema`.

use std::io::{self, Write};

use crate::Exit;

/// Prints the JSON Schema, for editors that complete and check the configuration.
pub(super) fn run() -> anyhow::Result<Exit> {
    io::stdout()
        .lock()
        .write_all(sluice_config::schema::json().as_bytes())?;
    Ok(Exit::Fine)
}
