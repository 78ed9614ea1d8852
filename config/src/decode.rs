//! From a tree to `raw` types, without letting one mistake hide another.
//!
//! A value of the wrong type is reported, taken out, and the object is read again; keys that nobody
//! knows are reported with the nearest known one, or with the table they belong to.

mod known;
mod nearest;

use std::borrow::Cow;

use serde::de::DeserializeOwned;

pub(crate) use nearest::nearest;

use crate::{
    findings::{Finding, Findings},
    tree::{At, DecodeError, Node, Segment, Value},
};

/// After this many wrong types in one object the rest of it is not looked at.
const MAX_ATTEMPTS: usize = 500;

/// Reads an object; what is wrong in it is reported, and left out.
pub(crate) fn decode<T>(node: &Node, at: &At<'_>, findings: &mut Findings<'_>) -> T
where
    T: DeserializeOwned + Default,
{
    let mut node = Cow::Borrowed(node);
    for _ in 0..MAX_ATTEMPTS {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&*node, &mut track);
        let result: Result<T, DecodeError> =
            serde_ignored::deserialize(tracked, |path| unknown.push(ignored(&path)));
        match result {
            Ok(object) => {
                for path in &unknown {
                    with_path(*at, path, &mut |at| report_unknown(at, findings));
                }
                return object;
            }
            Err(error) => {
                let path = failed(&track.path());
                with_path(*at, &path, &mut |at| {
                    findings.value(at, describe(&error, at));
                    findings.poison(at);
                });
                if path.is_empty() {
                    return T::default();
                }
                take_out(node.to_mut(), &path);
            }
        }
    }
    T::default()
}

fn describe(error: &DecodeError, at: &At<'_>) -> Finding {
    match error {
        DecodeError::Word { word, words } => {
            let hint = nearest(words.iter().copied(), word);
            Finding::new("unknown_value", error.to_string()).maybe(hint)
        }
        DecodeError::Type { found, expected } => {
            let hint = match (found.as_str(), expected.as_str()) {
                ("a table", "a list") => Some(format!("write [[{at}]]")),
                ("a list", "a table") => Some(format!("write [{at}]")),
                _ => None,
            };
            Finding::new("wrong_type", error.to_string()).maybe(hint)
        }
        DecodeError::Other(_) => Finding::new("wrong_type", error.to_string()),
    }
}

/// Continues a path and hands it on; paths live on the stack.
fn with_path(at: At<'_>, path: &[Segment], then: &mut dyn FnMut(&At<'_>)) {
    match path.split_first() {
        None => then(&at),
        Some((Segment::Key(key), rest)) => with_path(at.key(key), rest, then),
        Some((Segment::Index(index), rest)) => with_path(at.index(*index), rest, then),
    }
}

fn failed(path: &serde_path_to_error::Path) -> Vec<Segment> {
    use serde_path_to_error::Segment as Theirs;

    let steps = path.iter().filter_map(|segment| match segment {
        Theirs::Seq { index } => Some(Segment::Index(*index)),
        Theirs::Map { key } => Some(Segment::Key(key.clone())),
        Theirs::Enum { .. } | Theirs::Unknown => None,
    });
    steps.collect()
}

fn ignored(path: &serde_ignored::Path<'_>) -> Vec<Segment> {
    use serde_ignored::Path;

    let (parent, segment) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Segment::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Segment::Key(key.clone()))),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = ignored(parent);
    steps.extend(segment);
    steps
}

/// Takes the value at `path` out. An element of a list is replaced, so that the others keep their
/// positions: by an empty table, then by an empty text, then the whole list goes.
fn take_out(node: &mut Node, path: &[Segment]) {
    let Some((last, above)) = path.split_last() else {
        return;
    };
    let mut parent = &mut *node;
    for segment in above {
        match parent.step_mut(segment) {
            Some(next) => parent = next,
            None => return,
        }
    }
    let in_list = matches!(last, Segment::Index(_));
    let Some(target) = parent.step_mut(last) else {
        return take_out(node, above);
    };
    target.value = match &target.value {
        Value::Text(text) if in_list && text.is_empty() => return take_out(node, above),
        Value::Table(entries) if in_list && entries.is_empty() => Value::Text(String::new()),
        _ if in_list => Value::Table(Vec::new()),
        _ => Value::Absent,
    };
}

/// Reports the key at `at` as unknown.
pub(crate) fn report_unknown(at: &At<'_>, findings: &mut Findings<'_>) {
    let (At::Key(above, key), path) = (at, at.segments()) else {
        return;
    };
    let parent = path.get(..path.len().saturating_sub(1)).unwrap_or_default();
    let known = known::keys(parent);
    let guess = nearest::nearest_word(known.iter().map(String::as_str), key);
    let hint = match (guess, known::home(parent, key)) {
        // A word that is right elsewhere is no slip of the pen.
        (_, Some(home)) => Some(home),
        (Some(guess), None) if guess.len() > 2 || key.starts_with(guess) => {
            // What was meant is there, so nobody shall miss it.
            findings.excuse(&above.key(guess));
            Some(format!("did you mean {guess:?}?"))
        }
        (_, None) if known.is_empty() => None,
        (_, None) => Some(format!("known here: {}", known.join(", "))),
    };
    let what = match *above {
        At::Root => format!("there is no {key:?} at the top of a configuration"),
        above => format!("there is no key {key:?} in {above}"),
    };
    findings.key(at, Finding::new("unknown_key", what).maybe(hint));
    findings.poison(at);
}
