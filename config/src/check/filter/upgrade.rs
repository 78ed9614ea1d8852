//! `upgrade`: which protocols a connection may go over to, and how long.

use crate::{
    findings::{Finding, Findings},
    model::{Upgrade, UpgradeProtocol},
    raw,
    scalar::Scalars,
    tree::At,
};

pub(super) fn check(raw: &raw::Upgrade, at: &At<'_>, findings: &mut Findings<'_>) -> Upgrade {
    let mut upgrade = Upgrade::default();
    if let Some(list) = &raw.protocols {
        upgrade.protocols.clear();
        let at = at.key("protocols");
        for (index, text) in list.as_slice().iter().enumerate() {
            let at = at.element(index, list.is_list());
            match UpgradeProtocol::new(text) {
                Some(protocol) if upgrade.protocols.contains(&protocol) => {
                    let what = format!("the protocol {protocol} is written twice");
                    findings.value(&at, Finding::new("duplicate_value", what));
                }
                Some(protocol) => upgrade.protocols.push(protocol),
                None => findings.value(&at, no_protocol(text)),
            }
        }
    }
    let mut scalars = Scalars { at: *at, findings };
    let (idle, most) = (raw.idle_timeout.as_ref(), raw.max_duration.as_ref());
    upgrade.idle_timeout = scalars.time_or_off("idle_timeout", idle, upgrade.idle_timeout);
    upgrade.max_duration = scalars.time_or_off("max_duration", most, upgrade.max_duration);
    upgrade
}

fn no_protocol(text: &str) -> Finding {
    if text.eq_ignore_ascii_case("h2c") {
        let what = "h2c is never allowed: its requests would pass by every rule";
        return Finding::new("bad_protocol", what);
    }
    let what = format!("{text:?} is no name of a protocol");
    Finding::new("bad_protocol", what).hint("a name without a version: \"websocket\"")
}
