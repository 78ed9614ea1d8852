//! `[access_log]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::TextOr;

/// One JSON line per request, written when its body has ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLog {
    /// `stdout`, `off`, or a table that names a file. Default `stdout`.
    pub output: Option<TextOr<AccessLogFile>>,
    /// Lines that may wait for the output, per process; further ones are dropped and counted.
    /// Range 1 to 1000000. Default `8192`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue: Option<i64>,
}

/// A file that lines are appended to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct AccessLogFile {
    /// The path of the file. Required.
    pub file: Option<String>,
}
