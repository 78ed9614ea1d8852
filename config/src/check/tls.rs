//! What TLS needs: certificates, and the keys of listeners, routes and upstreams; and what holds between these.

pub(super) mod acme;
mod acme_dns;
pub(super) mod certificate;
pub(super) mod client;
pub(super) mod coverage;
pub(super) mod listener;
pub(super) mod storage;
pub(super) mod upstream;

use std::path::PathBuf;

use crate::{
    findings::{Finding, Findings},
    model::{Secret, SecretText},
    raw::OneOrMany,
    tree::At,
};

/// A file that is named at `at`.
pub(super) fn file(text: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<PathBuf> {
    if text.is_empty() {
        findings.value(at, Finding::new("bad_path", "the path is empty"));
        return None;
    }
    Some(findings.path(at, text))
}

/// Files that are named at `at`.
pub(super) fn files(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<PathBuf> {
    let Some(list) = raw else {
        return Vec::new();
    };
    let each = list.as_slice().iter().enumerate();
    each.filter_map(|(index, text)| file(text, &at.element(index, list.is_list()), findings))
        .collect()
}

/// A secret: the text itself, or `file:` and the path of the file that holds it.
pub(super) fn secret(text: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<SecretText> {
    match text.strip_prefix("file:") {
        Some(path) => file(path, at, findings).map(SecretText::File),
        None => Some(SecretText::Text(Secret::new(text))),
    }
}
