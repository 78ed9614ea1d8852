//! Why a request got the rule it got: the winner comes from [`Table::find`] itself, the reasons of
//! the others from their own conditions.

use serde::Serialize;
use sluice_config::names::{ListenerName, RouteName, RuleName};

use super::{
    Found, Question, Table,
    hosts::Hosts,
    predicate::{Failure, failures},
};

/// The way of one request through the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The listener it came in by.
    pub listener: ListenerName,
    /// The host pattern that was chosen; none when no route has the host.
    pub host: Option<String>,
    /// The rule it belongs to.
    pub chosen: Option<Chosen>,
    /// Every match of every rule of the host, in the order in which they are asked.
    pub candidates: Vec<Candidate>,
    /// Where it would have gone with the fewest changes; only when nothing was chosen.
    pub nearest: Option<Nearest>,
}

/// A rule, and which of its matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// The route.
    pub route: RouteName,
    /// The rule.
    pub rule: RuleName,
    /// The position of the match among those of the rule, from 0; none when it has no matches.
    pub matched: Option<usize>,
}

/// One match of one rule that could have been chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Which one.
    #[serde(flatten)]
    pub place: Chosen,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "failed")]
pub enum Outcome {
    /// The request belongs to it.
    Chosen,
    /// It would match, but an earlier one did.
    Later,
    /// These of its conditions do not hold.
    Failed(Vec<Failure>),
}

/// The route that comes nearest to a request which nothing matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The rule.
    #[serde(flatten)]
    pub place: Chosen,
    /// What stands between.
    pub failed: Vec<Failure>,
}

impl Table {
    /// Explains what [`Table::find`] decides.
    pub fn explain(&self, listener: &ListenerName, question: &Question<'_>) -> Explanation {
        let chosen = self.find(listener, question).map(|found| place(&found));
        let modes = self.listeners.get(listener);
        let hosts = modes.map(|modes| modes.of(question.mode));
        let rules = hosts.and_then(|hosts| hosts.find(question.host));
        let mut candidates = Vec::new();
        for found in rules.iter().flat_map(|rules| rules.iter()) {
            let place = place(&found);
            let outcome = if chosen.as_ref() == Some(&place) {
                Outcome::Chosen
            } else {
                match failing(&found, listener, question) {
                    failed if failed.is_empty() => Outcome::Later,
                    failed => Outcome::Failed(failed),
                }
            };
            candidates.push(Candidate { place, outcome });
        }
        let nearest = match chosen {
            Some(_) => None,
            None if rules.is_some() => nearest_rule(&candidates),
            None => self.nearest_host(listener, question),
        };
        Explanation {
            listener: listener.clone(),
            host: hosts
                .and_then(|hosts| hosts.pattern(question.host))
                .map(|pattern| pattern.to_string()),
            chosen,
            candidates,
            nearest,
        }
    }

    /// A route of another host: the one spelled most alike, preferably on the same listener.
    fn nearest_host(&self, listener: &ListenerName, question: &Question<'_>) -> Option<Nearest> {
        let asked = question.host.unwrap_or_default();
        let distances = |name: &ListenerName, hosts: &Hosts| {
            let elsewhere = name != listener;
            let name = name.clone();
            let all: Vec<_> = hosts
                .iter()
                .filter_map(|(pattern, rules)| {
                    let found = rules.iter().next()?;
                    let pattern = pattern.to_string();
                    let distance = distance(asked, &pattern);
                    Some(((distance, elsewhere, pattern, name.clone()), place(&found)))
                })
                .collect();
            all
        };
        let all = self
            .listeners
            .iter()
            .flat_map(|(name, modes)| distances(name, modes.of(question.mode)));
        let ((_, elsewhere, pattern, name), place) = all.min_by(|(a, _), (b, _)| a.cmp(b))?;
        let mut failed = Vec::new();
        if pattern != asked && pattern != "*" {
            failed.push(Failure {
                wanted: format!("host is {pattern}"),
                found: if asked.is_empty() { "absent" } else { asked }.to_owned(),
            });
        }
        if elsewhere {
            failed.push(Failure {
                wanted: format!("listener is {name}"),
                found: listener.to_string(),
            });
        }
        Some(Nearest { place, failed })
    }
}

fn place(found: &Found<'_>) -> Chosen {
    Chosen {
        route: found.route.name.clone(),
        rule: found
            .rule()
            .map_or_else(|| RuleName::nth(found.rule), |rule| rule.name.clone()),
        matched: found.matched,
    }
}

/// Which conditions of a match do not hold.
pub(super) fn failing(
    found: &Found<'_>,
    listener: &ListenerName,
    question: &Question<'_>,
) -> Vec<Failure> {
    let condition = found.condition();
    condition.map_or_else(Vec::new, |condition| {
        failures(condition, listener, question)
    })
}

/// The candidate with the fewest failures; of several the first.
fn nearest_rule(candidates: &[Candidate]) -> Option<Nearest> {
    let failed = candidates
        .iter()
        .filter_map(|candidate| match &candidate.outcome {
            Outcome::Failed(failed) => Some((failed, &candidate.place)),
            Outcome::Chosen | Outcome::Later => None,
        });
    let (failed, place) = failed.min_by_key(|(failed, _)| failed.len())?;
    Some(Nearest {
        place: place.clone(),
        failed: failed.clone(),
    })
}

/// Levenshtein's distance, in bytes: host names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, byte) in a.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        for (other, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(byte != other));
            diagonal = *cell;
            left = replaced
                .min(left.saturating_add(1))
                .min(cell.saturating_add(1));
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or_default()
}
