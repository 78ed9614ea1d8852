//! Filter keys on listeners, routes and rules, and `[filters.NAME]`.

mod fault;
mod hsts;
mod retry;
pub(super) mod rewrite;
mod stream;
mod upgrade;

use std::sync::Arc;

use super::{
    decode, entries, name_of,
    references::{Known, unknown},
    telemetry::tracing,
};
use crate::{
    findings::{Finding, Findings},
    model::{Filters, HeaderEdits, HeaderName, PathChange, Template},
    names::FilterName,
    raw::{self, OneOrMany, SizeOrOff, Table},
    scalar::Scalars,
    text,
    tree::{At, Node},
};

/// A checked set of filters, and what a rule must offer to use it.
#[derive(Debug)]
pub(super) struct Set {
    filters: Filters,
    needs: Offer,
}

/// What matches of a rule offer to its filters, or what filters need of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offer {
    /// Captures of the path's expression that every match has.
    pub(super) captures: usize,
    /// Every match has a path prefix.
    pub(super) prefix: bool,
}

/// Where filters stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// In a set: what they need is known when it is used.
    Set,
    /// On a listener or route, where nothing is known of the match.
    Wide,
    /// On a rule.
    Rule(Offer),
}

/// The filter keys of an object.
pub(super) struct Keys<'r> {
    uses: Option<&'r OneOrMany<String>>,
    request_headers: Option<&'r raw::HeaderEdits>,
    response_headers: Option<&'r raw::HeaderEdits>,
    rewrite: Option<&'r raw::Rewrite>,
    max_body: Option<&'r SizeOrOff>,
    upgrade: Option<&'r raw::Upgrade>,
    hsts: Option<&'r raw::Hsts>,
    grpc_web: Option<bool>,
    trace: Option<&'r raw::Trace>,
    retry: Option<&'r raw::Retry>,
    fault: Option<&'r raw::Fault>,
    stream: Option<&'r raw::StreamLimits>,
}

macro_rules! keys {
    ($($object:ty),*) => {$(
        impl $object {
            /// The filter keys of this object.
            pub(super) fn filters(&self) -> Keys<'_> {
                Keys {
                    uses: self.uses.as_ref(),
                    request_headers: self.request_headers.as_ref(),
                    response_headers: self.response_headers.as_ref(),
                    rewrite: self.rewrite.as_ref(),
                    max_body: self.max_body.as_ref(),
                    upgrade: self.upgrade.as_ref(),
                    hsts: self.hsts.as_ref(),
                    grpc_web: self.grpc_web,
                    trace: self.trace.as_ref(),
                    retry: self.retry.as_ref(),
                    fault: self.fault.as_ref(),
                    stream: self.stream.as_ref(),
                }
            }
        }
    )*};
}

keys!(raw::Listener, raw::Route, raw::Rule);

/// Checks every set and remembers it.
pub(super) fn check_sets(root: &Node, known: &mut Known, findings: &mut Findings<'_>) {
    for (name, node) in entries(root, "filters") {
        let at = At::Root.key("filters");
        let at = at.key(name);
        if name_of(name, &at, FilterName::new, findings).is_none() {
            continue;
        }
        let raw: raw::FilterSet = decode(node, &at, findings);
        let keys = Keys {
            uses: None,
            request_headers: raw.request_headers.as_ref(),
            response_headers: raw.response_headers.as_ref(),
            rewrite: raw.rewrite.as_ref(),
            max_body: raw.max_body.as_ref(),
            upgrade: raw.upgrade.as_ref(),
            hsts: raw.hsts.as_ref(),
            grpc_web: raw.grpc_web,
            trace: raw.trace.as_ref(),
            retry: raw.retry.as_ref(),
            fault: raw.fault.as_ref(),
            stream: raw.stream.as_ref(),
        };
        let filters = check(&keys, &at, Level::Set, known, findings);
        let set = filters
            .filter(|_| findings.is_clean(&at))
            .map(|filters| Set {
                needs: needs(&filters),
                filters,
            });
        known.sets.insert(name.clone(), set);
    }
}

