//! Warnings about what is allowed but hardly meant, each with a request that shows it where one
//! exists.
//!
//! Pure, over the checked snapshot. A lint never lies: what it reports is proven, what it cannot
//! prove it does not report. The codes are API.

mod egress;
mod expression;
mod fault;
mod group;
mod reach;
mod retry;
mod secure;
mod stream;
mod subsume;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeSet;

use crate::{
    Problem, Snapshot,
    model::{Action, Destination, PathMatch, Route, Rule, Target},
    names::UpstreamName,
};

/// Comparisons of two matches, for a snapshot as a whole: a fraction of a second.
const COMPARISONS: usize = 3_000_000;

/// Everything in `snapshot` that is allowed but hardly meant, ordered by where it stands.
pub fn lint(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    for route in snapshot.routes.values() {
        for (position, rule) in route.rules.iter().enumerate() {
            let at = at_rule(route, position);
            problems.extend(no_weight(&at, rule));
            problems.extend(unmatchable(&at, rule));
            problems.extend(fault::check(&at, route, rule));
            problems.extend(retry::check(&at, route, rule));
        }
    }
    problems.extend(unused(snapshot));
    problems.extend(no_endpoint_weight(snapshot));
    problems.extend(secure::check(snapshot));
    problems.extend(stream::check(snapshot));
    problems.extend(egress::check(snapshot));
    problems.extend(reach::check(snapshot, &mut group::Budget(COMPARISONS)));
    problems.sort_by(|a, b| (&a.at, a.code).cmp(&(&b.at, b.code)));
    problems
}

/// Where a rule stands. The catch-all stands on the route itself.
fn at_rule(route: &Route, position: usize) -> String {
    match route.rules.get(position) {
        Some(rule) if !is_catch_all(rule) => format!("routes.{}.rules[{position}]", route.name),
        _ => format!("routes.{}", route.name),
    }
}

/// Whether the rule is what `to`, `redirect` or `respond` on a route makes.
fn is_catch_all(rule: &Rule) -> bool {
    rule.name.as_str() == "*"
}

/// The rule in a sentence.
fn call(route: &Route, position: usize) -> String {
    match route.rules.get(position) {
        Some(rule) if !is_catch_all(rule) => {
            format!(
                "rule {:?} of route {:?}",
                rule.name.as_str(),
                route.name.as_str()
            )
        }
        _ => format!("the catch-all of route {:?}", route.name.as_str()),
    }
}

fn problem(code: &'static str, at: String, what: String, hint: &str) -> Problem {
    Problem {
        code,
        at,
        what,
        hint: Some(hint.to_owned()),
        witness: None,
        place: None,
    }
}

fn targets(rule: &Rule) -> &[Target] {
    match &rule.action {
        Action::Forward(targets) => targets,
        Action::Redirect(_) | Action::Respond(_) | Action::Refused => &[],
    }
}

fn no_weight(at: &str, rule: &Rule) -> Option<Problem> {
    let targets = targets(rule);
    let none = !targets.is_empty() && targets.iter().all(|target| target.weight == 0);
    none.then(|| {
        problem(
            "no_weight",
            format!("{at}.to"),
            "every target has weight 0, so every request is refused".to_owned(),
            "give at least one target a weight",
        )
    })
}

fn no_endpoint_weight(snapshot: &Snapshot) -> Vec<Problem> {
    let without = snapshot.upstreams.values().filter(|upstream| {
        let endpoints = &upstream.endpoints;
        !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0)
    });
    let problems = without.map(|upstream| {
        problem(
            "no_weight",
            format!("upstreams.{}.endpoints", upstream.name),
            "every endpoint has weight 0, so none is ever chosen".to_owned(),
            "give at least one endpoint a weight",
        )
    });
    problems.collect()
}

fn unused(snapshot: &Snapshot) -> Vec<Problem> {
    let rules = snapshot.routes.values().flat_map(|route| &route.rules);
    let mut used: BTreeSet<&UpstreamName> = rules
        .flat_map(|rule| targets(rule))
        .filter_map(|target| match &target.destination {
            Destination::Upstream(name) => Some(name),
            Destination::Service { .. } | Destination::Address(_) => None,
        })
        .collect();
    let egress = snapshot.egress.iter().flat_map(|egress| &egress.allow);
    used.extend(egress.filter_map(|rule| rule.via.as_ref()));
    let unused = snapshot
        .upstreams
        .keys()
        .filter(|name| !used.contains(name));
    let problems = unused.map(|name| {
        problem(
            "unused_upstream",
            format!("upstreams.{name}"),
            format!("nothing sends requests to upstream {:?}", name.as_str()),
            "name it in a `to`, or take it away",
        )
    });
    problems.collect()
}

fn unmatchable(at: &str, rule: &Rule) -> Vec<Problem> {
    let matches = rule.matches.iter().enumerate();
    let problems = matches.filter_map(|(position, condition)| match &condition.path {
        Some(PathMatch::Regex(pattern)) if expression::never_begins_with_slash(pattern) => {
            Some(problem(
                "unmatchable_regex",
                format!("{at}.match[{position}].path.regex"),
                format!(
                    "{:?} admits no text that begins with `/`, as every path does",
                    pattern.as_str()
                ),
                "an expression must match the whole path, from its first `/`",
            ))
        }
        _ => None,
    });
    problems.collect()
}
