//! Does one condition hold, and if not, why: plainly, one after the other.
//!
//! `explain` shows these reasons; tests hold the fast table against them.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderName;
use ipnet::IpNet;
use serde::Serialize;
use sluice_config::{
    model::{Match, Method, PathMatch, ValueMatch},
    names::ListenerName,
};

use super::{Opening, Question, value};

/// A condition that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What was asked for: `path is under /api`.
    pub wanted: String,
    /// What was there: `/apis`.
    pub found: String,
}

/// Every condition of `condition` that does not hold; empty when it matches.
pub(super) fn failures(
    condition: &Match,
    listener: &ListenerName,
    question: &Question<'_>,
) -> Vec<Failure> {
    let values = value_failures(condition, question);
    let method = condition.methods.iter().map(Method::as_str);
    let clients = condition.clients.iter();
    let listeners = condition.listeners.iter();
    condition
        .path
        .as_ref()
        .filter(|path| !path_holds(path, question.path))
        .map(|path| failure(format!("path {}", path_text(path)), &question.path))
        .into_iter()
        .chain(any_of("method is", method, &question.method))
        .chain(values)
        .chain(none_contains("client", clients, question.client))
        .chain(any_of("listener is", listeners, &listener))
        .chain(connection_failures(condition, question))
        .collect()
}

fn failure(wanted: String, found: &impl ToString) -> Failure {
    let found = found.to_string();
    Failure { wanted, found }
}

/// Fails unless there are no alternatives, or the one that was found is among them.
fn any_of<T: PartialEq + ToString>(
    what: &str,
    alternatives: impl Iterator<Item = T> + Clone,
    found: &T,
) -> Option<Failure> {
    let mut left = alternatives.clone().peekable();
    let holds = left.peek().is_none() || left.any(|alternative| alternative == *found);
    (!holds).then(|| failure(format!("{what} {}", list(alternatives)), found))
}

fn none_contains<'a>(
    what: &str,
    mut networks: impl Iterator<Item = &'a IpNet> + Clone,
    address: IpAddr,
) -> Option<Failure> {
    let all = networks.clone();
    let holds = all.clone().next().is_none() || networks.any(|net| net.contains(&address));
    (!holds).then(|| failure(format!("{what} is in {}", list(all)), &address))
}

/// What a connection is asked for, whatever it carries.
fn connection_failures(condition: &Match, question: &Question<'_>) -> Vec<Failure> {
    let Opening {
        destination,
        alpn,
        sni,
    } = question.opening;
    let mut failures = Vec::new();
    let networks = condition.destination.iter();
    failures.extend(none_contains("destination", networks, destination.ip()));
    let (ports, port) = (&condition.destination_port, destination.port());
    if !ports.is_empty() && !ports.iter().any(|ports| ports.contains(&port)) {
        let ports = ports
            .iter()
            .map(|ports| match (ports.start(), ports.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            });
        let wanted = format!("destination port is {}", list(ports));
        failures.push(failure(wanted, &port));
    }
    let wanted = &condition.alpn;
    let offered = |name: &String| alpn.contains(&name.as_bytes());
    if !wanted.is_empty() && !wanted.iter().any(offered) {
        let offered = alpn.iter().map(|name| String::from_utf8_lossy(name));
        let found = if alpn.is_empty() {
            "nothing".to_owned()
        } else {
            list(offered)
        };
        failures.push(failure(format!("ALPN has {}", list(wanted.iter())), &found));
    }
    if let Some(wanted) = &condition.sni {
        let asked: Vec<String> = sni.map(str::to_owned).into_iter().collect();
        failures.extend(value_failure("SNI", wanted, &asked));
    }
    failures
}

/// Headers, query parameters and cookies.
fn value_failures(condition: &Match, question: &Question<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for header in &condition.headers {
        let values = header.name.as_str().parse().map_or_else(
            |_| Vec::new(),
            |name: HeaderName| {
                let values = value::of_header(question.headers, &name);
                values.map(String::from).collect()
            },
        );
        let what = format!("header {}", header.name.as_str());
        failures.extend(value_failure(&what, &header.value, &values));
    }
    for (name, wanted) in &condition.query {
        let pairs = value::parameters(question.query.unwrap_or_default());
        let what = format!("query parameter {name}");
        failures.extend(value_failure(&what, wanted, &named(name, pairs)));
    }
    for (name, wanted) in &condition.cookies {
        let pairs = value::cookies(question.headers);
        let what = format!("cookie {name}");
        failures.extend(value_failure(&what, wanted, &named(name, pairs)));
    }
    failures
}

fn named<'a>(name: &str, pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Vec<String> {
    let named = pairs.filter(|(key, _)| key == name);
    named.map(|(_, value)| value.into_owned()).collect()
}

fn value_failure(what: &str, wanted: &ValueMatch, values: &[String]) -> Option<Failure> {
    if value_holds(wanted, values) {
        return None;
    }
    let text = match wanted {
        ValueMatch::Exact(text) => format!("{what} is {text:?}"),
        ValueMatch::StartsWith(text) => format!("{what} starts with {text:?}"),
        ValueMatch::Regex(pattern) => format!("{what} matches {pattern:?}"),
        ValueMatch::Present(true) => format!("{what} is present"),
        ValueMatch::Present(false) => format!("{what} is absent"),
    };
    let found = match values {
        [] => "absent".to_owned(),
        values => list(values.iter().map(|value| format!("{value:?}"))),
    };
    Some(failure(text, &found))
}

fn value_holds(wanted: &ValueMatch, values: &[String]) -> bool {
    match wanted {
        ValueMatch::Exact(text) => values.iter().any(|value| value == text),
        ValueMatch::StartsWith(text) => values.iter().any(|value| value.starts_with(text)),
        ValueMatch::Regex(pattern) => values.iter().any(|value| pattern.regex().is_match(value)),
        ValueMatch::Present(present) => values.is_empty() != *present,
    }
}

/// Whether a condition on the path holds; `path` is normalised.
pub(crate) fn path_holds(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(text) => path == text,
        PathMatch::StartsWith(text) => path.starts_with(text),
        PathMatch::Regex(pattern) => pattern.regex().is_match(path),
        PathMatch::Prefix(text) => {
            let segments = text.trim_end_matches('/');
            path.strip_prefix(segments).is_some_and(|rest| {
                rest.starts_with('/') || (rest.is_empty() && !segments.is_empty())
            })
        }
    }
}

fn path_text(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(text) => format!("is {text}"),
        PathMatch::Prefix(text) => format!("is under {text}"),
        PathMatch::StartsWith(text) => format!("starts with {text}"),
        PathMatch::Regex(pattern) => format!("matches {pattern:?}"),
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(" or ")
}
