//! One layout for configuration files. Comments and the spelling of values are kept, and what a
//! file says does not change; formatting twice is formatting once.
//!
//! No indentation, one space around `=`, one empty line before a table and at most one elsewhere,
//! lists on one line where they fit into 100 characters and hold no comment.

use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, KeyMut, RawString, Table, Value};

use crate::{Place, Problem, SourceFile, sources::Form};

/// The longest line that a list may make.
const WIDTH: usize = 100;

/// What a list is indented by, per level.
const INDENT: &str = "    ";

/// Lays `text` out. A file with a syntax error is refused.
#[expect(
    clippy::result_large_err,
    reason = "once per file, and callers want the problem itself"
)]
pub fn format(text: &str) -> Result<String, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document: DocumentMut = text.parse().map_err(|error| refusal(text, &error))?;
    let trailing = own_lines(Some(document.trailing()));
    document.set_trailing("");
    let mut first = true;
    table(document.as_table_mut(), &mut first);
    let mut out = document.to_string();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str(trailing.trim_end_matches('\n'));
    let out = out.trim_matches('\n');
    if out.is_empty() {
        Ok(String::new())
    } else {
        Ok(out.to_owned() + "\n")
    }
}

fn refusal(text: &str, error: &toml_edit::TomlError) -> Problem {
    let file = SourceFile {
        path: "".into(),
        text: text.to_owned(),
        form: Form::Toml,
    };
    Problem {
        code: "syntax",
        at: String::new(),
        what: error.message().to_owned(),
        hint: None,
        witness: None,
        place: error.span().map(|span| Place::of(0, &file, span)),
    }
}

/// The comment lines of a piece of white space, without indentation, with single empty lines
/// between them, and whether one stands first and last.
fn own_lines(raw: Option<&RawString>) -> String {
    let text = raw.and_then(RawString::as_str).unwrap_or_default();
    let mut lines = String::new();
    let mut empty = false;
    for line in text.split_inclusive('\n') {
        let comment = line.trim();
        if comment.is_empty() {
            empty |= line.ends_with('\n');
            continue;
        }
        if std::mem::take(&mut empty) {
            lines.push('\n');
        }
        lines.push_str(comment);
        lines.push('\n');
    }
    if empty {
        lines.push('\n');
    }
    lines
}

/// The comment after something, on its line.
fn same_line(raw: Option<&RawString>) -> String {
    let text = raw.and_then(RawString::as_str).unwrap_or_default().trim();
    if text.starts_with('#') {
        format!(" {text}")
    } else {
        String::new()
    }
}

fn has_comment(raw: Option<&RawString>) -> bool {
    raw.and_then(RawString::as_str)
        .is_some_and(|text| text.contains('#'))
}

/// `first`: nothing stands above yet.
fn table(table: &mut Table, first: &mut bool) {
    entries(table, first);
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Table(inner) if !inner.is_dotted() => {
                clear_key(&mut key);
                header(inner, first);
                self::table(inner, first);
            }
            // Dotted keys have been laid out; a table may stand below one of them.
            Item::Table(inner) => below_dotted(inner, first),
            Item::ArrayOfTables(tables) => {
                clear_key(&mut key);
                for inner in tables.iter_mut() {
                    header(inner, first);
                    self::table(inner, first);
                }
            }
            Item::None | Item::Value(_) => {}
        }
    }
}

fn below_dotted(table: &mut Table, first: &mut bool) {
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Table(inner) if inner.is_dotted() => below_dotted(inner, first),
            Item::Table(inner) => {
                clear_key(&mut key);
                header(inner, first);
                self::table(inner, first);
            }
            Item::ArrayOfTables(_) | Item::None | Item::Value(_) => {}
        }
    }
}

fn clear_key(key: &mut KeyMut<'_>) {
    key.leaf_decor_mut().clear();
    key.dotted_decor_mut().clear();
}

/// One empty line above a header and its comments.
fn header(table: &mut Table, first: &mut bool) {
    if table.is_implicit() {
        return;
    }
    let decor = table.decor_mut();
    let comments = own_lines(decor.prefix());
    let comments = comments.trim_start_matches('\n');
    let above = if std::mem::take(first) { "" } else { "\n" };
    let suffix = same_line(decor.suffix());
    *decor = Decor::new(format!("{above}{comments}"), suffix);
}

