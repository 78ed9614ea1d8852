//! `[process]`

use std::{num::NonZeroUsize, time::Duration};

use super::single;
use crate::scalar::Scalars;
use crate::{
    findings::{Finding, Findings},
    model::{ControlAddress, ControlAddressError, Limit, Process},
    raw::{self, SizeText},
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
    let memory = raw.memory.as_ref().map(|text| match text.0.as_str() {
        "off" => Limit::Off,
        text => {
            let text = SizeText(text.to_owned());
            let size = scalars.size("memory", Some(&text), 1 << 20..=1 << 40, usize::MAX);
            Limit::At(u64::try_from(size).unwrap_or(u64::MAX))
        }
    });
    let admin = address("admin", raw.admin.as_deref(), Process::ADMIN, &mut scalars);
    let admin = Some(admin)
        .filter(ControlAddress::is_local)
        .unwrap_or_else(|| {
            let what = "the admin address can be reached from outside of this machine";
            let hint =
                "write \"127.0.0.1:15000\" or \"unix:/PATH\": who reaches it may stop the gateway";
            scalars.findings.value(
                &scalars.at.key("admin"),
                Finding::new("bad_address", what).hint(hint),
            );
            Process::ADMIN
        });
    let drain = Duration::ZERO..=Duration::from_hours(24);
    Process {
        workers: workers.and_then(NonZeroUsize::new),
        state_directory: raw.state_directory.map(Into::into),
        admin,
        metrics: address(
            "metrics",
            raw.metrics.as_deref(),
            Process::METRICS,
            &mut scalars,
        ),
        readiness: address(
            "readiness",
            raw.readiness.as_deref(),
            Process::READINESS,
            &mut scalars,
        ),
        drain_timeout: scalars.time(
            "drain_timeout",
            raw.drain_timeout.as_ref(),
            drain,
            Process::DRAIN_TIMEOUT,
        ),
        memory,
        descriptor_reserve: scalars.number(
            "descriptor_reserve",
            raw.descriptor_reserve,
            0..=1 << 16,
            Process::DESCRIPTOR_RESERVE,
        ),
    }
}

fn address(
    key: &str,
    raw: Option<&str>,
    default: ControlAddress,
    scalars: &mut Scalars<'_, '_, '_>,
) -> ControlAddress {
    let Some(text) = raw else {
        return default;
    };
    text.parse().unwrap_or_else(|error: ControlAddressError| {
        let finding = Finding::new("bad_address", error.to_string());
        scalars.findings.value(&scalars.at.key(key), finding);
        default
    })
}
