//! In which order the rules of several routes are asked, where the routes share a host and listener.
//!
//! One pure function, used by the gateway's route table, by `sluice explain` and by the lints, so
//! that all three mean the same. The order inside a route is always kept. Between routes the next
//! match is that of the route with the higher priority, then the more specific one, then that of
//! the route with the smaller name.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::{Match, PathMatch, Route};
use crate::names::RouteName;

/// How much a match asks for; the greater is asked first. The fields are compared in their order,
/// which is the Gateway API's, with cookies counted as the headers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says whether there is a condition at all"
)]
pub struct Specificity {
    path: PathRank,
    method: bool,
    headers: usize,
    query: usize,
    // The Gateway API knows none of these: they only decide where it would not.
    sni: bool,
    alpn: bool,
    client: bool,
    destination: bool,
    destination_port: bool,
    listener: bool,
}

/// The variants are in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
enum PathRank {
    /// No condition, however it is written: a prefix `/` admits every path.
    #[default]
    Any,
    Regex,
    /// By length in bytes.
    Prefix(usize),
    Exact,
}

/// How specific a match is.
pub fn specificity(condition: &Match) -> Specificity {
    let path = match &condition.path {
        None => PathRank::Any,
        Some(PathMatch::Prefix(text) | PathMatch::StartsWith(text)) if text.len() <= 1 => {
            PathRank::Any
        }
        Some(PathMatch::Prefix(text) | PathMatch::StartsWith(text)) => PathRank::Prefix(text.len()),
        Some(PathMatch::Regex(_)) => PathRank::Regex,
        Some(PathMatch::Exact(_)) => PathRank::Exact,
    };
    Specificity {
        path,
        method: !condition.methods.is_empty(),
        headers: condition
            .headers
            .len()
            .saturating_add(condition.cookies.len()),
        query: condition.query.len(),
        sni: condition.sni.is_some(),
        alpn: !condition.alpn.is_empty(),
        client: !condition.clients.is_empty(),
        destination: !condition.destination.is_empty(),
        destination_port: !condition.destination_port.is_empty(),
        listener: !condition.listeners.is_empty(),
    }
}

/// One match in the merged order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Merged {
    /// Index into the routes that were merged.
    pub route: usize,
    /// Index into the rules of that route.
    pub rule: usize,
    /// Index into the matches of that rule; none for a rule that admits every request.
    pub matched: Option<usize>,
}

/// The matches of `routes`, which share a host and listener, in the order in which they are asked.
///
/// A rule with several matches stands at several places: each of its matches is an item, in the
/// order written. The order of `routes` does not count (their names differ).
pub fn merge(routes: &[Arc<Route>]) -> Vec<Merged> {
    let mut queues: Vec<_> = routes.iter().map(|route| Queue::new(route)).collect();
    let mut heads: BinaryHeap<Head<'_>> = queues
        .iter()
        .zip(routes)
        .enumerate()
        .filter_map(|(index, (queue, route))| queue.head(index, route))
        .collect();
    let mut merged = Vec::new();
    while let Some(head) = heads.pop() {
        let (Some(queue), Some(route)) = (queues.get_mut(head.route), routes.get(head.route))
        else {
            continue;
        };
        merged.push(Merged {
            route: head.route,
            rule: queue.rule,
            matched: queue.matched,
        });
        queue.advance(route);
        heads.extend(queue.head(head.route, route));
    }
    merged
}

/// The next match of one route. The fields are compared in their order; the greatest is next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head<'a> {
    priority: i32,
    specificity: Specificity,
    name: Reverse<&'a RouteName>,
    route: usize,
}

/// Where a route's next match is.
struct Queue {
    rule: usize,
    matched: Option<usize>,
}

impl Queue {
    fn new(route: &Route) -> Self {
        Self {
            rule: 0,
            matched: first_match(route, 0),
        }
    }

