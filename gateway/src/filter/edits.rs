//! Edits of headers: remove, then set, then add.

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_config::model::{self, HeaderEdits, Part, Template, Variable};

use super::template::Filled;

/// What decides how a message is framed or routed; an edit of these would make two readers
/// disagree, so it has no effect. The check warns before it comes to that.
const UNTOUCHABLE: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Compiled [`HeaderEdits`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Edits {
    remove: Vec<HeaderName>,
    /// The names to set, then those to add.
    set: Vec<HeaderName>,
    add: Vec<HeaderName>,
    /// In the order of `set`, then `add`.
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Literal(HeaderValue),
    Template(Template),
}

impl Edits {
    pub(super) fn compile(edits: Option<&HeaderEdits>) -> Self {
        let Some(edits) = edits else {
            return Self::default();
        };
        let (set, mut values): (_, Vec<Value>) = edits.set.iter().filter_map(pair).unzip();
        let (add, added): (_, Vec<Value>) = edits.add.iter().filter_map(pair).unzip();
        values.extend(added);
        Self {
            remove: edits.remove.iter().filter_map(name).collect(),
            set,
            add,
            values,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.values.is_empty()
    }

    /// Every value, before any header is changed.
    pub(super) fn render(&self, filled: &Filled<'_>) -> Vec<HeaderValue> {
        let value = |value: &Value| match value {
            Value::Literal(value) => value.clone(),
            Value::Template(template) => filled.value(template),
        };
        self.values.iter().map(value).collect()
    }

    /// `values` is what [`Edits::render`] gave.
    pub(super) fn apply(&self, values: Vec<HeaderValue>, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut values = values.into_iter();
        for (name, value) in self.set.iter().zip(values.by_ref()) {
            headers.insert(name, value);
        }
        for (name, value) in self.add.iter().zip(values) {
            headers.append(name, value);
        }
    }
}

/// The request headers that the templates of `edits` speak of.
pub(super) fn wanted(edits: &HeaderEdits) -> Vec<HeaderName> {
    let parts = edits
        .set
        .iter()
        .chain(&edits.add)
        .flat_map(|(_, template)| &template.parts);
    let mut names: Vec<HeaderName> = parts
        .filter_map(|part| match part {
            Part::Variable(Variable::RequestHeader(name)) => name.as_str().parse().ok(),
            Part::Text(_) | Part::Variable(_) | Part::Capture(_) => None,
        })
        .collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

fn name(name: &model::HeaderName) -> Option<HeaderName> {
    let touchable = !UNTOUCHABLE.contains(&name.as_str());
    touchable.then(|| name.as_str().parse().ok()).flatten()
}

fn pair((written, template): &(model::HeaderName, Template)) -> Option<(HeaderName, Value)> {
    let literal = template
        .as_literal()
        .and_then(|text| HeaderValue::from_str(text).ok());
    let value = literal.map_or_else(|| Value::Template(template.clone()), Value::Literal);
    Some((name(written)?, value))
}
