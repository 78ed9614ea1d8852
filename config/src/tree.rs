//! Values as they were written, each with the place it was written at.
//!
//! TOML of files and JSON of the wire become the same tree; only the former has places. Whoever
//! knows the path of a value ([`At`]) finds its place here, so `raw` types need no spans.

mod at;
mod deserialize;

use std::ops::Range;

pub(crate) use at::{At, Segment};
pub(crate) use deserialize::DecodeError;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What was written.
    pub(crate) value: Value,
    /// Where; none for what came over the wire.
    pub(crate) spot: Option<Spot>,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Index into the sources' files.
    pub(crate) file: usize,
    /// The key, for values of tables.
    pub(crate) key: Option<Range<usize>>,
    /// The value.
    pub(crate) value: Range<usize>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date or time, which no key takes.
    Date(String),
    /// Values in order.
    List(Vec<Node>),
    /// Keys in the order written.
    Table(Vec<(String, Node)>),
    /// It was refused and reported, and counts as not written from then on.
    Absent,
}

/// Which part of an entry a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The key: unknown, misplaced, or the name of an object that lacks something.
    Key,
    /// The value.
    Value,
}

impl Node {
    /// An empty table without a place.
    pub(crate) fn empty() -> Self {
        Self {
            value: Value::Table(Vec::new()),
            spot: None,
        }
    }

    /// The entry of a table.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// One step down. A table written where a list of tables may stand is its own first element.
    pub(crate) fn step(&self, segment: &Segment) -> Option<&Self> {
        match (segment, &self.value) {
            (Segment::Key(key), _) => self.get(key),
            (Segment::Index(index), Value::List(items)) => items.get(*index),
            (Segment::Index(0), _) => Some(self),
            (Segment::Index(_), _) => None,
        }
    }

    /// As [`Self::step`], to change it.
    pub(crate) fn step_mut(&mut self, segment: &Segment) -> Option<&mut Self> {
        match (segment, &mut self.value) {
            (Segment::Key(key), Value::Table(entries)) => entries
                .iter_mut()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            (Segment::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// The node at `path`, or the deepest one above it that exists, with what was left of the path.
    pub(crate) fn nearest(&self, path: &[Segment]) -> (&Self, usize) {
        let mut node = self;
        for (depth, segment) in path.iter().enumerate() {
            match node.step(segment) {
                Some(next) => node = next,
                None => return (node, path.len().saturating_sub(depth)),
            }
        }
        (node, 0)
    }

    /// Reads a path as text against the keys that are there, so that names with dots need no quotes.
    pub(crate) fn path_of(&self, text: &str) -> Vec<Segment> {
        let mut path = Vec::new();
        let mut node = self;
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let Some((segment, left)) = node.first_segment(rest) else {
                break;
            };
            let Some(next) = node.step(&segment) else {
                break;
            };
            path.push(segment);
            node = next;
            rest = left;
        }
        path
    }

    fn first_segment<'t>(&self, text: &'t str) -> Option<(Segment, &'t str)> {
        if let Some(rest) = text.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            return Some((Segment::Index(index.parse().ok()?), rest));
        }
        let Value::Table(entries) = &self.value else {
            return None;
        };
        let ends = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let quoted = text.starts_with('"');
        entries
            .iter()
            .filter_map(|(key, _)| {
                let rest = if quoted {
                    text.strip_prefix(&format!("{key:?}"))
                } else {
                    text.strip_prefix(key.as_str())
                };
                let rest = rest.filter(|rest| ends(rest))?;
                Some((Segment::Key(key.clone()), rest))
            })
            .min_by_key(|(_, rest)| rest.len())
    }
}

impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;

        let value = match json {
            Json::Null => Value::Absent,
            Json::Bool(value) => Value::Boolean(value),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                let entries = entries.into_iter();
                Value::Table(entries.map(|(key, value)| (key, value.into())).collect())
            }
        };
        Self { value, spot: None }
    }
}
