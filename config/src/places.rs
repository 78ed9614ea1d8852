//! The source map: from a path in the configuration to file, line and column.

use std::{collections::HashMap, ops::Range, path::Path};

use crate::{
    Place, SourceFile,
    parse::KINDS,
    tree::{Aim, Node, Segment, Spot, Value},
};

/// Where everything stands that was written.
#[derive(Debug)]
pub(crate) struct Places<'d> {
    root: &'d Node,
    files: &'d [SourceFile],
    /// Where the lines of each file begin.
    lines: Vec<Vec<usize>>,
    /// Objects by kind and name, since there may be many.
    objects: HashMap<(&'d str, &'d str), &'d Node>,
}

impl<'d> Places<'d> {
    /// Of everything in `root`, which came from `files`.
    pub(crate) fn new(root: &'d Node, files: &'d [SourceFile]) -> Self {
        let mut objects = HashMap::new();
        for kind in KINDS {
            if let Some(Value::Table(entries)) = root.get(kind).map(|node| &node.value) {
                objects.extend(
                    entries
                        .iter()
                        .map(|(name, node)| ((kind, name.as_str()), node)),
                );
            }
        }
        Self {
            root,
            files,
            lines: files.iter().map(|file| line_starts(&file.text)).collect(),
            objects,
        }
    }

    /// The place of what stands at `path`, or of the nearest thing above it that has one.
    pub(crate) fn of(&self, path: &[Segment], aim: Aim, part: Option<&str>) -> Option<Place> {
        let mut depth = path.len();
        let (spot, exact) = loop {
            let (node, left) = self.nearest(path.get(..depth)?);
            if let Some(spot) = &node.spot {
                break (spot, left == 0 && depth == path.len());
            }
            depth = depth.checked_sub(1)?;
        };
        let file = self.files.get(spot.file)?;
        let bytes = match aim {
            Aim::Value if exact => narrowed(spot, &file.text, part),
            Aim::Value | Aim::Key => spot.key.clone().unwrap_or_else(|| spot.value.clone()),
        };
        Some(Place::in_lines(
            spot.file,
            file,
            bytes,
            self.lines.get(spot.file)?,
        ))
    }

    /// The folder of the file in which the value at `path` stands.
    pub(crate) fn folder(&self, path: &[Segment]) -> Option<&'d Path> {
        let (node, _) = self.nearest(path);
        self.files.get(node.spot.as_ref()?.file)?.path.parent()
    }

    fn nearest(&self, path: &[Segment]) -> (&'d Node, usize) {
        if let [Segment::Key(kind), Segment::Key(name), rest @ ..] = path
            && let Some(object) = self.objects.get(&(kind.as_str(), name.as_str()))
        {
            return object.nearest(rest);
        }
        self.root.nearest(path)
    }
}

/// Where each line begins.
pub(crate) fn line_starts(text: &str) -> Vec<usize> {
    let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let after = newlines.map(|(at, _)| at.saturating_add(1));
    std::iter::once(0).chain(after).collect()
}

/// The range of `part` inside the value; the whole value, but only its key when it is a table that
/// goes over several lines.
fn narrowed(spot: &Spot, text: &str, part: Option<&str>) -> Range<usize> {
    let written = text.get(spot.value.clone()).unwrap_or_default();
    let found = part.filter(|part| !part.is_empty()).and_then(|part| {
        let start = spot.value.start.saturating_add(written.find(part)?);
        Some(start..start.saturating_add(part.len()))
    });
    match (found, &spot.key) {
        (Some(found), _) => found,
        (None, Some(key)) if written.contains('\n') || key.start > spot.value.start => key.clone(),
        (None, _) => spot.value.clone(),
    }
}
