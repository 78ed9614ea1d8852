//! `[egress]`

mod rule;

use super::{
    Draft,
    listener::{networks, socket},
    references::Known,
    single,
};
use crate::{
    findings::{Finding, Findings},
    model::{Egress, EgressDefault, EgressMode},
    names::EgressName,
    raw::{self, OneOrMany, Ports},
    scalar::Scalars,
    tree::{At, Node},
};

/// None where it is not written.
pub(super) fn check(
    root: &Node,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Draft<Option<Egress>> {
    if root.get("egress").is_none() {
        return Draft::default();
    }
    let at = At::Root.key("egress");
    let raw: raw::Egress = single(root, "egress", findings);
    let default = Egress::default();
    let connect_ports = raw.connect_ports.as_ref();
    let connect_ports = connect_ports.map(|raw| ports(raw, &at.key("connect_ports"), findings));
    let mut scalars = Scalars { at, findings };
    let report = scalars.number("report", raw.report, 0..=1_000_000, Egress::REPORT);
    let mark = socket::mark(&mut scalars, raw.mark);
    let addresses = networks(raw.addresses.as_ref(), &at.key("addresses"), findings);
    let deny = raw.default != Some(raw::EgressDefault::Allow);
    let mut allow = Vec::new();
    let rules = at.key("allow");
    for (name, raw) in raw.allow.iter() {
        let at = rules.key(name);
        match EgressName::new(name) {
            Ok(name) => allow.push(rule::check(name, raw, &at, known, findings)),
            Err(error) => {
                let finding = Finding::new("bad_name", error.to_string());
                let hint = "letters, digits, and . _ / - after the first character";
                findings.key(&at, finding.hint(hint));
            }
        }
    }
    allow.sort_by(|a, b| a.name.cmp(&b.name));
    let egress = Egress {
        default: if deny {
            EgressDefault::Deny
        } else {
            EgressDefault::Allow
        },
        mode: match raw.mode {
            None | Some(raw::EgressMode::Enforce) => EgressMode::Enforce,
            Some(raw::EgressMode::Shadow) => EgressMode::Shadow,
        },
        connect_ports: connect_ports.unwrap_or(default.connect_ports),
        report,
        addresses,
        mark,
        allow,
    };
    Draft {
        object: Some(Some(egress)),
        clean: findings.is_clean(&at),
    }
}

/// Ports and ranges of them.
fn ports(
    list: &OneOrMany<Ports>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<std::ops::RangeInclusive<u16>> {
    let mut ports = Vec::new();
    for (index, raw) in list.as_slice().iter().enumerate() {
        match super::matching::stream::range(raw) {
            Ok(range) => ports.push(range),
            Err(finding) => findings.value(&at.element(index, list.is_list()), finding),
        }
    }
    ports
}
