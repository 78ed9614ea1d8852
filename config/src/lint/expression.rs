//! What a regular expression can admit, read from its structure.

use std::borrow::Cow;

use regex_syntax::hir::{Class, Hir, HirKind, literal::Extractor};

use crate::model::{PathMatch, Pattern};

/// Whether the expression admits no text that begins with `/`. Errs towards `false`.
pub(super) fn never_begins_with_slash(pattern: &Pattern) -> bool {
    regex_syntax::parse(pattern.as_str()).is_ok_and(|hir| !begin(&hir).slash || is_impossible(&hir))
}

/// How texts of an expression can begin.
#[derive(Clone, Copy)]
struct Begin {
    /// With `/`.
    slash: bool,
    /// Not at all: the empty text is one of them.
    empty: bool,
}

fn begin(hir: &Hir) -> Begin {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Begin {
            slash: false,
            empty: true,
        },
        HirKind::Literal(literal) => Begin {
            slash: literal.0.first() == Some(&b'/'),
            empty: literal.0.is_empty(),
        },
        HirKind::Class(class) => Begin {
            slash: contains(class, '/'),
            empty: false,
        },
        HirKind::Repetition(repetition) => {
            let inner = begin(&repetition.sub);
            Begin {
                slash: inner.slash && repetition.max != Some(0),
                empty: inner.empty || repetition.min == 0,
            }
        }
        HirKind::Capture(capture) => begin(&capture.sub),
        HirKind::Concat(parts) => {
            let mut whole = Begin {
                slash: false,
                empty: true,
            };
            for part in parts {
                if !whole.empty {
                    break;
                }
                let next = begin(part);
                whole = Begin {
                    slash: whole.slash || next.slash,
                    empty: next.empty,
                };
            }
            whole
        }
        HirKind::Alternation(branches) => branches.iter().map(begin).fold(
            Begin {
                slash: false,
                empty: false,
            },
            |a, b| Begin {
                slash: a.slash || b.slash,
                empty: a.empty || b.empty,
            },
        ),
    }
}

/// Whether the expression admits nothing at all. Errs towards `false`.
fn is_impossible(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => class.ranges().is_empty(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().is_empty(),
        HirKind::Repetition(repetition) => repetition.min > 0 && is_impossible(&repetition.sub),
        HirKind::Capture(capture) => is_impossible(&capture.sub),
        HirKind::Concat(parts) => parts.iter().any(is_impossible),
        HirKind::Alternation(branches) => branches.iter().all(is_impossible),
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) => false,
    }
}

fn contains(class: &Class, wanted: char) -> bool {
    match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&wanted)),
        Class::Bytes(class) => u8::try_from(wanted).is_ok_and(|wanted| {
            class
                .ranges()
                .iter()
                .any(|range| (range.start()..=range.end()).contains(&wanted))
        }),
    }
}

/// The same condition without an expression, where there is one: `/a/.*` is what starts with `/a/`.
pub(super) fn simplify(path: &PathMatch) -> Cow<'_, PathMatch> {
    let PathMatch::Regex(pattern) = path else {
        return Cow::Borrowed(path);
    };
    let Ok(hir) = regex_syntax::parse(pattern.as_str()) else {
        return Cow::Borrowed(path);
    };
    let simple = match hir.kind() {
        HirKind::Literal(literal) => text(&literal.0).map(PathMatch::Exact),
        HirKind::Concat(parts) => match parts.as_slice() {
            [first, rest] if is_anything(rest) => match first.kind() {
                HirKind::Literal(literal) => text(&literal.0).map(PathMatch::StartsWith),
                _ => None,
            },
            _ => None,
        },
        _ => is_anything(&hir).then(|| PathMatch::StartsWith(String::new())),
    };
    simple.map_or(Cow::Borrowed(path), Cow::Owned)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Whether this is `.*`. A path holds no line breaks, so the dot need not admit them.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else {
        return false;
    };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else {
        return false;
    };
    let mut missing = class.clone();
    missing.negate();
    let breaks = |c: char| c == '\n' || c == '\r';
    repetition.min == 0
        && repetition.max.is_none()
        && missing
            .ranges()
            .iter()
            .all(|range| breaks(range.start()) && breaks(range.end()))
}

/// Texts of which each text of the expression begins with one, with whether that is all of it.
/// None when they cannot be listed.
pub(super) fn beginnings(pattern: &Pattern) -> Option<Vec<(String, bool)>> {
    let hir = regex_syntax::parse(pattern.as_str()).ok()?;
    let sequence = Extractor::new().extract(&hir);
    let literals = sequence.literals()?.iter();
    literals
        .map(|literal| Some((text(literal.as_bytes())?, literal.is_exact())))
        .collect()
}

/// A text that the expression admits: short, and of characters that need no escape if it can be.
pub(super) fn sample(pattern: &Pattern) -> Option<String> {
    let hir = regex_syntax::parse(pattern.as_str()).ok()?;
    let mut shortest = String::new();
    write_sample(&hir, &mut shortest)?;
    let rooted = format!("/{shortest}");
    [shortest, rooted]
        .into_iter()
        .find(|text| pattern.regex().is_match(text))
}

/// The longest sample; an expression can ask for more than anybody wants to read.
const MAX_SAMPLE: usize = 200;

fn write_sample(hir: &Hir, out: &mut String) -> Option<()> {
    if out.len() > MAX_SAMPLE {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => {
            let pleasant = ('a'..='z')
                .chain('0'..='9')
                .chain('A'..='Z')
                .chain("/-._~".chars());
            let wanted = pleasant.chain(' '..='~').find(|c| contains(class, *c));
            out.push(wanted?);
        }
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                write_sample(&repetition.sub, out)?;
            }
        }
        HirKind::Capture(capture) => write_sample(&capture.sub, out)?,
        HirKind::Concat(parts) => {
            for part in parts {
                write_sample(part, out)?;
            }
        }
        HirKind::Alternation(branches) => {
            let possible = branches.iter().find(|branch| !is_impossible(branch));
            write_sample(possible?, out)?;
        }
    }
    Some(())
}
