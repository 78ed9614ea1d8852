//! `rewrite`, and the change of path that it shares with `redirect`.

use super::{Level, Offer, captures, offers};
use crate::{
    findings::{Finding, Findings},
    model::{PathChange, Rewrite, Template},
    raw, text,
    tree::At,
};

pub(in crate::check) fn check(
    raw: &raw::Rewrite,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Rewrite {
    let host = raw.host.as_ref().and_then(|host| {
        let at = at.key("host");
        let template = rewritten_host(host)
            .map_err(|finding| findings.value(&at, finding))
            .ok()?;
        captures(&template, &at, level, findings);
        Some(template)
    });
    let change = Change {
        path: raw.path.as_deref(),
        prefix: raw.prefix.as_deref(),
        regex: raw.regex.as_ref(),
    };
    Rewrite {
        path: path_change(&change, at, level, findings),
        host,
    }
}

fn rewritten_host(text: &str) -> Result<Template, Finding> {
    let template = text::header_value(text)?;
    match template.as_literal() {
        Some("") => Err(Finding::new("bad_host", "the new host is empty")),
        Some(host) => {
            // A port is allowed here: this is the header, not a name to look up.
            let (name, port) = match host.rsplit_once(':') {
                Some((name, port)) if !name.ends_with(':') && port.parse::<u16>().is_ok() => {
                    (name, format!(":{port}"))
                }
                _ => (host, String::new()),
            };
            text::url_host(name).map(|host| Template::literal(&format!("{host}{port}")))
        }
        None => match text
            .chars()
            .find(|c| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@'))
        {
            Some(odd) => Err(Finding::new(
                "bad_host",
                format!("a host may not contain {odd:?}"),
            )),
            None => Ok(template),
        },
    }
}

/// A change of path as written.
pub(in crate::check) struct Change<'r> {
    /// The whole path.
    pub(in crate::check) path: Option<&'r str>,
    /// The matched prefix.
    pub(in crate::check) prefix: Option<&'r str>,
    /// By expression.
    pub(in crate::check) regex: Option<&'r raw::PathRegex>,
}

/// At most one change of path.
pub(in crate::check) fn path_change(
    raw: &Change<'_>,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Option<PathChange> {
    let written = [
        raw.path.is_some(),
        raw.prefix.is_some(),
        raw.regex.is_some(),
    ];
    if written.iter().filter(|there| **there).count() > 1 {
        let what = format!("{at} has more than one of path, prefix and regex");
        findings.key(at, Finding::new("conflict", what).hint("keep one"));
    }
    if let Some(path) = raw.path {
        let at = at.key("path");
        let template = text::path_template(path).map_err(|finding| findings.value(&at, finding));
        let template = template.ok()?;
        captures(&template, &at, level, findings);
        return Some(PathChange::Replace(template));
    }
    if let Some(prefix) = raw.prefix {
        let at = at.key("prefix");
        offers(
            Offer {
                captures: 0,
                prefix: true,
            },
            &at,
            level,
            findings,
        );
        let prefix = text::path_prefix(prefix).map_err(|finding| findings.value(&at, finding));
        return prefix.ok().map(PathChange::Prefix);
    }
    raw.regex
        .and_then(|raw| by_regex(raw, &at.key("regex"), findings))
}

fn by_regex(raw: &raw::PathRegex, at: &At<'_>, findings: &mut Findings<'_>) -> Option<PathChange> {
    for (key, there) in [("match", raw.pattern.is_some()), ("to", raw.to.is_some())] {
        if !there {
            let finding = Finding::new("missing_key", format!("the regex lacks its {key:?}"));
            findings.missing(
                at,
                key,
                finding.hint("write regex = { match = \"/old/(.*)\", to = \"/new/{1}\" }"),
            );
        }
    }
    let pattern = raw.pattern.as_ref().and_then(|pattern| {
        let pattern = text::regex(pattern);
        pattern
            .map_err(|finding| findings.value(&at.key("match"), finding))
            .ok()
    });
    let to = raw.to.as_ref().and_then(|to| {
        let to = text::path_template(to);
        to.map_err(|finding| findings.value(&at.key("to"), finding))
            .ok()
    });
    let (pattern, to) = (pattern?, to?);
    let offer = Offer {
        captures: pattern.groups(),
        prefix: false,
    };
    captures(&to, &at.key("to"), Level::Rule(offer), findings);
    Some(PathChange::Regex { pattern, to })
}
