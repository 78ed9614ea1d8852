//! `match = { … }`

pub(super) mod stream;

use super::{filter::Offer, listener::networks, references::Known};
use crate::{
    findings::{Finding, Findings},
    model::{HeaderMatch, HeaderName, Match, Method, PathMatch, ValueMatch},
    names::ListenerName,
    raw::{self, OneOrMany, Table, TextOr},
    text,
    tree::At,
};

/// What the rest of the route says about where a match stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s> {
    /// Every name there is.
    pub(super) known: &'s Known,
    /// The listeners of the route; none when they could not be read.
    pub(super) listeners: Option<&'s [ListenerName]>,
}

/// Checks the matches of a rule.
pub(super) fn check(
    raw: Option<&OneOrMany<raw::Match>>,
    at: &At<'_>,
    scope: Scope<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Match> {
    let Some(list) = raw else {
        return Vec::new();
    };
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "an empty list of matches matches nothing");
        findings.value(at, finding.hint("leave `match` out for every request"));
    }
    let each = list.as_slice().iter().enumerate();
    each.map(|(index, raw)| one(raw, &at.element(index, list.is_list()), scope, findings))
        .collect()
}

/// What every one of the matches offers to filters and redirects.
pub(super) fn offer(matches: &[Match]) -> Offer {
    let captures = matches.iter().map(|one| match &one.path {
        Some(PathMatch::Regex(pattern)) => pattern.groups(),
        _ => 0,
    });
    Offer {
        captures: captures.min().unwrap_or(0),
        prefix: !matches.is_empty()
            && matches
                .iter()
                .all(|one| matches!(one.path, Some(PathMatch::Prefix(_)))),
    }
}

fn one(raw: &raw::Match, at: &At<'_>, scope: Scope<'_>, findings: &mut Findings<'_>) -> Match {
    Match {
        path: raw
            .path
            .as_ref()
            .and_then(|raw| path(raw, &at.key("path"), findings)),
        methods: methods(raw.method.as_ref(), &at.key("method"), findings),
        headers: headers(raw.headers.as_ref(), &at.key("headers"), findings),
        query: named(raw.query.as_ref(), &at.key("query"), findings),
        cookies: cookies(raw.cookies.as_ref(), &at.key("cookies"), findings),
        clients: networks(raw.client.as_ref(), &at.key("client"), findings),
        listeners: listeners(raw.listener.as_ref(), &at.key("listener"), scope, findings),
        destination: networks(raw.destination.as_ref(), &at.key("destination"), findings),
        destination_port: stream::ports(
            raw.destination_port.as_ref(),
            &at.key("destination_port"),
            findings,
        ),
        alpn: stream::alpn(raw.alpn.as_ref(), &at.key("alpn"), findings),
        sni: raw
            .sni
            .as_ref()
            .and_then(|raw| stream::sni(raw, &at.key("sni"), findings)),
    }
}

