//! What is wrong with a configuration, where, and what instead.

use std::ops::Range;

use serde::Serialize;

use crate::{SourceFile, places};

/// One mistake, or one warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable word for the kind: `unknown_key`, `wrong_type`, `syntax`, …; lints have their own.
    pub code: &'static str,
    /// The path of the object or key: `routes.app.rules[2].match.path`.
    pub at: String,
    /// What is wrong, for a person.
    pub what: String,
    /// What to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A request that shows it, for lints that have one: `GET http://a.example/x`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// Where it stands in a file, when it came from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Index into [`crate::Sources::files`].
    #[serde(skip)]
    pub file: usize,
    /// The path of the file as it was given.
    pub path: String,
    /// 1 is the first.
    pub line: usize,
    /// In characters; 1 is the first.
    pub column: usize,
    /// Bytes in the file.
    pub bytes: Range<usize>,
}

impl Place {
    /// The place of `bytes` in a file.
    pub(crate) fn of(index: usize, file: &SourceFile, bytes: Range<usize>) -> Self {
        Self::in_lines(index, file, bytes, &places::line_starts(&file.text))
    }

    /// The place of `bytes`, brought inside the text and onto character boundaries, in a file whose
    /// lines begin at `starts`.
    pub(crate) fn in_lines(
        index: usize,
        file: &SourceFile,
        bytes: Range<usize>,
        starts: &[usize],
    ) -> Self {
        let text = file.text.as_str();
        let start = text.floor_char_boundary(bytes.start);
        let end = text.ceil_char_boundary(bytes.end).max(start);
        let line = starts.partition_point(|line| *line <= start);
        let line_start = starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let column = text
            .get(line_start..start)
            .unwrap_or_default()
            .chars()
            .count();
        Self {
            file: index,
            path: file.path.display().to_string(),
            line,
            column: column.saturating_add(1),
            bytes: start..end,
        }
    }
}
