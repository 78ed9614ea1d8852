//! `[process]`

use std::{num::NonZeroUsize, time::Duration};

use super::single;
use crate::scalar::Scalars;
use crate::{
    findings::Findings,
    model::Process,
    raw,
    tree::{At, Node},
};

pub(super) fn check(root: &Node, findings: &mut Findings<'_>) -> Process {
    let raw: raw::Process = single(root, "process", findings);
    let mut scalars = Scalars {
        at: At::Root.key("process"),
        findings,
    };
    let workers = raw
        .workers
        .map(|workers| scalars.number("workers", Some(workers), 1..=256, 1));
    let drain = Duration::ZERO..=Duration::from_hours(24);
    Process {
        workers: workers.and_then(NonZeroUsize::new),
        state_directory: raw.state_directory.map(Into::into),
        drain_timeout: scalars.time(
            "drain_timeout",
            raw.drain_timeout.as_ref(),
            drain,
            Process::DRAIN_TIMEOUT,
        ),
    }
}
