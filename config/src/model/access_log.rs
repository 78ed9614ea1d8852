//! `[access_log]`: one JSON line per request.

use std::path::PathBuf;

use serde::Serialize;

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessLog {
    /// The sink.
    pub output: AccessLogOutput,
    /// Lines that may wait for the sink, per process; further ones are dropped and counted.
    pub queue: usize,
}

/// The sink of the access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogOutput {
    /// None.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl AccessLog {
    /// About 4 MiB of ordinary lines.
    pub const QUEUE: usize = 8192;
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            output: AccessLogOutput::Stdout,
            queue: Self::QUEUE,
        }
    }
}
