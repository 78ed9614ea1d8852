//! Host names, as routes match them and as URLs hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address;
use crate::{
    findings::Finding,
    model::{EgressHost, Host, HostPattern},
};

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn bad(what: String) -> Finding {
    Finding::new("bad_host", what)
}

/// A name in its one form: lower case, ASCII, without a trailing dot. Says what is wrong otherwise.
pub(super) fn name(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let ascii = idna::domain_to_ascii(text).map_err(|_| "it has no ASCII form".to_owned())?;
    if ascii.len() > MAX_NAME {
        return Err(format!("it has more than {MAX_NAME} characters"));
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err("it has an empty label".to_owned());
        }
        if label.len() > MAX_LABEL {
            return Err(format!("a label has more than {MAX_LABEL} characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("the label {label:?} begins or ends with -"));
        }
        let odd = label
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || "-_".contains(*c)));
        if let Some(odd) = odd {
            return Err(format!("it contains {odd:?}"));
        }
    }
    Ok(ascii)
}

/// Whether the last label is a number: then it can only be an IPv4 address.
pub(super) fn looks_like_ip(text: &str) -> bool {
    let last = text
        .strip_suffix('.')
        .unwrap_or(text)
        .rsplit('.')
        .next()
        .unwrap_or_default();
    !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
}

fn literal(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// A host of a route.
pub(crate) fn pattern(text: &str) -> Result<HostPattern, Finding> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(ip) = literal(text) {
        return Ok(HostPattern::Exact(Host::Ip(ip).to_string()));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(bad(format!("{text:?} is a URL, not a host")).hint(format!("write {host:?}")));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(bad(format!("{text:?} has a port, but hosts have none"))
            .hint(format!("write {host:?}; the port is the listener's")));
    }
    if let Some((host, _)) = text.split_once('/') {
        return Err(bad(format!("{text:?} has a path, but hosts have none"))
            .hint(format!("write {host:?}, and the path in a rule's `match`")));
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        let suffix = checked(text, suffix)?;
        return Ok(HostPattern::Wildcard(format!(".{suffix}")));
    }
    if text.contains('*') {
        return Err(bad(format!(
            "{text:?} has a * that is not its whole first label"
        ))
        .hint("a wildcard is \"*.example.com\", or \"*\" for every host"));
    }
    checked(text, text).map(HostPattern::Exact)
}

fn checked(text: &str, part: &str) -> Result<String, Finding> {
    if looks_like_ip(part) {
        return Err(bad(format!("{text:?} is no IPv4 address")));
    }
    name(part).map_err(|what| bad(format!("{text:?} is no host name: {what}")))
}

/// Where somebody may go: a name, a wildcard, or addresses.
pub(crate) fn destination(text: &str) -> Result<EgressHost, Finding> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    let is_address = bare.is_some() || first.parse::<IpAddr>().is_ok();
    if is_address {
        let network = address::network(bare.unwrap_or(text))?;
        return match network.addr() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(bad(format!(
                "{text:?} is IPv4 written as IPv6, which is never asked for"
            ))
            .hint("write it as IPv4")),
            _ => Ok(EgressHost::Network(network)),
        };
    }
    if !rest.is_empty() && !first.is_empty() && !text.contains("://") {
        return Err(bad(format!("{text:?} has a path, but hosts have none"))
            .hint(format!("write {first:?}, and the path in `paths`")));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(bad(format!("{text:?} has a port, but hosts have none"))
            .hint(format!("write {host:?}, and ports = [{port}]")));
    }
    pattern(text).map(EgressHost::Name)
}

/// A host as it stands in a URL.
pub(crate) fn url_host(text: &str) -> Result<Host, Finding> {
    if let Some(ip) = literal(text) {
        return Ok(Host::Ip(ip));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    match pattern(text)? {
        HostPattern::Exact(host) => Ok(Host::Name(host)),
        HostPattern::Wildcard(_) | HostPattern::Any => {
            Err(bad(format!("{text:?} is a wildcard, not a host")))
        }
    }
}
