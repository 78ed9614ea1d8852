//! From texts to one tree: every syntax error of every file, places kept, directories merged.
//!
//! Objects are only added: the same name twice is an error that names both places, and so is a
//! singleton that stands in two files. What a damaged file still says is used, so that its other
//! mistakes and its names are known; what is on a damaged line is not believed.

mod syntax;

use std::{collections::HashMap, ops::Range};

use toml::de::{DeTable, DeValue};

use crate::{
    Place, Problem, SourceFile, Sources,
    sources::Form,
    tree::{Node, Spot, Value},
};

/// The tables whose entries are objects, which several files may add to.
pub(crate) const KINDS: [&str; 6] = [
    "listeners",
    "routes",
    "certificates",
    "acme",
    "upstreams",
    "filters",
];

/// Everything that was written, as one tree.
#[derive(Debug)]
pub(crate) struct Document {
    /// The top-level table.
    pub(crate) root: Node,
    /// Syntax errors and collisions of names.
    pub(crate) problems: Vec<Problem>,
    /// Lines of files that have a syntax error.
    pub(crate) damage: Vec<Damage>,
}

/// A place where a file cannot be read as TOML.
#[derive(Debug)]
pub(crate) struct Damage {
    /// Index into the sources' files.
    pub(crate) file: usize,
    /// Its bytes, whole lines.
    pub(crate) lines: Range<usize>,
}

/// Parses and merges every source.
pub(crate) fn parse(sources: &Sources) -> Document {
    let mut document = Document {
        root: Node::empty(),
        problems: Vec::new(),
        damage: Vec::new(),
    };
    let mut root: Vec<(String, Node)> = Vec::new();
    let mut merge = Merge::default();
    for (index, file) in sources.files.iter().enumerate() {
        let parsed = match file.form {
            Form::Toml => toml(index, file, &mut document),
            Form::Json => json(index, file, &mut document),
            Form::Unreadable => {
                document.damage.push(Damage {
                    file: index,
                    lines: 0..file.text.len(),
                });
                continue;
            }
        };
        merge.add(&mut root, parsed, &sources.files, &mut document.problems);
    }
    document.root.value = Value::Table(root);
    document
}

fn toml(index: usize, file: &SourceFile, document: &mut Document) -> Vec<(String, Node)> {
    // Editors of other systems put a byte order mark at the start; it means nothing in UTF-8.
    let mark = if file.text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let (table, errors) = DeTable::parse_recoverable(file.text.get(mark..).unwrap_or_default());
    let errors = errors.iter().map(|error| {
        let span = error.span().unwrap_or_default();
        (shift(&span, mark), error.message())
    });
    for error in syntax::settle(&file.text, errors.collect()) {
        let found = error.describe(&file.text);
        document.damage.push(Damage {
            file: index,
            lines: error.lines,
        });
        document.problems.push(Problem {
            code: found.code,
            at: String::new(),
            what: found.what,
            hint: found.hint,
            witness: None,
            place: Some(Place::of(index, file, found.span)),
        });
    }
    let mut walk = Walk {
        file: index,
        mark,
        huge: Vec::new(),
    };
    let entries = walk.table(table.into_inner());
    for span in walk.huge {
        // The number that stands for it would be reported again.
        document.damage.push(Damage {
            file: index,
            lines: syntax::lines(&file.text, &span),
        });
        document.problems.push(Problem {
            code: "out_of_range",
            at: String::new(),
            what: "this number has more than 64 bits".to_owned(),
            hint: None,
            witness: None,
            place: Some(Place::of(index, file, span)),
        });
    }
    entries
}

fn shift(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start.saturating_add(by)..span.end.saturating_add(by)
}

/// Turns the parser's values into ours.
struct Walk {
    file: usize,
    mark: usize,
    huge: Vec<Range<usize>>,
}

