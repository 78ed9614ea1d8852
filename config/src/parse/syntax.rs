//! Syntax errors: the parser's words, and what they usually mean.

use std::ops::Range;

/// One syntax error.
pub(super) struct SyntaxError<'m> {
    message: &'m str,
    span: Range<usize>,
    /// What is not to be believed because of it: whole lines.
    pub(super) lines: Range<usize>,
}

/// A syntax error as a person is told.
pub(super) struct Described {
    /// The kind.
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) what: String,
    /// What instead.
    pub(super) hint: Option<String>,
    /// What is underlined.
    pub(super) span: Range<usize>,
}

/// One error per line, and one for a list that nobody closed: the parser takes everything after it
/// for elements and complains about each.
pub(super) fn settle<'m>(text: &str, errors: Vec<(Range<usize>, &'m str)>) -> Vec<SyntaxError<'m>> {
    let errors = errors.into_iter().map(|(span, message)| SyntaxError {
        message,
        lines: lines(text, &span),
        span,
    });
    let mut errors: Vec<SyntaxError<'m>> = errors.collect();
    errors.sort_by_key(|error| error.span.start);
    let unclosed = errors
        .iter()
        .rfind(|error| error.message.starts_with("unclosed array"));
    if let Some((message, end)) = unclosed.map(|error| (error.message, error.lines.end)) {
        let first = errors
            .iter_mut()
            .find(|error| error.message.contains("array"));
        if let Some(error) = first {
            error.message = message;
            error.lines.end = error.lines.end.max(end);
        }
    }
    let mut damaged: Option<Range<usize>> = None;
    errors.retain(|error| {
        let inside = damaged
            .as_ref()
            .is_some_and(|damaged| error.lines.start < damaged.end);
        let twice = error.message == "duplicate key" && damaged.as_ref() == Some(&error.lines);
        if !inside {
            damaged = Some(error.lines.clone());
        }
        !inside || twice
    });
    errors
}

impl SyntaxError<'_> {
    /// What to tell about it.
    pub(super) fn describe(&self, text: &str) -> Described {
        let word = text.get(self.span.clone()).unwrap_or_default().trim();
        if self.message == "duplicate key" {
            return Described {
                code: "duplicate_key",
                what: format!("{word:?} is written twice in the same table"),
                hint: Some("keep one of them".to_owned()),
                span: self.span.clone(),
            };
        }
        let what = self.message;
        let what = what
            .split_once(", expected literal")
            .map_or(what, |(what, _)| what);
        let kinds = ["float", "integer", "number", "boolean", "date", "time"];
        let unquoted = what.starts_with("string values must be quoted")
            || kinds
                .iter()
                .any(|kind| what.starts_with("invalid") && what.contains(kind));
        let span = if unquoted {
            bare(text, &self.span)
        } else {
            visible(text, self.span.clone())
        };
        let word = text.get(span.clone()).unwrap_or_default();
        let (what, hint) = if unquoted && !word.is_empty() {
            (
                format!("{word} is no value; strings stand in quotes"),
                Some(format!("write \"{word}\"")),
            )
        } else {
            (what.to_owned(), None)
        };
        Described {
            code: "syntax",
            what,
            hint,
            span,
        }
    }
}

/// The whole word without quotes that an error is in.
fn bare(text: &str, span: &Range<usize>) -> Range<usize> {
    let ends = |c: char| c.is_whitespace() || "=[]{},#\"'".contains(c);
    let start = text.floor_char_boundary(span.start);
    let before = text.get(..start).unwrap_or_default();
    let from = before.trim_end_matches(|c| !ends(c)).len();
    let end = text.ceil_char_boundary(span.end).max(start);
    let after = text.get(end..).unwrap_or_default();
    from..end.saturating_add(after.find(ends).unwrap_or(after.len()))
}

/// The whole lines around a span.
pub(super) fn lines(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end).max(start);
    let before = text.get(..start).unwrap_or_default();
    let from = before
        .rfind('\n')
        .map_or(0, |newline| newline.saturating_add(1));
    let after = text.get(end..).unwrap_or_default();
    from..after
        .find('\n')
        .map_or(text.len(), |newline| end.saturating_add(newline))
}

/// An empty span at the end of a line underlines the character before it.
fn visible(text: &str, span: Range<usize>) -> Range<usize> {
    if span.start < span.end || span.start == 0 {
        return span;
    }
    let before = text
        .get(..text.floor_char_boundary(span.start))
        .unwrap_or_default();
    match before.trim_end().len() {
        0 => span,
        end => text.floor_char_boundary(end.saturating_sub(1))..end,
    }
}