    fn head<'a>(&self, index: usize, route: &'a Route) -> Option<Head<'a>> {
        let rule = route.rules.get(self.rule)?;
        let condition = self.matched.and_then(|matched| rule.matches.get(matched));
        Some(Head {
            priority: route.priority,
            specificity: condition.map(specificity).unwrap_or_default(),
            name: Reverse(&route.name),
            route: index,
        })
    }

    fn advance(&mut self, route: &Route) {
        let matches = route
            .rules
            .get(self.rule)
            .map_or(0, |rule| rule.matches.len());
        match self.matched.map(|matched| matched.saturating_add(1)) {
            Some(next) if next < matches => self.matched = Some(next),
            _ => {
                self.rule = self.rule.saturating_add(1);
                self.matched = first_match(route, self.rule);
            }
        }
    }
}

fn first_match(route: &Route, rule: usize) -> Option<usize> {
    let rule = route.rules.get(rule)?;
    (!rule.matches.is_empty()).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Action, Filters, HostPattern, Method, Mode, Pattern, Rule},
        names::{ListenerName, RuleName},
    };

    fn path(path: PathMatch) -> Match {
        Match {
            path: Some(path),
            ..Match::default()
        }
    }

    fn prefix(text: &str) -> Match {
        path(PathMatch::Prefix(text.to_owned()))
    }

    fn route(name: &str, priority: i32, rules: Vec<Vec<Match>>) -> Arc<Route> {
        let rules = rules.into_iter().enumerate().map(|(position, matches)| {
            Arc::new(Rule {
                name: RuleName::nth(position),
                matches,
                action: Action::Refused,
                timeout: None,
                filters: Filters::default(),
            })
        });
        Arc::new(Route {
            name: RouteName::new(name).unwrap(),
            listeners: vec![ListenerName::new("web").unwrap()],
            mode: Mode::Http,
            hosts: vec![HostPattern::Any],
            priority,
            rules: rules.collect(),
            timeout: None,
            filters: Filters::default(),
            client_certificates: None,
        })
    }

    fn merged(routes: &[Arc<Route>]) -> Vec<(usize, usize, Option<usize>)> {
        merge(routes)
            .into_iter()
            .map(|item| (item.route, item.rule, item.matched))
            .collect()
    }

    #[test]
    fn the_gateway_apis_order_ranks_matches() {
        let method = |mut condition: Match| {
            condition.methods = vec![Method::new("GET").unwrap()];
            condition
        };
        let query = |mut condition: Match| {
            condition.query = vec![("a".to_owned(), crate::model::ValueMatch::Present(true))];
            condition
        };
        let ascending = [
            Match::default(),
            query(prefix("/")),
            path(PathMatch::Regex(Pattern::new("/[a-z]*/long.*").unwrap())),
            prefix("/a"),
            path(PathMatch::StartsWith("/ab".to_owned())),
            query(prefix("/ab")),
            method(prefix("/ab")),
            path(PathMatch::Exact("/".to_owned())),
            method(path(PathMatch::Exact("/".to_owned()))),
        ];
        for pair in ascending.windows(2) {
            assert!(
                specificity(&pair[0]) < specificity(&pair[1]),
                "{:?} should be less specific than {:?}",
                pair[0],
                pair[1]
            );
        }
    }

    #[test]
    fn priority_comes_before_specificity_and_that_before_the_name() {
        let broad = route("a", 1, vec![vec![]]);
        let narrow = route("b", 0, vec![vec![prefix("/b")]]);
        let other = route("c", 0, vec![vec![prefix("/c")]]);
        let long = route("d", 0, vec![vec![prefix("/long")]]);
        assert_eq!(
            merged(&[other, narrow, long, broad]),
            [
                (3, 0, None),
                (2, 0, Some(0)),
                (1, 0, Some(0)),
                (0, 0, Some(0))
            ]
        );
    }

    #[test]
    fn the_order_inside_a_route_is_kept_even_where_it_hides_the_more_specific() {
        let kept = route("kept", 0, vec![vec![prefix("/a"), prefix("/abcd")], vec![]]);
        let between = route("between", 0, vec![vec![prefix("/abc")]]);
        assert_eq!(
            merged(&[kept, between]),
            [
                (1, 0, Some(0)),
                (0, 0, Some(0)),
                (0, 0, Some(1)),
                (0, 1, None)
            ]
        );
    }
}
