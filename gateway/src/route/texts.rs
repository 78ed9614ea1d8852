//! Which of many conditions on one text hold: all of them answered in one go.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use regex::{RegexSet, RegexSetBuilder};
use sluice_config::model::Pattern;

/// Up to this many expressions are tried one by one; a set pays off beyond.
const FEW: usize = 4;

/// What a lazily built automaton may use. With less than this a thousand expressions begin to
/// rebuild it over and over.
const AUTOMATON: usize = 16 << 20;

/// Conditions on one text, numbered by whoever adds them; several may share a number's meaning.
#[derive(Default)]
pub(super) struct Texts {
    exact: HashMap<Box<str>, Vec<usize>, RandomState>,
    starts: Vec<Start>,
    patterns: Vec<(Pattern, Vec<usize>)>,
    set: Option<RegexSet>,
}

/// A text that others begin with. Sorted, each knows the longest other one that it begins with
/// itself: so one binary search finds all that a text begins with.
struct Start {
    text: Box<str>,
    /// Whether it has to end where a segment ends.
    whole: bool,
    numbers: Vec<usize>,
    parent: Option<usize>,
}

impl Texts {
    pub(super) fn exact(&mut self, text: &str, number: usize) {
        self.exact.entry(text.into()).or_default().push(number);
    }

    /// Texts that begin with these characters.
    pub(super) fn starts(&mut self, text: &str, number: usize) {
        self.push(text, false, number);
    }

    /// Paths whose first segments are these.
    pub(super) fn under(&mut self, prefix: &str, number: usize) {
        self.push(prefix.trim_end_matches('/'), true, number);
    }

    fn push(&mut self, text: &str, whole: bool, number: usize) {
        self.starts.push(Start {
            text: text.into(),
            whole,
            numbers: vec![number],
            parent: None,
        });
    }

    /// Texts that the expression matches from end to end.
    pub(super) fn matches(&mut self, pattern: &Pattern, number: usize) {
        self.patterns.push((pattern.clone(), vec![number]));
    }

    /// To be called once, after the last condition was added.
    pub(super) fn seal(&mut self) {
        self.starts
            .sort_by(|a, b| (&a.text, a.whole).cmp(&(&b.text, b.whole)));
        self.starts.dedup_by(|next, kept| {
            let same = next.text == kept.text && next.whole == kept.whole;
            if same {
                kept.numbers.append(&mut next.numbers);
            }
            same
        });
        self.find_parents();
        self.patterns
            .sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        self.patterns.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.append(&mut next.1);
            }
            same
        });
        if self.patterns.len() > FEW {
            // Anchored as in `Pattern`, which has compiled each of them already. Together they may
            // be too large: then they are tried one by one.
            let texts = self
                .patterns
                .iter()
                .map(|(pattern, _)| format!("^(?:{})$", pattern.as_str()));
            self.set = RegexSetBuilder::new(texts)
                .dfa_size_limit(AUTOMATON)
                .build()
                .ok();
        }
    }

    fn find_parents(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        let mut parents = Vec::with_capacity(self.starts.len());
        for (index, start) in self.starts.iter().enumerate() {
            let begins = |other: &usize| {
                let other = self.starts.get(*other);
                other.is_some_and(|other| start.text.starts_with(&*other.text))
            };
            while open.last().is_some_and(|other| !begins(other)) {
                open.pop();
            }
            parents.push(open.last().copied());
            open.push(index);
        }
        for (start, parent) in self.starts.iter_mut().zip(parents) {
            start.parent = parent;
        }
    }

    /// Calls `hit` with the number of every condition that holds for `text`, in no order.
    pub(super) fn each(&self, text: &str, mut hit: impl FnMut(usize)) {
        let mut all = |numbers: &Vec<usize>| numbers.iter().copied().for_each(&mut hit);
        if let Some(numbers) = self.exact.get(text) {
            all(numbers);
        }
        let below = self
            .starts
            .partition_point(|start| start.text.as_bytes() <= text.as_bytes());
        let mut next = below.checked_sub(1);
        while let Some(start) = next.and_then(|index| self.starts.get(index)) {
            next = start.parent;
            let rest = text.as_bytes().strip_prefix(start.text.as_bytes());
            if rest.is_some_and(|rest| !start.whole || start.ends_a_segment(rest)) {
                all(&start.numbers);
            }
        }
        match &self.set {
            Some(set) => {
                for index in &set.matches(text) {
                    if let Some((_, numbers)) = self.patterns.get(index) {
                        all(numbers);
                    }
                }
            }
            None => {
                for (pattern, numbers) in &self.patterns {
                    if pattern.regex().is_match(text) {
                        all(numbers);
                    }
                }
            }
        }
    }
}

impl Start {
    fn ends_a_segment(&self, rest: &[u8]) -> bool {
        match rest.first() {
            Some(next) => *next == b'/',
            None => !self.text.is_empty(),
        }
    }
}
