//! Just enough of Rust's lexical structure to read imports and count lines honestly.
//!
//! Comments and literals are blanked before anything is searched, so that a word in a sentence is
//! never taken for code; items under `#[cfg(test)]` are taken out.

#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A Rust file, prepared for reading.
pub(crate) struct Source {
    /// Below the root of the workspace.
    pub(crate) path: PathBuf,
    /// As it is.
    pub(crate) text: String,
    /// Comments and literals blanked, items under `#[cfg(test)]` too; line for line as `text`.
    pub(crate) code: String,
    /// Lines outside `#[cfg(test)]`.
    pub(crate) lines: usize,
    /// The names of modules declared as `#[cfg(test)] mod name;`.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Reads `path`, which is below `root`.
    pub(crate) fn read(root: &Path, path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        Ok(Self::new(relative, text))
    }

    /// Prepares `text`.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let (code, hidden, test_modules) = without_tests(&blank(&text));
        let lines = text.lines().count().saturating_sub(hidden);
        Self {
            path: path.to_owned(),
            text,
            code,
            lines,
            test_modules,
        }
    }

    /// Whether the whole file is a test: `tests.rs`, or in a folder `tests`.
    pub(crate) fn is_test(&self) -> bool {
        is_test(&self.path)
    }
}

/// See [`Source::is_test`].
pub(crate) fn is_test(path: &Path) -> bool {
    let below_src = path
        .components()
        .skip_while(|part| part.as_os_str() != "src");
    path.file_name().is_some_and(|name| name == "tests.rs")
        || below_src
            .into_iter()
            .any(|part| part.as_os_str() == "tests")
}

/// Every Rust file below `folder`, in order; nothing where the folder does not exist.
pub(crate) fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        let entries =
            fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces comments, string, byte and character literals by blanks; line breaks stay.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0_usize;
    while let Some(&current) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        let previous = at.checked_sub(1).and_then(|before| chars.get(before));
        let in_word = previous.is_some_and(|c| is_word(*c));
        let length = match current {
            '/' => comment_length(rest),
            '"' => string_length(rest),
            'r' | 'b' | 'c' if !in_word => prefixed_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(current);
            at = at.saturating_add(1);
            continue;
        }
        let blanked = rest.iter().take(length);
        out.extend(blanked.map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = at.saturating_add(length);
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment that `rest` begins with, without its final line break.
fn comment_length(rest: &[char]) -> usize {
    match rest.get(1) {
        Some('/') => rest.iter().take_while(|c| **c != '\n').count(),
        Some('*') => {
            let mut depth = 0_usize;
            let mut at = 0_usize;
            while let Some(pair) = rest.get(at..at.saturating_add(2)) {
                match pair {
                    ['/', '*'] => depth = depth.saturating_add(1),
                    ['*', '/'] => depth = depth.saturating_sub(1),
                    _ => {
                        at = at.saturating_add(1);
                        continue;
                    }
                }
                at = at.saturating_add(2);
                if depth == 0 {
                    return at;
                }
            }
            rest.len()
        }
        _ => 0,
    }
}

/// The length of the string literal that `rest` begins with.
fn string_length(rest: &[char]) -> usize {
    let mut at = 1_usize;
    loop {
        match rest.get(at) {
            None => return rest.len(),
            Some('\\') => at = at.saturating_add(2),
            Some('"') => return at.saturating_add(1),
            Some(_) => at = at.saturating_add(1),
        }
    }
}

/// The length of a literal with a prefix: `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`, `c"…"`.
fn prefixed_length(rest: &[char]) -> usize {
    let prefix = rest.iter().take_while(|c| "rbc".contains(**c)).count();
    let hashes = rest.iter().skip(prefix).take_while(|c| **c == '#').count();
    let open = prefix.saturating_add(hashes);
    let raw = rest.iter().take(prefix).any(|c| *c == 'r');
    let tail = rest.get(open..).unwrap_or_default();
    let length = match tail.first() {
        Some('"') if raw => raw_length(tail, hashes),
        Some('"') if hashes == 0 => string_length(tail),
        Some('\'') if hashes == 0 && !raw => character_length(tail),
        _ => 0,
    };
    if length == 0 {
        0
    } else {
        open.saturating_add(length)
    }
}

/// The length of a raw string after its prefix and hashes, with the closing hashes.
fn raw_length(tail: &[char], hashes: usize) -> usize {
    let mut at = 1_usize;
    while let Some(c) = tail.get(at) {
        at = at.saturating_add(1);
        let closing = tail.get(at..at.saturating_add(hashes));
        if *c == '"' && closing.is_some_and(|closing| closing.iter().all(|c| *c == '#')) {
            return at.saturating_add(hashes);
        }
    }
    tail.len()
}

/// The length of a character literal; 0 for a lifetime.
fn character_length(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => {
            let close = rest.iter().skip(3).position(|c| *c == '\'');
            close.map_or(0, |close| close.saturating_add(4))
        }
        (Some(_), Some('\'')) => 3,
        _ => 0,
    }
}

