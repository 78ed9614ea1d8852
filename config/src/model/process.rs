//! `[process]`: read once at start; arguments and environment override it.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::Serialize;

use super::canonical;

/// What holds for the life of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Worker threads; none means one per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Where the last good configuration is kept; none means `/var/lib/sluice`, else the user's
    /// state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,
    /// How long in-flight requests may finish after SIGTERM.
    #[serde(serialize_with = "canonical::time")]
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
