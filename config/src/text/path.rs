//! Paths of matches and rewrites.

use super::template;
use crate::{
    findings::Finding,
    model::{Part, PathMatch, Pattern, Template},
};

fn bad(what: String) -> Finding {
    Finding::new("bad_path", what)
}

/// What every path has in common: it begins with `/`, and its characters can stand in a request.
fn plain(text: &str) -> Result<(), Finding> {
    if !text.starts_with('/') {
        return Err(bad(format!("the path {text:?} does not begin with /"))
            .hint(format!("write {:?}", format!("/{text}"))));
    }
    if let Some(odd) = text.chars().find(|c| matches!(c, '?' | '#')) {
        let finding = bad(format!(
            "the path {text:?} contains {odd:?}, which ends a path"
        ));
        return Err(if odd == '?' {
            finding.hint("match the query with `query = { NAME = \"value\" }`")
        } else {
            finding
        });
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(bad(format!("the path {text:?} contains {odd:?}"))
            .hint("write it percent-encoded, as it stands in a request"));
    }
    Ok(())
}

/// Dot segments are resolved before anything is matched, so such a path would match nothing.
fn without_dots(text: &str) -> Result<(), Finding> {
    match text
        .split('/')
        .find(|segment| matches!(*segment, "." | ".."))
    {
        Some(dots) => Err(bad(format!("the path {text:?} has the segment {dots:?}"))
            .hint("dot segments are resolved before a path is matched; write the result")),
        None => Ok(()),
    }
}

/// The whole path. `bare`: written without `exact =`, where a `*` is taken for a mistake.
pub(crate) fn exact_path(text: &str, bare: bool) -> Result<PathMatch, Finding> {
    if bare && text.ends_with('*') {
        return Err(starred(text));
    }
    plain(text)?;
    without_dots(text)?;
    Ok(PathMatch::Exact(text.to_owned()))
}

fn starred(text: &str) -> Finding {
    let stem = text.trim_end_matches('*');
    let hint = if let Some(prefix) = stem.strip_suffix('/') {
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        format!("write {{ prefix = {prefix:?} }}")
    } else {
        format!("write {{ starts_with = {stem:?} }}")
    };
    bad(format!("the * in {text:?} would be matched as it is")).hint(hint)
}

/// Whole segments, without a trailing slash.
pub(crate) fn path_prefix(text: &str) -> Result<String, Finding> {
    if text.ends_with('*') {
        return Err(starred(text));
    }
    plain(text)?;
    without_dots(text)?;
    Ok(match text.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    })
}

/// The first characters.
pub(crate) fn path_start(text: &str) -> Result<PathMatch, Finding> {
    plain(text)?;
    without_dots(text)?;
    Ok(PathMatch::StartsWith(text.to_owned()))
}

/// A regular expression for the whole path.
pub(crate) fn path_regex(text: &str) -> Result<PathMatch, Finding> {
    regex(text).map(PathMatch::Regex)
}

/// A regular expression for a whole value.
pub(crate) fn regex(text: &str) -> Result<Pattern, Finding> {
    Pattern::new(text).map_err(|error| {
        let message = error.0.to_string();
        // The last line says what; those before draw the expression, which the report does too.
        let what = message.lines().last().unwrap_or_default().trim();
        let what = what.strip_prefix("error: ").unwrap_or(what);
        Finding::new(
            "bad_regex",
            format!("the expression {text:?} is refused: {what}"),
        )
    })
}

/// A new path with variables.
pub(crate) fn path_template(text: &str) -> Result<Template, Finding> {
    let template = template(text)?;
    let finding = match template.parts.first() {
        None => bad("the new path is empty".to_owned()).hint("write \"/\""),
        Some(Part::Text(first)) if !first.starts_with('/') => {
            bad(format!("the new path {text:?} does not begin with /"))
        }
        Some(_) => {
            let texts = template.parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text),
                Part::Variable(_) | Part::Capture(_) => None,
            });
            let odd = texts.flat_map(|text| text.chars());
            match odd
                .clone()
                .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
            {
                None => return Ok(template),
                Some(odd) => bad(format!("the new path {text:?} contains {odd:?}")),
            }
        }
    };
    Err(finding)
}
