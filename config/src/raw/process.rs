//! `[process]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationText, SizeOrOff};

/// Settings that hold for the life of the process. They are read at start, arguments and
/// environment override them, and a change takes effect at the next start.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Process {
    /// Worker threads that serve traffic. Range 1 to 256. Default one per core.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<i64>,
    /// The directory where the last good configuration is kept. Default `/var/lib/sluice` where it
    /// can be written, else the user's state directory.
    pub state_directory: Option<String>,
    /// How long requests in flight may take to finish after SIGTERM. Range `0s` to `24h`.
    /// Default `30s`.
    pub drain_timeout: Option<DurationText>,
    /// Where `sluice status` and its like ask: `ADDRESS:PORT` of this machine alone, `unix:/PATH`, or
    /// `off`. Default `127.0.0.1:15000`.
    pub admin: Option<String>,
    /// Where `/metrics` is served: `ADDRESS:PORT`, `unix:/PATH`, or `off`. Default `127.0.0.1:15020`.
    pub metrics: Option<String>,
    /// Where `/live` and `/ready` are served: `ADDRESS:PORT`, `unix:/PATH`, or `off`.
    /// Default `127.0.0.1:15021`.
    pub readiness: Option<String>,
    /// The memory that the process may hold, or `off`. Above it new requests are answered with 503
    /// `overloaded` and new connections closed, until it holds a tenth less. Range `1MiB` to `1TiB`.
    /// Default half of what the machine or the control group has.
    pub memory: Option<SizeOrOff>,
    /// File descriptors that clients and endpoints never get, so that control work always finds one.
    /// Near the limit of open files, accepting pauses. At most half of that limit is kept.
    /// Range 0 to 65536. Default `64`.
    #[schemars(range(min = 0, max = 65536))]
    pub descriptor_reserve: Option<i64>,
}
