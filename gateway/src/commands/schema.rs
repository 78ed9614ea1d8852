//! `sluice schema`.

use crate::Exit;

/// Prints the JSON Schema.
pub(super) fn run() -> anyhow::Result<Exit> {
    anyhow::bail!("there is no schema yet")
}
