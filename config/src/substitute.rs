//! `${NAME}` and `${NAME:-default}` in string values of local files; `$${` is a literal `${`.
//!
//! Keys are not touched, and neither is what comes as JSON.

use std::collections::BTreeMap;

use crate::{
    findings::Finding,
    tree::{Node, Segment, Value},
};

/// A text that could not be substituted.
#[derive(Debug)]
pub(crate) struct Unset {
    /// Where it stands.
    pub(crate) path: Vec<Segment>,
    /// Why.
    pub(crate) finding: Finding,
}

/// Replaces variables in every string value below `node`.
pub(crate) fn substitute(
    node: &mut Node,
    environment: &BTreeMap<String, Option<String>>,
) -> Vec<Unset> {
    let mut unset = Vec::new();
    walk(node, environment, &mut Vec::new(), &mut unset);
    unset
}

fn walk(
    node: &mut Node,
    environment: &BTreeMap<String, Option<String>>,
    path: &mut Vec<Segment>,
    unset: &mut Vec<Unset>,
) {
    match &mut node.value {
        Value::Text(text) if text.contains("${") => match replaced(text, environment) {
            Ok(new) => *text = new,
            Err(problems) => unset.extend(problems.into_iter().map(|(part, finding)| Unset {
                path: path.clone(),
                finding: finding.part(part),
            })),
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Segment::Index(index));
                walk(item, environment, path, unset);
                path.pop();
            }
        }
        Value::Table(entries) => {
            for (key, value) in entries {
                path.push(Segment::Key(key.clone()));
                walk(value, environment, path, unset);
                path.pop();
            }
        }
        _ => {}
    }
}

/// A piece of a text with variables.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Literal(&'t str),
    Variable {
        name: &'t str,
        default: Option<&'t str>,
        whole: &'t str,
    },
    Broken(&'t str),
}

/// Splits a text into pieces. Nothing nests: a default ends at the first `}`.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(tail) = rest.strip_prefix("$${") {
            rest = tail;
            return Some(Piece::Literal("${"));
        }
        if let Some(inner) = rest.strip_prefix("${") {
            let Some((content, tail)) = inner.split_once('}') else {
                return Some(Piece::Broken(std::mem::take(&mut rest)));
            };
            let whole = rest.strip_suffix(tail).unwrap_or(rest);
            rest = tail;
            let (name, default) = match content.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (content, None),
            };
            return Some(if is_name(name) {
                Piece::Variable {
                    name,
                    default,
                    whole,
                }
            } else {
                Piece::Broken(whole)
            });
        }
        let end = ["$${", "${"]
            .iter()
            .filter_map(|mark| rest.find(mark))
            .min();
        let (literal, tail) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = tail;
        Some(Piece::Literal(literal))
    })
}

/// As a POSIX environment names its variables.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The names of variables that a text of a file may ask for.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|tail| {
        let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let name = tail.get(..end.unwrap_or(tail.len()))?;
        is_name(name).then_some(name)
    })
}

fn replaced(
    text: &str,
    environment: &BTreeMap<String, Option<String>>,
) -> Result<String, Vec<(String, Finding)>> {
    let mut new = String::new();
    let mut problems = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Literal(literal) => new.push_str(literal),
            Piece::Broken(part) => problems.push((
                part.to_owned(),
                Finding::new("bad_substitution", format!("{part:?} names no variable"))
                    .hint("write ${NAME} or ${NAME:-default}, or $${ for a literal ${"),
            )),
            Piece::Variable {
                name,
                default,
                whole,
            } => {
                let value = environment.get(name).and_then(Option::as_deref);
                match value.or(default) {
                    Some(value) => new.push_str(value),
                    None => problems.push((
                        whole.to_owned(),
                        Finding::new(
                            "unset_variable",
                            format!("the environment variable {name} is not set"),
                        )
                        .hint(format!("set it, or give a default: ${{{name}:-default}}")),
                    )),
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(new)
    } else {
        Err(problems)
    }
}

/// Writes a text so that substitution gives it back.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment() -> BTreeMap<String, Option<String>> {
        [
            ("HOST", Some("example.com")),
            ("EMPTY", Some("")),
            ("UNSET", None),
        ]
        .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
        .into()
    }

    #[test]
    fn variables_are_replaced_and_escapes_are_kept() {
        for (text, expected) in [
            ("www.${HOST}", "www.example.com"),
            ("${UNSET:-x}", "x"),
            ("${UNSET:-}", ""),
            ("${EMPTY:-x}", ""),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$5 and 5$", "$5 and 5$"),
            ("${HOST}${HOST}", "example.comexample.com"),
        ] {
            assert_eq!(replaced(text, &environment()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unset_or_malformed_is_reported_each() {
        for (text, parts) in [
            ("${UNSET} ${NEVER}", vec!["${UNSET}", "${NEVER}"]),
            ("${}", vec!["${}"]),
            ("a${b", vec!["${b"]),
            ("${1A}", vec!["${1A}"]),
        ] {
            let problems = replaced(text, &environment()).unwrap_err();
            let found: Vec<&str> = problems.iter().map(|(part, _)| part.as_str()).collect();
            assert_eq!(found, parts, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in r"[a${}:-]{0,20}|\PC{0,20}") {
            prop_assert_eq!(replaced(&escape(&text), &environment()).unwrap(), text);
        }

        #[test]
        fn every_variable_that_is_used_was_asked_for(text in r"[aB_1${}:-]{0,30}") {
            let asked: Vec<&str> = names(&text).collect();
            for piece in pieces(&text) {
                if let Piece::Variable { name, .. } = piece {
                    prop_assert!(asked.contains(&name));
                }
            }
        }
    }
}
