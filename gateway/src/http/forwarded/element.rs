//! The pieces of forwarding headers: addresses, schemes, and the elements of RFC 7239.

use std::net::{IpAddr, SocketAddr};

/// An address as proxies write it: bare, in brackets, with or without a port.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<IpAddr>().ok()
    };
    bare()
        .or_else(with_port)
        .or_else(bracketed)
        .map(|address| address.to_canonical())
}

/// `http` or `https`.
pub(super) fn scheme(text: &str) -> Option<&'static str> {
    let text = text.trim();
    ["http", "https"]
        .into_iter()
        .find(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// The elements of a `Forwarded` header; commas inside quotes do not divide.
pub(super) fn split(text: &str) -> Vec<&str> {
    divide(text, ',')
}

/// A parameter of one element, unquoted.
pub(super) fn parameter(element: &str, name: &str) -> Option<String> {
    divide(element, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.trim();
        match value.strip_prefix('"') {
            Some(rest) => Some(rest.strip_suffix('"')?.replace('\\', "")),
            None => Some(value.to_owned()),
        }
    })
}

fn divide(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(|character: char| {
        let divides = !quoted && character == separator;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        divides
    })
    .collect()
}
