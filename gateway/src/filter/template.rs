//! Fills the holes of templates, for header values and for paths.
//!
//! What stands in a hole may come from anybody: a header value loses control characters, a path
//! gets everything escaped that could divide or end it.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Captures;
use sluice_config::model::{CertificatePart, Part, PathMatch, Template, TlsPart, Variable};

use super::Facts;

/// What may not stand in a path. Escapes are kept: the path was normalised or written by the
/// operator.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`');

/// What may not stand in a segment of a path when a stranger chose it.
const FOREIGN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Everything that holes are filled from.
pub(super) struct Filled<'a> {
    pub(super) facts: &'a Facts<'a>,
    headers: &'a HeaderMap,
}

impl<'a> Filled<'a> {
    pub(super) fn new(facts: &'a Facts<'a>, headers: &'a HeaderMap) -> Self {
        Self { facts, headers }
    }

    /// The template as a header value.
    pub(super) fn value(&self, template: &Template) -> HeaderValue {
        let mut text = self.text(template);
        text.retain(|character| !character.is_control() || character == '\t');
        // RFC 9110 §5.5: white space around a value is no part of it. Without control characters
        // every text is a header value.
        HeaderValue::from_bytes(text.trim_matches([' ', '\t']).as_bytes())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The template as it is: whoever calls this checks the result.
    pub(super) fn text(&self, template: &Template) -> String {
        let captures = self.captures(template);
        let mut text = String::new();
        for part in &template.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Variable(variable) => text.push_str(&self.variable(variable)),
                Part::Capture(number) => text.push_str(capture(captures.as_ref(), *number)),
            }
        }
        text
    }

    /// The template as a path; captures are those of the rule's own condition.
    pub(super) fn path(&self, template: &Template) -> String {
        self.path_with(template, self.captures(template).as_ref())
    }

    /// The template as a path: absolute, and without dot segments, however it was put together.
    pub(super) fn path_with(&self, template: &Template, captures: Option<&Captures<'_>>) -> String {
        let mut path = String::new();
        for part in &template.parts {
            match part {
                Part::Text(literal) => path.extend(utf8_percent_encode(literal, IN_PATH)),
                Part::Capture(number) => {
                    path.extend(utf8_percent_encode(capture(captures, *number), IN_PATH));
                }
                Part::Variable(Variable::RequestPath) => path.push_str(self.facts.path),
                Part::Variable(variable) => {
                    path.extend(utf8_percent_encode(&self.variable(variable), FOREIGN));
                }
            }
        }
        rooted(path)
    }

    /// Only templates that ask for captures pay for them.
    fn captures(&self, template: &Template) -> Option<Captures<'a>> {
        match self.facts.path_match {
            Some(PathMatch::Regex(pattern)) if template.highest_capture() > 0 => {
                pattern.regex().captures(self.facts.path)
            }
            _ => None,
        }
    }

    fn variable(&self, variable: &Variable) -> Cow<'_, str> {
        let Facts { downstream, .. } = self.facts;
        match variable {
            Variable::ClientIp => downstream.client.to_string().into(),
            Variable::ClientPort => downstream.connection.peer.port().to_string().into(),
            Variable::ClientCertificate(part) => self.certificate(*part),
            Variable::Tls(part) => {
                let session = downstream.connection.tls.as_ref();
                let value = session.and_then(|session| match part {
                    TlsPart::Version => Some(session.version),
                    TlsPart::Cipher => Some(session.cipher),
                    TlsPart::Sni => session.sni.as_deref(),
                });
                value.unwrap_or_default().into()
            }
            Variable::RequestId => downstream.request_id().into(),
            Variable::RequestMethod => self.facts.method.into(),
            Variable::RequestScheme => downstream.scheme.into(),
            Variable::RequestHost => self.facts.host.unwrap_or_default().into(),
            Variable::RequestPath => self.facts.path.into(),
            Variable::RequestQuery => self.facts.query.unwrap_or_default().into(),
            Variable::RequestHeader(name) => self.header(name.as_str()),
            Variable::Listener => self.facts.listener.into(),
            Variable::Route => self.facts.route.into(),
            Variable::Rule => self.facts.rule.into(),
            Variable::Upstream => self.facts.upstream.unwrap_or_default().into(),
        }
    }

    /// Of a certificate that was verified; a header that says the same is only what somebody says.
    fn certificate(&self, part: CertificatePart) -> Cow<'_, str> {
        let session = self.facts.downstream.connection.tls.as_ref();
        let Some(peer) = session.and_then(|session| session.peer.as_ref()) else {
            return Cow::default();
        };
        let facts = peer.facts();
        match part {
            CertificatePart::Subject => (&*facts.subject).into(),
            CertificatePart::Issuer => (&*facts.issuer).into(),
            CertificatePart::San => peer.name().unwrap_or_default().into(),
            CertificatePart::Serial => (&*facts.serial).into(),
            CertificatePart::Fingerprint => facts.fingerprint_hex().into(),
        }
    }

    fn header(&self, name: &str) -> Cow<'_, str> {
        let mut values = self
            .headers
            .get_all(name)
            .into_iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next().unwrap_or_default();
        values.fold(first, |joined, value| format!("{joined}, {value}").into())
    }
}

fn capture<'t>(captures: Option<&Captures<'t>>, number: usize) -> &'t str {
    captures
        .and_then(|captures| captures.get(number))
        .map_or("", |found| found.as_str())
}

/// Begins with `/` and has no dot segments; those that would leave the root are dropped, since a
/// rewrite has no one to refuse to.
pub(super) fn rooted(mut path: String) -> String {
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if !path.contains("/.") {
        return path;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if open || out.is_empty() {
        out.push('/');
    }
    out
}
