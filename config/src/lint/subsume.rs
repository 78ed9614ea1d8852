//! Whether one condition admits everything that another does.
//!
//! Sound, not complete: `true` is a proof, `false` may only mean that we do not see it.

use std::{borrow::Cow, ops::RangeInclusive};

use ipnet::IpNet;

use super::expression;
use crate::model::{Match, PathMatch, ValueMatch};

/// Whether every request that `narrow` admits is admitted by `wide`, on listeners where both apply.
pub(crate) fn subsumes(wide: &Match, narrow: &Match) -> bool {
    subset(&narrow.methods, &wide.methods)
        && subset(&narrow.listeners, &wide.listeners)
        && networks(&wide.clients, &narrow.clients)
        && networks(&wide.destination, &narrow.destination)
        && ports(&wide.destination_port, &narrow.destination_port)
        && subset(&narrow.alpn, &wide.alpn)
        && sni(wide.sni.as_ref(), narrow.sni.as_ref())
        && wide.headers.iter().all(|wide| {
            let mut same = narrow
                .headers
                .iter()
                .filter(|narrow| narrow.name == wide.name);
            same.any(|narrow| value(&wide.value, &narrow.value))
        })
        && values(&wide.query, &narrow.query)
        && values(&wide.cookies, &narrow.cookies)
        && path(wide.path.as_ref(), narrow.path.as_ref())
}

/// Lists of which an empty one means everything.
fn subset<T: PartialEq>(narrow: &[T], wide: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|item| wide.contains(item)))
}

fn networks(wide: &[IpNet], narrow: &[IpNet]) -> bool {
    let everything: [IpNet; 2] = [
        IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(ipnet::Ipv6Net::default()),
    ];
    let narrow = if narrow.is_empty() {
        &everything
    } else {
        narrow
    };
    wide.is_empty()
        || narrow
            .iter()
            .all(|narrow| wide.iter().any(|wide| wide.contains(narrow)))
}

fn ports(wide: &[RangeInclusive<u16>], narrow: &[RangeInclusive<u16>]) -> bool {
    let within = |narrow: &RangeInclusive<u16>| {
        let mut wide = wide.iter();
        wide.any(|wide| wide.contains(narrow.start()) && wide.contains(narrow.end()))
    };
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(within))
}

fn sni(wide: Option<&ValueMatch>, narrow: Option<&ValueMatch>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => value(wide, narrow),
    }
}

fn values(wide: &[(String, ValueMatch)], narrow: &[(String, ValueMatch)]) -> bool {
    wide.iter().all(|(name, wide)| {
        let mut same = narrow.iter().filter(|(other, _)| other == name);
        same.any(|(_, narrow)| value(wide, narrow))
    })
}

fn value(wide: &ValueMatch, narrow: &ValueMatch) -> bool {
    use ValueMatch::{Exact, Present, Regex, StartsWith};
    match (wide, narrow) {
        (Present(wide), Present(narrow)) => wide == narrow,
        (Present(wide), Exact(_) | StartsWith(_) | Regex(_)) => *wide,
        (Exact(wide), Exact(narrow)) => wide == narrow,
        (StartsWith(wide), Exact(narrow) | StartsWith(narrow)) => narrow.starts_with(wide.as_str()),
        (Regex(wide), Exact(narrow)) => wide.regex().is_match(narrow),
        (Regex(wide), Regex(narrow)) => wide == narrow,
        (Exact(_) | StartsWith(_) | Regex(_), _) => false,
    }
}

fn path(wide: Option<&PathMatch>, narrow: Option<&PathMatch>) -> bool {
    let Some(wide) = wide.map(expression::simplify) else {
        return true;
    };
    if admits_every_path(&wide) {
        return true;
    }
    let Some(narrow) = narrow.map(expression::simplify) else {
        return false;
    };
    match &*narrow {
        PathMatch::Exact(text) => admits(&wide, text),
        PathMatch::Prefix(prefix) => admits_below(&wide, prefix),
        PathMatch::StartsWith(start) => admits_starting(&wide, start),
        PathMatch::Regex(narrow) => {
            matches!(&*wide, PathMatch::Regex(wide) if wide == narrow)
                || expression::beginnings(narrow).is_some_and(|beginnings| {
                    beginnings.iter().all(|(text, whole)| {
                        if *whole {
                            admits(&wide, text)
                        } else {
                            admits_starting(&wide, text)
                        }
                    })
                })
        }
    }
}

/// Whether the condition is none. Every path begins with `/`.
pub(super) fn admits_every_path(path: &PathMatch) -> bool {
    matches!(path, PathMatch::Prefix(text) | PathMatch::StartsWith(text) if text.is_empty() || text == "/")
}

/// Whether a path is admitted.
pub(super) fn admits(path: &PathMatch, text: &str) -> bool {
    match path {
        PathMatch::Exact(exact) => exact == text,
        PathMatch::Prefix(prefix) => is_below(prefix, text),
        PathMatch::StartsWith(start) => text.starts_with(start.as_str()),
        PathMatch::Regex(pattern) => pattern.regex().is_match(text),
    }
}

fn is_below(prefix: &str, text: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether every path that `prefix` admits is admitted.
fn admits_below(wide: &PathMatch, prefix: &str) -> bool {
    match wide {
        PathMatch::Prefix(wide) => is_below(wide, prefix),
        PathMatch::StartsWith(start) => prefix.starts_with(start.as_str()),
        PathMatch::Exact(_) | PathMatch::Regex(_) => false,
    }
}

/// Whether every path that begins with `start` is admitted.
fn admits_starting(wide: &PathMatch, start: &str) -> bool {
    match wide {
        // `/a` starts also `/ab`, which is not below `/a`; what starts with `/a/` is.
        PathMatch::Prefix(wide) => start != wide && is_below(wide, start),
        PathMatch::StartsWith(wide) => start.starts_with(wide.as_str()),
        PathMatch::Exact(_) | PathMatch::Regex(_) => false,
    }
}

/// A text that every admitted path begins with.
pub(super) fn reach(path: Option<&PathMatch>) -> Cow<'_, str> {
    let reach = literal_reach(path);
    if reach.is_empty() {
        Cow::Borrowed("/")
    } else {
        reach
    }
}

fn literal_reach(path: Option<&PathMatch>) -> Cow<'_, str> {
    match path {
        None => Cow::Borrowed(""),
        Some(PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::StartsWith(text)) => {
            Cow::Borrowed(text)
        }
        Some(PathMatch::Regex(pattern)) => {
            let beginnings = expression::beginnings(pattern).unwrap_or_default();
            let mut texts = beginnings.into_iter().map(|(text, _)| text);
            let first = texts.next().unwrap_or_default();
            Cow::Owned(texts.fold(first, |common, text| {
                let same = common.chars().zip(text.chars()).take_while(|(a, b)| a == b);
                same.map(|(c, _)| c).collect()
            }))
        }
    }
}
