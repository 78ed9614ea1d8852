//! `stream`: how long raw streams last.

use std::time::Duration;

use crate::{findings::Findings, model::StreamLimits, raw, scalar::Scalars, tree::At};

pub(super) fn check(
    raw: &raw::StreamLimits,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> StreamLimits {
    let default = StreamLimits::default();
    let mut scalars = Scalars { at: *at, findings };
    let (idle, most) = (raw.idle_timeout.as_ref(), raw.max_duration.as_ref());
    StreamLimits {
        idle_timeout: scalars.time_or_off("idle_timeout", idle, default.idle_timeout),
        max_duration: scalars.time_or_off("max_duration", most, default.max_duration),
        drain: scalars.time(
            "drain",
            raw.drain.as_ref(),
            Duration::ZERO..=Duration::from_hours(24),
            default.drain,
        ),
    }
}
