//! The log of the process, on standard error: for a person on a terminal, else one JSON object per
//! line. `SLUICE_LOG` filters it: `info`, `sluice_gateway=debug`, …; so does `sluice log-level`.

use std::io::{self, IsTerminal};

use anyhow::Context as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

/// What is logged; can be changed while the process runs.
#[derive(Debug)]
pub(crate) struct Level {
    text: String,
    handle: reload::Handle<EnvFilter, Registry>,
}

/// Starts the log. Called once, by commands that run for long.
pub(crate) fn start() -> Level {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("SLUICE_LOG")
        .from_env_lossy();
    let text = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = if io::stderr().is_terminal() {
        lines.with_target(false).compact().boxed()
    } else {
        lines.with_ansi(false).json().flatten_event(true).boxed()
    };
    let log = tracing_subscriber::registry().with(filter).with(lines);
    if log.try_init().is_err() {
        tracing::debug!("the log has started already");
    }
    Level { text, handle }
}

impl Level {
    /// What is logged.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// From now on this is logged.
    pub(crate) fn set(&mut self, text: &str) -> anyhow::Result<()> {
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in text.split(',') {
            // A misspelt level would be a target, and everything else silent.
            let is_level = words.contains(&directive.trim());
            anyhow::ensure!(
                is_level || directive.contains('='),
                "{directive:?} is neither a level ({}) nor TARGET=LEVEL",
                words.join(", ")
            );
        }
        let filter = EnvFilter::try_new(text).context("reading the filter")?;
        let text = filter.to_string();
        self.handle.reload(filter).context("changing the filter")?;
        self.text = text;
        Ok(())
    }
}
