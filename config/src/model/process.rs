//! `[process]`: read once at start; arguments and environment override it.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::Serialize;

/// What holds for the life of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Worker threads; none means one per core.
    pub workers: Option<NonZeroUsize>,
    /// Where the last good configuration is kept; none means `/var/lib/sluice`, else the user's
    /// state directory.
    pub state_directory: Option<PathBuf>,
    /// How long in-flight requests may finish after SIGTERM.
    pub drain_timeout: Duration,
}

impl Process {
    /// Long enough for ordinary requests, shorter than the 90 s after which systemd kills.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: None,
            state_directory: None,
            drain_timeout: Self::DRAIN_TIMEOUT,
        }
    }
}