/// Conditions on the path, one of which must hold.
pub(super) fn paths(
    raw: Option<&OneOrMany<TextOr<raw::PathMatch>>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<PathMatch> {
    let Some(list) = raw else {
        return Vec::new();
    };
    empty(list, at, findings);
    let each = list.as_slice().iter().enumerate();
    each.filter_map(|(index, raw)| path(raw, &at.element(index, list.is_list()), findings))
        .collect()
}

fn path(
    raw: &TextOr<raw::PathMatch>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<PathMatch> {
    let raw = match raw {
        TextOr::Text(text) => {
            let path = text::exact_path(text, true);
            return path.map_err(|finding| findings.value(at, finding)).ok();
        }
        TextOr::Table(raw) => raw,
    };
    let written = [
        ("exact", raw.exact.as_ref()),
        ("prefix", raw.prefix.as_ref()),
        ("starts_with", raw.starts_with.as_ref()),
        ("regex", raw.regex.as_ref()),
    ];
    let words = written.map(|(word, value)| (word, value.is_some()));
    let word = only_one(&words, at, findings)?;
    let (_, text) = written.iter().find(|(key, _)| *key == word)?;
    let text = text.map(String::as_str)?;
    let path = match word {
        "exact" => text::exact_path(text, false),
        "prefix" => text::path_prefix(text).map(PathMatch::Prefix),
        "starts_with" => text::path_start(text),
        _ => text::path_regex(text),
    };
    path.map_err(|finding| findings.value(&at.key(word), finding))
        .ok()
}

/// The one key that is written; none or several are reported.
fn only_one<'w>(
    words: &[(&'w str, bool)],
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'w str> {
    let mut there = words
        .iter()
        .filter(|(_, there)| *there)
        .map(|(word, _)| *word);
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let all = all.join(", ");
    match (there.next(), there.next()) {
        (Some(word), None) => Some(word),
        (None, _) => {
            if words
                .iter()
                .all(|(word, _)| findings.is_clean(&at.key(word)))
            {
                findings.value(
                    at,
                    Finding::new("missing_key", format!("this needs one of {all}")),
                );
            }
            None
        }
        (Some(first), Some(second)) => {
            let what = format!("{first} and {second} cannot stand together");
            findings.value(
                at,
                Finding::new("conflict", what).hint(format!("write one of {all}")),
            );
            None
        }
    }
}

/// Methods, one of which must hold.
pub(super) fn methods(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Method> {
    let mut methods = Vec::new();
    let Some(list) = raw else {
        return methods;
    };
    empty(list, at, findings);
    for (index, text) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        let upper = text.to_ascii_uppercase();
        match Method::new(text) {
            None => findings.value(
                &at,
                Finding::new("bad_method", format!("{text:?} is no method")),
            ),
            // Methods are case-sensitive, and there is none in common use that is not upper case.
            Some(_) if *text != upper && ORDINARY.contains(&upper.as_str()) => {
                let what = format!("the method {text:?} would match nothing");
                findings.value(
                    &at,
                    Finding::new("bad_method", what).hint(format!("write {upper:?}")),
                );
            }
            Some(method) => methods.push(method),
        }
    }
    methods
}

const ORDINARY: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

/// An empty list of alternatives holds for nothing, which nobody means.
pub(super) fn empty<T>(list: &OneOrMany<T>, at: &At<'_>, findings: &mut Findings<'_>) {
    if list.as_slice().is_empty() && findings.is_clean(at) {
        findings.value(
            at,
            Finding::new("empty_list", "an empty list matches nothing"),
        );
    }
}

fn headers(
    raw: Option<&Table<TextOr<raw::ValueMatch>>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<HeaderMatch> {
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for (text, raw) in raw.iter().flat_map(|table| table.iter()) {
        let at = at.key(text);
        let Some(name) = HeaderName::new(text) else {
            findings.key(
                &at,
                Finding::new("bad_header", format!("{text:?} is no header name")),
            );
            continue;
        };
        if name.as_str() == "host" {
            let finding = Finding::new("bad_header", "the header host is not matched here");
            findings.key(&at, finding.hint("write it into `hosts` of the route"));
            continue;
        }
        if headers.iter().any(|there| there.name == name) {
            let what = format!("the header {name} is written twice; its case does not count");
            findings.key(&at, Finding::new("duplicate_key", what));
            continue;
        }
        if let Some(value) = value(raw, &at, findings) {
            headers.push(HeaderMatch { name, value });
        }
    }
    headers
}

fn cookies(
    raw: Option<&Table<TextOr<raw::ValueMatch>>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(String, ValueMatch)> {
    for (name, _) in raw.iter().flat_map(|table| table.iter()) {
        if HeaderName::new(name).is_none() {
            let what = format!("{name:?} is no name of a cookie");
            findings.key(&at.key(name), Finding::new("bad_header", what));
        }
    }
    named(raw, at, findings)
}

fn named(
    raw: Option<&Table<TextOr<raw::ValueMatch>>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(String, ValueMatch)> {
    let entries = raw.iter().flat_map(|table| table.iter());
    let values = entries
        .filter_map(|(name, raw)| Some((name.to_owned(), value(raw, &at.key(name), findings)?)));
    values.collect()
}

fn value(
    raw: &TextOr<raw::ValueMatch>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<ValueMatch> {
    let raw = match raw {
        TextOr::Text(text) => return Some(ValueMatch::Exact(text.clone())),
        TextOr::Table(raw) => raw,
    };
    let words = [
        ("exact", raw.exact.is_some()),
        ("starts_with", raw.starts_with.is_some()),
        ("regex", raw.regex.is_some()),
        ("present", raw.present.is_some()),
    ];
    match only_one(&words, at, findings)? {
        "exact" => raw.exact.clone().map(ValueMatch::Exact),
        "starts_with" => raw.starts_with.clone().map(ValueMatch::StartsWith),
        "present" => raw.present.map(ValueMatch::Present),
        word => {
            let pattern = text::regex(raw.regex.as_deref()?);
            let pattern = pattern.map_err(|finding| findings.value(&at.key(word), finding));
            pattern.ok().map(ValueMatch::Regex)
        }
    }
}

fn listeners(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    scope: Scope<'_>,
    findings: &mut Findings<'_>,
) -> Vec<ListenerName> {
    let mut listeners = Vec::new();
    let Some(list) = raw else {
        return listeners;
    };
    empty(list, at, findings);
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        let Some(name) = scope.known.listener(name, &at, findings) else {
            continue;
        };
        if scope.listeners.is_some_and(|bound| !bound.contains(&name)) {
            let what = format!("the route is not bound to listener {name}");
            let finding = Finding::new("unbound_listener", what);
            findings.value(&at, finding.hint("add it to `listeners` of the route"));
            continue;
        }
        listeners.push(name);
    }
    listeners
}