/// Blanks every item under `#[cfg(test)]` of blanked code. Returns the rest, how many lines went,
/// and the names of modules that were only declared.
fn without_tests(code: &str) -> (String, usize, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut hidden = 0_usize;
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        let length = item_length(after);
        let (item, tail) = after.split_at_checked(length).unwrap_or((after, ""));
        if let Some(name) = item.trim().strip_suffix(';') {
            modules.extend(
                name.rsplit("mod ")
                    .next()
                    .map(|name| name.trim().to_owned()),
            );
        }
        let breaks = item.matches('\n').count();
        hidden = hidden.saturating_add(breaks).saturating_add(1);
        out.extend(item.chars().filter(|c| *c == '\n'));
        rest = tail;
    }
    out.push_str(rest);
    (out, hidden, modules)
}

/// The bytes of the item that `code` begins with: up to its `;`, or the end of its block.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth = depth.saturating_add(1),
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return at.saturating_add(1);
        }
    }
    code.len()
}

/// A word or a mark of Rust code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier or a number.
    Word(&'a str),
    /// `::`
    Colons,
    /// Any other character that is no blank.
    Mark(char),
}

/// Splits blanked code into tokens.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest.get(..end).unwrap_or_default()));
            end
        } else if rest.starts_with("::") {
            tokens.push(Token::Colons);
            2
        } else {
            tokens.push(Token::Mark(first));
            first.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens
}

/// Every path in `tokens` that begins with the word `start` and goes on with `::`: the words after
/// it, with groups unfolded. `crate::{a, b::{c, d as e}}` gives `a`, `b c` and `b d`.
pub(crate) fn paths<'a>(tokens: &[Token<'a>], start: &str) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut rest = tokens;
    let mut previous = None;
    while let Some((first, tail)) = rest.split_first() {
        if *first == Token::Word(start)
            && previous != Some(Token::Colons)
            && tail.first() == Some(&Token::Colons)
        {
            unfold(tail.get(1..).unwrap_or_default(), &[], &mut found);
        }
        previous = Some(*first);
        rest = tail;
    }
    found
}

/// Reads one use tree; returns what stands behind it.
fn unfold<'a, 't>(
    tokens: &'t [Token<'a>],
    prefix: &[&'a str],
    found: &mut Vec<Vec<&'a str>>,
) -> &'t [Token<'a>] {
    let mut path = prefix.to_vec();
    let mut rest = tokens;
    loop {
        match rest {
            [Token::Mark('{'), tail @ ..] => {
                rest = tail;
                while let Some(first) = rest.first() {
                    match first {
                        Token::Mark('}') => return rest.get(1..).unwrap_or_default(),
                        Token::Mark(',') => rest = rest.get(1..).unwrap_or_default(),
                        Token::Word("as") => rest = rest.get(2..).unwrap_or_default(),
                        Token::Word(_) | Token::Mark('*' | '{') => {
                            rest = unfold(rest, &path, found);
                        }
                        _ => return rest,
                    }
                }
                return rest;
            }
            [Token::Word(word), Token::Colons, tail @ ..] => {
                path.push(word);
                rest = tail;
            }
            [Token::Word(word), tail @ ..] => {
                if *word != "self" {
                    path.push(word);
                }
                found.push(path);
                return tail;
            }
            [Token::Mark('*'), tail @ ..] => {
                found.push(path);
                return tail;
            }
            _ => {
                found.push(path);
                return rest;
            }
        }
    }
}
