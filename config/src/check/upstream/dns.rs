//! `[dns]`

use std::{ops::RangeInclusive, time::Duration};

use crate::check::{Draft, single};
use crate::scalar::Scalars;
use crate::{
    findings::{Finding, Findings},
    model::Dns,
    raw, text,
    tree::{At, Node},
    unit,
};

const REFRESH: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
const LOOKUP: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(10);

pub(in crate::check) fn check(root: &Node, findings: &mut Findings<'_>) -> Draft<Dns> {
    let at = At::Root.key("dns");
    let raw: raw::Dns = single(root, "dns", findings);
    let mut servers = Vec::new();
    if let Some(list) = &raw.servers {
        let key = at.key("servers");
        for (index, server) in list.as_slice().iter().enumerate() {
            match text::nameserver(server) {
                Ok(server) => servers.push(server),
                Err(finding) => findings.value(&key.element(index, list.is_list()), finding),
            }
        }
    }
    let mut scalars = Scalars { at, findings };
    let min_refresh = scalars.time(
        "min_refresh",
        raw.min_refresh.as_ref(),
        REFRESH,
        Dns::MIN_REFRESH,
    );
    // A longer shortest time than the default longest one is no contradiction when only it is set.
    let default = Dns::MAX_REFRESH.max(min_refresh);
    let max_refresh = scalars.time("max_refresh", raw.max_refresh.as_ref(), REFRESH, default);
    let timeout = scalars.time("timeout", raw.timeout.as_ref(), LOOKUP, Dns::TIMEOUT);
    if max_refresh < min_refresh {
        let least = unit::duration_text(min_refresh);
        let what = format!("max_refresh is shorter than min_refresh, which is {least}");
        findings.value(&at.key("max_refresh"), Finding::new("out_of_range", what));
    }
    Draft {
        object: Some(Dns {
            servers,
            min_refresh,
            max_refresh,
            timeout,
        }),
        clean: findings.is_clean(&at),
    }
}
