//! Collects problems while the check goes on, and gives each its place.

use std::{collections::HashSet, path::PathBuf};

use crate::{
    Problem, SourceFile,
    places::Places,
    substitute::Unset,
    tree::{Aim, At, Node, Segment},
};

/// Suggestions for all mistakes of a configuration together: a fraction of a second.
const MAX_COMPARISONS: usize = 300_000;

/// The problems found so far.
#[derive(Debug)]
pub(crate) struct Findings<'d> {
    places: Places<'d>,
    problems: Vec<Problem>,
    /// How many more names may be held against misspelt ones.
    comparisons: usize,
    /// Paths at or below which something is wrong.
    touched: HashSet<String>,
    /// Paths whose value was refused before the check of its meaning, which must not report again.
    poisoned: HashSet<String>,
    /// Something is wrong that no object can be refused for.
    fatal: bool,
}

/// What to say about a problem.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// The kind.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) what: String,
    /// What instead.
    pub(crate) hint: Option<String>,
    /// The piece of the text that is wrong, when it is not all of it.
    pub(crate) part: Option<String>,
}

impl Finding {
    /// Without a hint.
    pub(crate) fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            hint: None,
            part: None,
        }
    }

    /// With a hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Only this piece of the text is wrong.
    pub(crate) fn part(self, part: impl Into<String>) -> Self {
        Self {
            part: Some(part.into()),
            ..self
        }
    }

    /// With a hint, when there is one.
    pub(crate) fn maybe(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl<'d> Findings<'d> {
    /// Nothing found yet in `root`.
    pub(crate) fn new(root: &'d Node, files: &'d [SourceFile]) -> Self {
        Self {
            places: Places::new(root, files),
            comparisons: MAX_COMPARISONS,
            problems: Vec::new(),
            touched: HashSet::new(),
            poisoned: HashSet::new(),
            fatal: false,
        }
    }

    /// Reports the value at `at`.
    pub(crate) fn value(&mut self, at: &At<'_>, finding: Finding) {
        self.report(&at.segments(), Aim::Value, finding);
    }

    /// Reports the key at `at`.
    pub(crate) fn key(&mut self, at: &At<'_>, finding: Finding) {
        self.report(&at.segments(), Aim::Key, finding);
    }

    /// Reports that `at` lacks `key`, unless something is already wrong with that key.
    pub(crate) fn missing(&mut self, at: &At<'_>, key: &str, finding: Finding) {
        if self.is_clean(&at.key(key)) {
            self.report(&at.segments(), Aim::Key, finding);
        }
    }

    /// Reports what no object can be refused for.
    pub(crate) fn fatal(&mut self, at: &At<'_>, finding: Finding) {
        self.fatal = true;
        self.key(at, finding);
    }

    /// Reports parts of texts, which nobody else shall report again.
    pub(crate) fn texts(&mut self, unset: &[Unset]) {
        for unset in unset {
            self.report(&unset.path, Aim::Value, unset.finding.clone());
        }
        self.poisoned
            .extend(unset.iter().map(|unset| Segment::text(&unset.path)));
    }

    /// Something is wrong that no object can be refused for.
    pub(crate) fn set_fatal(&mut self) {
        self.fatal = true;
    }

    /// From now on nobody else reports the value at `at`.
    pub(crate) fn poison(&mut self, at: &At<'_>) {
        let path = at.segments();
        self.touch(&path);
        self.poisoned.insert(Segment::text(&path));
    }

    /// From now on nobody reports that `at` is missing.
    pub(crate) fn excuse(&mut self, at: &At<'_>) {
        self.touch(&at.segments());
    }

    /// The path that the value at `at` names. A relative one is meant from the folder of the file in
    /// which it stands, wherever the program was started.
    pub(crate) fn path(&self, at: &At<'_>, path: &str) -> PathBuf {
        let folder = self.places.folder(&at.segments());
        folder.map_or_else(|| path.into(), |folder| folder.join(path))
    }

    /// Whether nothing is wrong at or below `at`.
    pub(crate) fn is_clean(&self, at: &At<'_>) -> bool {
        // Most configurations are right, and then no path need be written out.
        self.touched.is_empty() || !self.touched.contains(&at.to_string())
    }

    /// Whether something is wrong that no object can be refused for.
    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// Whether `names` may be searched for the nearest one: in a large configuration with as many
    /// mistakes only the first get a suggestion.
    pub(crate) fn may_search(&mut self, names: usize) -> bool {
        let left = self.comparisons.checked_sub(names);
        self.comparisons = left.unwrap_or(self.comparisons);
        left.is_some()
    }

    /// Everything found.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn report(&mut self, path: &[Segment], aim: Aim, finding: Finding) {
        let at = Segment::text(path);
        if self.poisoned.contains(&at) {
            return;
        }
        self.touch(path);
        let place = self.places.of(path, aim, finding.part.as_deref());
        self.problems.push(Problem {
            code: finding.code,
            at,
            what: finding.what,
            hint: finding.hint,
            witness: None,
            place,
        });
    }

    fn touch(&mut self, path: &[Segment]) {
        for depth in 1..=path.len() {
            if let Some(above) = path.get(..depth) {
                self.touched.insert(Segment::text(above));
            }
        }
    }
}