impl Walk {
    fn table(&mut self, table: DeTable<'_>) -> Vec<(String, Node)> {
        let mut entries: Vec<_> = table.into_iter().collect();
        // The order written: header edits are applied in it.
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let key_span = shift(&key.span(), self.mark);
            let span = shift(&value.span(), self.mark);
            let node = self.node(value.into_inner(), span, Some(key_span));
            (key.into_inner().into_owned(), node)
        });
        entries.collect()
    }

    fn node(&mut self, value: DeValue<'_>, span: Range<usize>, key: Option<Range<usize>>) -> Node {
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(number.unwrap_or_else(|_| {
                    self.huge.push(span.clone());
                    i64::MAX
                }))
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| {
                    let span = shift(&item.span(), self.mark);
                    self.node(item.into_inner(), span, None)
                });
                Value::List(items.collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node {
            value,
            spot: Some(Spot {
                file: self.file,
                key,
                value: span,
            }),
        }
    }
}

fn json(index: usize, file: &SourceFile, document: &mut Document) -> Vec<(String, Node)> {
    let (line, column, what) = match serde_json::from_str::<serde_json::Value>(&file.text) {
        Ok(value) => match Node::from(value).value {
            Value::Table(entries) => return entries,
            _ => (1, 1, "the top of the document is no object".to_owned()),
        },
        Err(error) => (error.line(), error.column(), error.to_string()),
    };
    let before = file.text.split_inclusive('\n').take(line.saturating_sub(1));
    let start = before.map(str::len).sum::<usize>();
    let start = start
        .saturating_add(column.saturating_sub(1))
        .min(file.text.len());
    document.damage.push(Damage {
        file: index,
        lines: 0..file.text.len(),
    });
    document.problems.push(Problem {
        code: "syntax",
        at: String::new(),
        what,
        hint: None,
        witness: None,
        place: Some(Place::of(index, file, start..start)),
    });
    Vec::new()
}

/// Where names stand that are already taken.
#[derive(Default)]
struct Merge {
    taken: HashMap<(String, String), usize>,
}

impl Merge {
    fn add(
        &mut self,
        root: &mut Vec<(String, Node)>,
        entries: Vec<(String, Node)>,
        files: &[SourceFile],
        problems: &mut Vec<Problem>,
    ) {
        for (key, node) in entries {
            let Some((_, there)) = root.iter_mut().find(|(taken, _)| *taken == key) else {
                self.remember(&key, &node, 0);
                root.push((key, node));
                continue;
            };
            match (&mut there.value, node.value) {
                (Value::Table(old), Value::Table(new)) if KINDS.contains(&key.as_str()) => {
                    for (name, object) in new {
                        let position = self.taken.get(&(key.clone(), name.clone()));
                        if let Some((_, first)) = position.and_then(|at| old.get(*at)) {
                            let at = format!("{key}.{name}");
                            problems.push(twice(&at, first, &object, files));
                        } else {
                            self.taken.insert((key.clone(), name.clone()), old.len());
                            old.push((name, object));
                        }
                    }
                }
                (_, value) => {
                    let second = Node {
                        value,
                        spot: node.spot,
                    };
                    problems.push(twice(&key, there, &second, files));
                }
            }
        }
    }

    fn remember(&mut self, kind: &str, node: &Node, from: usize) {
        if let Value::Table(objects) = &node.value {
            for (position, (name, _)) in objects.iter().enumerate().skip(from) {
                self.taken.insert((kind.to_owned(), name.clone()), position);
            }
        }
    }
}

fn twice(at: &str, first: &Node, second: &Node, files: &[SourceFile]) -> Problem {
    let place = |node: &Node| {
        let spot = node.spot.as_ref()?;
        let bytes = spot.key.clone().unwrap_or_else(|| spot.value.clone());
        Some(Place::of(spot.file, files.get(spot.file)?, bytes))
    };
    let other = place(first).map_or_else(
        || "elsewhere".to_owned(),
        |place| format!("at {}:{}:{}", place.path, place.line, place.column),
    );
    Problem {
        code: "duplicate_name",
        at: at.to_owned(),
        what: format!("{at} is already written {other}"),
        hint: Some("files only add to each other: remove or rename one of the two".to_owned()),
        witness: None,
        place: place(second),
    }
}
