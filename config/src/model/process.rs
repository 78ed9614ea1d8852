//! `[process]`: read once at start; arguments and environment override it.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::Serialize;

use super::{Limit, canonical};

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
    /// The memory that the process may hold, in bytes; none means half of what there is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_size_or_off"
    )]
    pub memory: Option<Limit<u64>>,
    /// File descriptors that clients and endpoints never get.
    pub descriptor_reserve: u32,
}

impl Process {
    /// Long enough for ordinary requests, shorter than the 90 s after which systemd kills.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
    /// Files of the configuration, the access log, a few control connections, and some to spare.
    pub const DESCRIPTOR_RESERVE: u32 = 64;
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: None,
            state_directory: None,
            drain_timeout: Self::DRAIN_TIMEOUT,
            memory: None,
            descriptor_reserve: Self::DESCRIPTOR_RESERVE,
        }
    }
}
