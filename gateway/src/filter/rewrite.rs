//! Changes of path and host. The query is kept byte for byte.

use bytes::Bytes;
use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery},
};
use sluice_config::model::{PathChange, PathMatch, Template};

use super::template::{Filled, rooted};

/// The new target; `None` leaves it as it is.
pub(super) fn uri(change: &PathChange, filled: &Filled<'_>) -> Option<Uri> {
    let path = path(change, filled)?;
    let target = match filled.facts.query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()?;
    Some(Uri::from(target))
}

/// The new path; `None` leaves it as it is. `*` has no path to change.
pub(super) fn path(change: &PathChange, filled: &Filled<'_>) -> Option<String> {
    let old = filled.facts.path;
    if !old.starts_with('/') {
        return None;
    }
    match change {
        PathChange::Replace(template) => Some(filled.path(template)),
        PathChange::Prefix(new) => prefix(old, filled.facts.path_match, new),
        PathChange::Regex { pattern, to } => {
            let captures = pattern.regex().captures(old)?;
            Some(filled.path_with(to, Some(&captures)))
        }
    }
}

/// A rule without a condition on the path matched the prefix `/`; a regular expression matched
/// none that could be replaced.
fn prefix(old: &str, matched: Option<&PathMatch>, new: &str) -> Option<String> {
    let rest = match matched {
        None => Some(old),
        Some(PathMatch::Prefix(prefix)) => old.strip_prefix(prefix.trim_end_matches('/')),
        Some(PathMatch::Exact(text) | PathMatch::StartsWith(text)) => old.strip_prefix(&**text),
        Some(PathMatch::Regex(_)) => None,
    }?;
    let new = if rest.starts_with('/') {
        new.trim_end_matches('/')
    } else {
        new
    };
    Some(rooted(format!("{new}{rest}")))
}

/// The new `Host`; `None` when what came out is none.
pub(super) fn host(template: &Template, filled: &Filled<'_>) -> Option<HeaderValue> {
    let text = filled.text(template);
    let authority: Authority = text.parse().ok()?;
    let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    plain
        .then(|| HeaderValue::from_str(authority.as_str()).ok())
        .flatten()
}
