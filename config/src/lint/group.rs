//! The rules that share a host and a listener, in the order in which they are asked, and which of
//! them stand in each other's way.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    expression, subsume,
    witness::{Scene, Witness},
};
use crate::{
    model::{
        Match, PathMatch, Route,
        order::{self, Merged},
    },
    names::ListenerName,
};

/// Routes that share a host on a listener.
pub(super) struct Group<'a> {
    pub(super) routes: &'a [Arc<Route>],
    pub(super) entries: Vec<Entry<'a>>,
}

/// One match in the order in which they are asked.
pub(super) struct Entry<'a> {
    pub(super) merged: Merged,
    pub(super) condition: &'a Match,
    path: Option<Cow<'a, PathMatch>>,
}

/// The second of two entries of different routes gives way to the first.
pub(super) struct Overlap {
    pub(super) first: usize,
    pub(super) second: usize,
    /// A request that both admit.
    pub(super) witness: Witness,
}

/// How many comparisons are left; configurations of any size are checked in bounded time.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

/// Where to look for entries that could admit what another one does.
#[derive(Default)]
struct Index<'a> {
    /// By the text that exact, prefix and `starts_with` conditions name.
    by_text: HashMap<&'a str, Vec<usize>>,
    /// Without a path, or with an expression.
    others: Vec<usize>,
}

impl<'a> Group<'a> {
    /// The matches of `routes` that can hold on `listener`, in order.
    pub(super) fn new(routes: &'a [Arc<Route>], listener: &ListenerName, any: &'a Match) -> Self {
        let entries = order::merge(routes).into_iter().filter_map(|merged| {
            let rule = routes.get(merged.route)?.rules.get(merged.rule)?;
            let condition = match merged.matched {
                Some(matched) => rule.matches.get(matched)?,
                None => any,
            };
            let here = condition.listeners.is_empty() || condition.listeners.contains(listener);
            let path = condition.path.as_ref().map(expression::simplify);
            here.then_some(Entry {
                merged,
                condition,
                path,
            })
        });
        Self {
            routes,
            entries: entries.collect(),
        }
    }

    /// For each entry the first one before it, of another rule, that takes everything it admits.
    pub(super) fn shadows(&self, budget: &mut Budget) -> Vec<Option<usize>> {
        let mut index = Index::default();
        let mut shadows = Vec::with_capacity(self.entries.len());
        for (position, entry) in self.entries.iter().enumerate() {
            let mut shadow = None;
            for candidate in index.candidates(entry) {
                let Some(earlier) = self.entries.get(candidate) else {
                    continue;
                };
                let same_rule = (earlier.merged.route, earlier.merged.rule)
                    == (entry.merged.route, entry.merged.rule);
                if same_rule || shadow.is_some_and(|shadow| shadow < candidate) {
                    continue;
                }
                if !budget.spend() {
                    break;
                }
                if subsumes_here(earlier.condition, entry.condition) {
                    shadow = Some(candidate);
                }
            }
            shadows.push(shadow);
            index.insert(position, entry);
        }
        shadows
    }

    /// Pairs of routes of equal priority of which a request can match rules of both: one pair of
    /// entries for each. Those in `shadows` are said elsewhere.
    pub(super) fn overlaps(
        &self,
        shadows: &[Option<usize>],
        host: &str,
        scene: Scene<'_>,
        budget: &mut Budget,
    ) -> Vec<Overlap> {
        let mut index = Index::default();
        for (position, entry) in self.entries.iter().enumerate() {
            index.insert(position, entry);
        }
        let mut done = HashSet::new();
        let mut overlaps = Vec::new();
        for (position, entry) in self.entries.iter().enumerate() {
            for candidate in index.candidates(entry) {
                let (first, second) = (position.min(candidate), position.max(candidate));
                let (Some(a), Some(b)) = (self.entries.get(first), self.entries.get(second)) else {
                    continue;
                };
                let pair = (a.merged.route, b.merged.route);
                let shadowed = shadows.get(second).copied().flatten().is_some();
                if shadowed || done.contains(&pair) || !self.are_rivals(pair) {
                    continue;
                }
                if !budget.spend() {
                    return overlaps;
                }
                let orders = [[a.condition, b.condition], [b.condition, a.condition]];
                let mut witnesses = orders
                    .iter()
                    .filter_map(|pair| Witness::new(pair, host.to_owned(), scene))
                    .filter(|witness| self.first_route(witness, budget) == Some(pair.0));
                if let Some(witness) = witnesses.next() {
                    done.insert(pair);
                    overlaps.push(Overlap {
                        first,
                        second,
                        witness,
                    });
                }
            }
        }
        overlaps
    }

    /// The route whose rule takes a request; none when the budget does not reach that far.
    fn first_route(&self, witness: &Witness, budget: &mut Budget) -> Option<usize> {
        for entry in &self.entries {
            if !budget.spend() {
                return None;
            }
            if witness.is_admitted_by(entry.condition) {
                return Some(entry.merged.route);
            }
        }
        None
    }

    fn are_rivals(&self, (a, b): (usize, usize)) -> bool {
        let priority = |route: usize| self.routes.get(route).map(|route| route.priority);
        a != b && priority(a) == priority(b)
    }
}

/// As [`subsume::subsumes`]; conditions on the listener hold here already.
fn subsumes_here(wide: &Match, narrow: &Match) -> bool {
    if wide.listeners.is_empty() {
        return subsume::subsumes(wide, narrow);
    }
    let wide = Match {
        listeners: Vec::new(),
        ..wide.clone()
    };
    subsume::subsumes(&wide, narrow)
}

impl<'a> Index<'a> {
    fn insert(&mut self, position: usize, entry: &'a Entry<'_>) {
        match entry.path.as_deref() {
            Some(
                PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::StartsWith(text),
            ) => {
                self.by_text.entry(text).or_default().push(position);
            }
            None | Some(PathMatch::Regex(_)) => self.others.push(position),
        }
    }

    /// Entries that might admit all, or some, of what `entry` admits.
    fn candidates(&self, entry: &Entry<'_>) -> Vec<usize> {
        let reach = subsume::reach(entry.path.as_deref());
        let ends = reach.char_indices().map(|(at, _)| at).chain([reach.len()]);
        let texts = ends.filter_map(|end| self.by_text.get(reach.get(..end)?));
        let mut candidates: Vec<usize> = texts.chain([&self.others]).flatten().copied().collect();
        candidates.sort_unstable();
        candidates
    }
}
