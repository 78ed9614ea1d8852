//! How long raw streams last.

use std::time::Duration;

use serde::Serialize;

use super::Filters;
use crate::model::{Limit, canonical};

/// How long a raw stream lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StreamLimits {
    /// How long nothing may move in either direction.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub idle_timeout: Limit<Duration>,
    /// How long it may last.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub max_duration: Limit<Duration>,
    /// How long it goes on when its listener or route has changed or is gone.
    #[serde(serialize_with = "canonical::time")]
    pub drain: Duration,
}

impl StreamLimits {
    /// What holds where `levels`, the nearest first, say it or not.
    pub fn nearest(levels: &[&Filters]) -> Self {
        let said = levels.iter().find_map(|level| level.stream);
        said.unwrap_or_default()
    }
}

impl Default for StreamLimits {
    /// An hour without a byte, as for upgraded connections; pools of databases are quiet for long.
    fn default() -> Self {
        Self {
            idle_timeout: Limit::At(Duration::from_hours(1)),
            max_duration: Limit::Off,
            drain: Duration::from_secs(30),
        }
    }
}
