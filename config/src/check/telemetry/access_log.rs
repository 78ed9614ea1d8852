//! `[access_log]`

use std::time::Duration;

use crate::check::{Draft, nearest, single};
use crate::scalar::Scalars;
use crate::{
    findings::{Finding, Findings},
    model::{
        AccessLog, AccessLogOutput, LogField, LogFields, LogFilter, LogFormat, LogPart, StatusClass,
    },
    raw::{self, OneOrMany, StatusWord, TextOr},
    tree::{At, Node},
};

pub(in crate::check) fn check(root: &Node, findings: &mut Findings<'_>) -> Draft<AccessLog> {
    let at = At::Root.key("access_log");
    let raw: raw::AccessLog = single(root, "access_log", findings);
    let output = output(raw.output, &at.key("output"), findings);
    let format = format(raw.format.as_deref(), &at.key("format"), findings);
    let filter = filter(&raw.filter.unwrap_or_default(), &at.key("filter"), findings);
    let fields = fields(&raw.fields.unwrap_or_default(), &at.key("fields"), findings);
    let queue =
        Scalars { at, findings }.number("queue", raw.queue, 1..=1_000_000, AccessLog::QUEUE);
    Draft {
        object: Some(AccessLog {
            output,
            format,
            filter,
            fields,
            queue,
        }),
        clean: findings.is_clean(&at),
    }
}

fn output(
    raw: Option<TextOr<raw::AccessLogFile>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> AccessLogOutput {
    match raw {
        None => return AccessLogOutput::Stdout,
        Some(TextOr::Text(word)) => match word.as_str() {
            "stdout" => return AccessLogOutput::Stdout,
            "off" => return AccessLogOutput::Off,
            word => {
                let hint = nearest(["stdout", "off"], word)
                    .unwrap_or_else(|| format!("for a file write {{ file = {word:?} }}"));
                let what = format!("there is no output {word:?}, only \"stdout\" and \"off\"");
                findings.value(at, Finding::new("unknown_value", what).hint(hint));
            }
        },
        Some(TextOr::Table(raw::AccessLogFile { file: Some(file) })) => {
            if !file.is_empty() {
                return AccessLogOutput::File(file.into());
            }
            findings.value(
                &at.key("file"),
                Finding::new("bad_path", "the path is empty"),
            );
        }
        Some(TextOr::Table(raw::AccessLogFile { file: None })) => {
            findings.missing(
                at,
                "file",
                Finding::new("missing_key", "the output lacks its file"),
            );
        }
    }
    AccessLogOutput::Stdout
}

fn format(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> LogFormat {
    match raw {
        None | Some("json") => LogFormat::Json,
        Some("common") => LogFormat::Common,
        Some("combined") => LogFormat::Combined,
        Some(text) => parts(text).map_or_else(
            |finding| {
                findings.value(at, finding);
                LogFormat::Json
            },
            LogFormat::Parts,
        ),
    }
}

/// Reads a text with the names of fields in braces.
fn parts(text: &str) -> Result<Vec<LogPart>, Finding> {
    const FORMATS: [&str; 3] = ["json", "common", "combined"];

    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        if let Some(tail) = after.strip_prefix('{') {
            literal.push('{');
            rest = tail;
            continue;
        }
        let (name, tail) = after.split_once('}').ok_or_else(|| {
            let what = format!("the brace in {text:?} is not closed");
            Finding::new("bad_template", what).hint("write {{ for a literal brace")
        })?;
        if !literal.is_empty() {
            parts.push(LogPart::Text(std::mem::take(&mut literal)));
        }
        parts.push(LogPart::Field(field(name)?));
        rest = tail;
    }
    literal.push_str(rest);
    if literal.chars().any(char::is_control) {
        let what = "a line of the access log has no control characters";
        return Err(Finding::new("bad_template", what));
    }
    if parts.is_empty() {
        // A text without a single field is a slip, not a format.
        let hint = nearest(FORMATS, &literal).unwrap_or_else(|| {
            "write json, common, combined, or names of fields in braces: \"{status} {path}\"".into()
        });
        let what = format!("there is no format {literal:?}");
        return Err(Finding::new("unknown_value", what).hint(hint));
    }
    if !literal.is_empty() {
        parts.push(LogPart::Text(literal));
    }
    Ok(parts)
}

fn field(name: &str) -> Result<LogField, Finding> {
    LogField::new(name).ok_or_else(|| {
        let what = format!("the access log has no field {name:?}");
        let finding = Finding::new("unknown_value", what);
        match nearest(LogField::ALL.iter().map(|field| field.name()), name) {
            Some(hint) => finding.hint(hint),
            None => finding,
        }
    })
}

fn filter(raw: &raw::AccessLogFilter, at: &At<'_>, findings: &mut Findings<'_>) -> LogFilter {
    let mut status = Vec::new();
    if let Some(list) = &raw.status {
        let at = at.key("status");
        for (index, word) in list.as_slice().iter().enumerate() {
            if let Some(class) = class(word) {
                status.push(class);
                continue;
            }
            let what = match word {
                StatusWord::Number(number) => format!("{number} is no status"),
                StatusWord::Text(text) => format!("{text:?} is no class of statuses"),
            };
            let finding = Finding::new("bad_status", what);
            let hint = "a number from 100 to 599, or \"1xx\" to \"5xx\"";
            findings.value(&at.element(index, list.is_list()), finding.hint(hint));
        }
    }
    let range = Duration::ZERO..=LogFilter::LONGEST;
    let least = raw.min_duration.as_ref();
    let mut scalars = Scalars { at: *at, findings };
    LogFilter {
        status,
        min_duration: scalars.time("min_duration", least, range, Duration::ZERO),
    }
}

fn class(word: &StatusWord) -> Option<StatusClass> {
    match word {
        StatusWord::Number(number) => u16::try_from(*number)
            .ok()
            .filter(|status| (100..=599).contains(status))
            .map(StatusClass::One),
        StatusWord::Text(text) => {
            StatusClass::new(text).filter(|class| matches!(class, StatusClass::Class(_)))
        }
    }
}

fn fields(raw: &raw::AccessLogFields, at: &At<'_>, findings: &mut Findings<'_>) -> LogFields {
    let drop = names(raw.drop.as_ref(), &at.key("drop"), &[], findings);
    let redact = names(raw.redact.as_ref(), &at.key("redact"), &drop, findings);
    LogFields { drop, redact }
}

fn names(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    taken: &[LogField],
    findings: &mut Findings<'_>,
) -> Vec<LogField> {
    let mut names = Vec::new();
    let Some(list) = raw else {
        return names;
    };
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match field(name) {
            Ok(field) if names.contains(&field) || taken.contains(&field) => {
                let what = format!("the field {name:?} is named twice");
                findings.value(&at, Finding::new("duplicate_value", what));
            }
            Ok(field) => names.push(field),
            Err(finding) => findings.value(&at, finding),
        }
    }
    names
}