/// Checks the filters of one object; what is used comes first, so that its own keys win. None: it
/// uses a refused set, and must not do without it.
pub(super) fn check(
    keys: &Keys<'_>,
    at: &At<'_>,
    level: Level,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Filters> {
    let mut filters = used(keys.uses, &at.key("use"), level, known, findings);
    let own = Filters {
        request_headers: edits(
            keys.request_headers,
            &at.key("request_headers"),
            level,
            findings,
        ),
        response_headers: edits(
            keys.response_headers,
            &at.key("response_headers"),
            level,
            findings,
        ),
        rewrite: keys
            .rewrite
            .map(|raw| rewrite::check(raw, &at.key("rewrite"), level, findings)),
        max_body: keys
            .max_body
            .and_then(|raw| Scalars { at: *at, findings }.size_or_off("max_body", raw)),
        upgrade: keys
            .upgrade
            .map(|raw| upgrade::check(raw, &at.key("upgrade"), findings)),
        hsts: keys
            .hsts
            .map(|raw| hsts::check(raw, &at.key("hsts"), findings)),
        grpc_web: keys.grpc_web,
        trace: keys
            .trace
            .and_then(|raw| tracing::trace(raw, &at.key("trace"), findings)),
        retry: keys
            .retry
            .map(|raw| Arc::new(retry::check(raw, &at.key("retry"), findings))),
        fault: keys
            .fault
            .map(|raw| fault::check(raw, &at.key("fault"), findings)),
        stream: keys
            .stream
            .map(|raw| stream::check(raw, &at.key("stream"), findings)),
    };
    if let Some(filters) = &mut filters {
        overlay(filters, own);
    }
    filters
}

fn overlay(filters: &mut Filters, nearer: Filters) {
    let Filters {
        request_headers,
        response_headers,
        rewrite,
        max_body,
        upgrade,
        hsts,
        grpc_web,
        trace,
        retry,
        fault,
        stream,
    } = nearer;
    filters.request_headers = request_headers.or_else(|| filters.request_headers.take());
    filters.response_headers = response_headers.or_else(|| filters.response_headers.take());
    filters.rewrite = rewrite.or_else(|| filters.rewrite.take());
    filters.max_body = max_body.or(filters.max_body);
    filters.upgrade = upgrade.or_else(|| filters.upgrade.take());
    filters.hsts = hsts.or(filters.hsts);
    filters.grpc_web = grpc_web.or(filters.grpc_web);
    filters.trace = trace.or(filters.trace);
    filters.retry = retry.or_else(|| filters.retry.take());
    filters.fault = fault.or_else(|| filters.fault.take());
    filters.stream = stream.or(filters.stream);
}

fn used(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    level: Level,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Filters> {
    let mut filters = Some(Filters::default());
    let Some(list) = raw else {
        return filters;
    };
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match known.sets.get(name) {
            None => {
                let names = known.sets.keys().map(String::as_str);
                let finding = unknown("unknown_filter", "set of filters", name, names, findings);
                findings.value(&at, finding);
            }
            Some(None) => filters = None,
            Some(Some(set)) => {
                offers(set.needs, &at, level, findings);
                if let Some(filters) = &mut filters {
                    overlay(filters, set.filters.clone());
                }
            }
        }
    }
    filters
}

fn needs(filters: &Filters) -> Offer {
    let edits = [&filters.request_headers, &filters.response_headers];
    let edits = edits
        .into_iter()
        .flatten()
        .flat_map(|edits| edits.set.iter().chain(&edits.add));
    let mut captures = edits
        .map(|(_, value)| value.highest_capture())
        .max()
        .unwrap_or(0);
    let mut prefix = false;
    if let Some(rewrite) = &filters.rewrite {
        captures = captures.max(rewrite.host.as_ref().map_or(0, Template::highest_capture));
        match &rewrite.path {
            Some(PathChange::Replace(path)) => captures = captures.max(path.highest_capture()),
            Some(PathChange::Prefix(_)) => prefix = true,
            Some(PathChange::Regex { .. }) | None => {}
        }
    }
    Offer { captures, prefix }
}

/// Reports what the level does not offer.
pub(super) fn offers(needs: Offer, at: &At<'_>, level: Level, findings: &mut Findings<'_>) {
    let offer = match level {
        Level::Set => return,
        Level::Wide => Offer::default(),
        Level::Rule(offer) => offer,
    };
    let wide = matches!(level, Level::Wide);
    if needs.captures > offer.captures {
        let needed = needs.captures;
        let what = match offer.captures {
            _ if wide => {
                format!("{{{needed}}} is known only on a rule whose matches have a path regex")
            }
            0 => format!("{{{needed}}} needs a path regex with a group in every match of the rule"),
            groups => {
                format!("{{{needed}}} is beyond the last group of the path regex, {{{groups}}}")
            }
        };
        let finding = Finding::new("unknown_capture", what);
        findings.value(at, finding.part(format!("{{{needed}}}")));
    }
    if needs.prefix && !offer.prefix {
        let what = if wide {
            "replacing the prefix works only on a rule whose matches have a path prefix"
        } else {
            "replacing the prefix needs a path prefix in every match of the rule"
        };
        let finding = Finding::new("no_prefix", what);
        findings.value(
            at,
            finding.hint("write match = { path = { prefix = \"/…\" } }"),
        );
    }
}

fn edits(
    raw: Option<&raw::HeaderEdits>,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Option<HeaderEdits> {
    let raw = raw?;
    let mut edits = HeaderEdits::default();
    if let Some(remove) = &raw.remove {
        let at = at.key("remove");
        for (index, name) in remove.as_slice().iter().enumerate() {
            let at = at.element(index, remove.is_list());
            match header_name(name) {
                Ok(name) => edits.remove.push(name),
                Err(finding) => findings.value(&at, finding),
            }
        }
    }
    if let Some(set) = &raw.set {
        let lines = set
            .iter()
            .map(|(name, value)| (name, std::slice::from_ref(value), false));
        edits.set = headers(lines, &at.key("set"), level, findings);
    }
    if let Some(add) = &raw.add {
        edits.add = header_lines(add, &at.key("add"), level, findings);
    }
    Some(edits)
}

/// Headers by name, each with one or several values.
pub(super) fn header_lines(
    raw: &Table<OneOrMany<String>>,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Vec<(HeaderName, Template)> {
    let lines = raw
        .iter()
        .map(|(name, values)| (name, values.as_slice(), values.is_list()));
    headers(lines, at, level, findings)
}

fn headers<'r>(
    raw: impl Iterator<Item = (&'r str, &'r [String], bool)>,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Vec<(HeaderName, Template)> {
    let mut lines: Vec<(HeaderName, Template)> = Vec::new();
    for (name, values, is_list) in raw {
        let at = at.key(name);
        let checked = match header_name(name) {
            Ok(checked) => checked,
            Err(finding) => {
                findings.key(&at, finding);
                continue;
            }
        };
        if lines.iter().any(|(there, _)| *there == checked) {
            let what = format!("the header {name} is written twice; its case does not count");
            findings.key(&at, Finding::new("duplicate_key", what));
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            let at = at.element(index, is_list);
            match text::header_value(value) {
                Ok(template) => {
                    captures(&template, &at, level, findings);
                    lines.push((checked.clone(), template));
                }
                Err(finding) => findings.value(&at, finding),
            }
        }
    }
    lines
}

/// Reports a capture that the level does not offer.
pub(super) fn captures(
    template: &Template,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) {
    let captures = template.highest_capture();
    offers(
        Offer {
            captures,
            prefix: false,
        },
        at,
        level,
        findings,
    );
}

/// Headers that decide where a message ends, or over which connection, are ours alone.
const OURS: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A header that may be edited.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Finding> {
    let bad = |what: String| Finding::new("bad_header", what);
    let name = HeaderName::new(text).ok_or_else(|| bad(format!("{text:?} is no header name")))?;
    if OURS.contains(&name.as_str()) {
        return Err(bad(format!(
            "the header {name} belongs to the connection and cannot be edited"
        )));
    }
    if name.as_str() == "host" {
        return Err(bad("the header host cannot be edited".to_owned())
            .hint("write rewrite = { host = \"…\" }"));
    }
    Ok(name)
}