/// The keys of a table, also dotted ones.
fn entries(table: &mut Table, first: &mut bool) {
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Value(value) => {
                key.dotted_decor_mut().clear();
                let above = own_lines(key.leaf_decor().prefix());
                let above = if std::mem::take(first) {
                    above.trim_start_matches('\n')
                } else {
                    &above
                };
                *key.leaf_decor_mut() = Decor::new(above, " ");
                let suffix = same_line(value.decor().suffix());
                let used = key.get().len().saturating_add(3);
                lay_out(value, 0, used);
                *value.decor_mut() = Decor::new(" ", suffix);
            }
            Item::Table(inner) if inner.is_dotted() => {
                key.dotted_decor_mut().clear();
                key.leaf_decor_mut().clear();
                entries(inner, first);
            }
            Item::Table(_) | Item::ArrayOfTables(_) | Item::None => {}
        }
    }
}

/// Lays a value out that begins `used` characters into a line of a list `depth` levels deep.
fn lay_out(value: &mut Value, depth: usize, used: usize) {
    match value {
        Value::Array(array) => list(array, depth, used),
        Value::InlineTable(table) => inline(table, depth, used),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

fn list(array: &mut Array, depth: usize, used: usize) {
    let commented = has_comment(Some(array.trailing()))
        || array.iter().any(|value| {
            has_comment(value.decor().prefix()) || has_comment(value.decor().suffix())
        });
    if !commented {
        let mut flat = array.clone();
        for (index, value) in flat.iter_mut().enumerate() {
            lay_out(value, depth.saturating_add(1), 0);
            *value.decor_mut() = Decor::new(if index == 0 { "" } else { " " }, "");
        }
        flat.set_trailing("");
        flat.set_trailing_comma(false);
        *flat.decor_mut() = Decor::new("", "");
        let line = flat.to_string();
        let fits = !line.contains('\n') && used.saturating_add(line.chars().count()) <= WIDTH;
        if fits || array.is_empty() {
            *array = flat;
            return;
        }
    }
    let inner = INDENT.repeat(depth.saturating_add(1));
    // A comment after a comma belongs to the element before it, but stands with the next one.
    for value in array.iter_mut() {
        let above = lines_in_list(value.decor().prefix(), &inner);
        let after = lines_in_list(value.decor().suffix(), &inner);
        lay_out(
            value,
            depth.saturating_add(1),
            inner.len().saturating_add(1),
        );
        let after = if after.contains('#') {
            format!("{after}\n{inner}")
        } else {
            String::new()
        };
        *value.decor_mut() = Decor::new(format!("{above}\n{inner}"), after);
    }
    let trailing = lines_in_list(Some(array.trailing()), &inner);
    array.set_trailing(format!("{trailing}\n{}", INDENT.repeat(depth)));
    array.set_trailing_comma(!array.is_empty());
}

/// Comments in a list: the one that stands behind something stays there, the others get lines.
fn lines_in_list(raw: Option<&RawString>, indent: &str) -> String {
    let text = raw.and_then(RawString::as_str).unwrap_or_default();
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        let comment = line.trim();
        if comment.starts_with('#') {
            if index == 0 {
                out.push(' ');
            } else {
                out.push('\n');
                out.push_str(indent);
            }
            out.push_str(comment);
        }
    }
    out
}

fn inline(table: &mut InlineTable, depth: usize, used: usize) {
    if commented(table) {
        // Comments inside braces are new in TOML and rare: such a table stays as it is written.
        return;
    }
    let last = table.get_values().len();
    let mut position = 0;
    inline_entries(table, depth, used, last, &mut position);
    table.set_trailing("");
    table.set_trailing_comma(false);
}

fn inline_entries(
    table: &mut InlineTable,
    depth: usize,
    used: usize,
    last: usize,
    position: &mut usize,
) {
    for (mut key, value) in table.iter_mut() {
        key.dotted_decor_mut().clear();
        if let Value::InlineTable(inner) = value
            && inner.is_dotted()
        {
            key.leaf_decor_mut().clear();
            inline_entries(inner, depth, used, last, position);
            continue;
        }
        *position = position.saturating_add(1);
        *key.leaf_decor_mut() = Decor::new(" ", " ");
        lay_out(value, depth, used);
        *value.decor_mut() = Decor::new(" ", if *position == last { " " } else { "" });
    }
}

fn commented(table: &InlineTable) -> bool {
    has_comment(Some(table.trailing()))
        || table.get_values().iter().any(|(path, value)| {
            path.iter().any(|key| {
                [key.leaf_decor(), key.dotted_decor()]
                    .iter()
                    .any(|decor| has_comment(decor.prefix()) || has_comment(decor.suffix()))
            }) || has_comment(value.decor().prefix())
                || has_comment(value.decor().suffix())
        })
}
