//! Paths: where in the configuration something stands, `routes.app.rules[0].match`.

use std::fmt::{self, Write as _};

/// A path, built on the stack while the check walks down.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    /// The top.
    Root,
    /// A key of a table.
    Key(&'a At<'a>, &'a str),
    /// An element of a list.
    Index(&'a At<'a>, usize),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Segment {
    /// Into a table.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl<'a> At<'a> {
    /// One key further down.
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    /// One element further down.
    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// One element further down where the value is written as a list, else the value itself.
    pub(crate) fn element(&'a self, index: usize, is_list: bool) -> Self {
        if is_list { self.index(index) } else { *self }
    }

    /// The steps from the top.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        match self {
            Self::Root => Vec::new(),
            Self::Key(above, key) => {
                let mut path = above.segments();
                path.push(Segment::Key((*key).to_owned()));
                path
            }
            Self::Index(above, index) => {
                let mut path = above.segments();
                path.push(Segment::Index(*index));
                path
            }
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.segments()))
    }
}

/// The path as text. A key that TOML would want in quotes has them.
fn text(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        let dot = if text.is_empty() { "" } else { "." };
        // A string takes whatever is written to it.
        let _written = match segment {
            Segment::Index(index) => write!(text, "[{index}]"),
            Segment::Key(key) if is_bare(key) => write!(text, "{dot}{key}"),
            Segment::Key(key) => write!(text, "{dot}{key:?}"),
        };
    }
    text
}

fn is_bare(key: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !key.is_empty() && key.chars().all(bare)
}

impl Segment {
    /// The path as text.
    pub(crate) fn text(path: &[Self]) -> String {
        text(path)
    }
}
