//! The filter key `fault`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::DurationText;

/// Failures on purpose, to see whether clients bear them. A table without any of its keys switches off what
/// stands further away.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Fault {
    /// Holds requests back before they go on. Decided about apart from `abort`: a request may meet both.
    pub delay: Option<FaultDelay>,
    /// Answers requests instead of sending them on.
    pub abort: Option<FaultAbort>,
    /// Only requests that have this header, whatever its value. Default every request.
    pub header: Option<String>,
}

/// Which requests are held back, and for how long.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct FaultDelay {
    /// How many of a hundred requests, by chance. Required. Range 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<f64>,
    /// For how long. It counts towards the `timeout` of the rule. Required. Range `1ms` to `24h`.
    pub duration: Option<DurationText>,
}

/// Which requests are answered, and with what: exactly one of `status` and `grpc`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct FaultAbort {
    /// How many of a hundred requests, by chance. Required. Range 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<f64>,
    /// The status. Calls of gRPC are told the status of gRPC that stands for it. Range 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<i64>,
    /// The status of gRPC by its name: `unavailable`, `deadline-exceeded`, … Other requests are told the status
    /// of HTTP that stands for it.
    pub grpc: Option<String>,
}
