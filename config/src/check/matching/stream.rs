//! Conditions on connections: ports, and what a client says in its TLS handshake.

use std::ops::RangeInclusive;

use super::{empty, value};
use crate::{
    findings::{Finding, Findings},
    model::{Alpn, Host, ValueMatch},
    raw::{self, OneOrMany, Ports, TextOr},
    text,
    tree::At,
};

/// Ports, one of which must hold.
pub(in crate::check) fn ports(
    raw: Option<&OneOrMany<Ports>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<RangeInclusive<u16>> {
    let mut ports = Vec::new();
    let Some(list) = raw else {
        return ports;
    };
    empty(list, at, findings);
    for (index, raw) in list.as_slice().iter().enumerate() {
        match range(raw) {
            Ok(range) => ports.push(range),
            Err(finding) => findings.value(&at.element(index, list.is_list()), finding),
        }
    }
    ports
}

/// A port, or a range of ports.
pub(in crate::check) fn range(raw: &Ports) -> Result<RangeInclusive<u16>, Finding> {
    match raw {
        Ports::Port(port) => text::ports(&port.to_string()),
        Ports::Text(text) => text::ports(text),
    }
}

pub(super) fn alpn(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<String> {
    let mut protocols = Vec::new();
    let Some(list) = raw else {
        return protocols;
    };
    empty(list, at, findings);
    for (index, name) in list.as_slice().iter().enumerate() {
        if let Some(alpn) = Alpn::new(name) {
            protocols.push(alpn.as_str().to_owned());
        } else {
            let what = format!("{name:?} is no name of a protocol: 1 to 255 ASCII characters");
            let at = at.element(index, list.is_list());
            findings.value(&at, Finding::new("unknown_value", what));
        }
    }
    protocols
}

/// The name is brought into the form in which it is asked for.
pub(super) fn sni(
    raw: &TextOr<raw::ValueMatch>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<ValueMatch> {
    let exact = match raw {
        TextOr::Text(_) => *at,
        TextOr::Table(_) => at.key("exact"),
    };
    match value(raw, at, findings)? {
        ValueMatch::Exact(name) => match text::url_host(&name) {
            Ok(Host::Name(name)) => Some(ValueMatch::Exact(name)),
            Ok(Host::Ip(_)) => {
                let what = format!("{name:?} is an address, and only names are asked for");
                findings.value(&exact, Finding::new("bad_host", what));
                None
            }
            Err(finding) => {
                findings.value(&exact, finding);
                None
            }
        },
        ValueMatch::StartsWith(text) => Some(ValueMatch::StartsWith(text.to_ascii_lowercase())),
        other @ (ValueMatch::Regex(_) | ValueMatch::Present(_)) => Some(other),
    }
}
