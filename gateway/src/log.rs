//! The log of the process, on standard error: for a person on a terminal, else one JSON object per
//! line. `SLUICE_LOG` filters it: `info`, `sluice_gateway=debug`, …

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Starts the log. Called once, by commands that run for long.
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("SLUICE_LOG")
        .from_env_lossy();
    let log = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        log.with_target(false).compact().try_init()
    } else {
        log.with_ansi(false).json().flatten_event(true).try_init()
    };
    if started.is_err() {
        tracing::debug!("the log has started already");
    }
}
