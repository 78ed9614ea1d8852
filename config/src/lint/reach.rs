//! What no request can reach, and what is reached in an order that nobody wrote.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    at_rule, call,
    group::{Budget, Group},
    problem,
    witness::{self, Scene, Witness},
};
use crate::{
    Problem, Snapshot,
    model::{HostPattern, Listener, Match, Mode, Route},
    names::{ListenerName, RouteName},
};

/// A rule by its route and position.
type RuleKey = (RouteName, usize);

/// Why something is not reached.
#[derive(Clone)]
struct Blocker {
    /// What takes the requests, in a sentence.
    by: String,
    witness: Option<Witness>,
}

/// Reached somewhere, or blocked everywhere we looked.
#[derive(Clone)]
enum Reach {
    Reached,
    Blocked(Box<Blocker>),
}

/// What was learned over every host and listener.
#[derive(Default)]
struct Findings {
    /// Each host of each route, blocked by *other* routes.
    hosts: BTreeMap<(RouteName, HostPattern), Reach>,
    /// Each match of each rule (0 for a rule without).
    matches: BTreeMap<(RuleKey, usize), Reach>,
    /// The route that gives way, with those it gives way to.
    merged: BTreeMap<RouteName, Vec<Rival>>,
}

/// A route that is asked first where both match.
struct Rival {
    route: RouteName,
    host: HostPattern,
    by_name: bool,
    witness: Option<Witness>,
}

/// Every finding about who is reached.
pub(super) fn check(snapshot: &Snapshot, budget: &mut Budget) -> Vec<Problem> {
    let any = Match::default();
    let mut findings = Findings::default();
    let several = snapshot.listeners.len() > 1;
    let listeners = snapshot.listeners.values();
    let sides = listeners.flat_map(|listener| Mode::ALL.map(|mode| (listener, mode)));
    let open = sides.filter(|(listener, mode)| {
        mode.is_allowed_on(listener.protocol)
            && !(*mode == Mode::Http && listener.https_redirect.is_some())
    });
    for (listener, mode) in open {
        let hosts = hosts(snapshot, &listener.name, mode);
        let scene = Scene {
            // A stream comes to a listener, a request to a URL.
            listener: (several || mode != Mode::Http).then_some(&listener.name),
            mode,
            hello: mode.knows_sni(listener.protocol),
            home: listener.address.nominal(),
            offered: listener
                .tls
                .as_ref()
                .map_or(&[][..], |tls| tls.terms.alpn.as_slice()),
        };
        // What is passed through does not come to routes behind TLS.
        let through = match mode {
            Mode::Tcp if scene.hello => self::hosts(snapshot, &listener.name, Mode::Passthrough),
            _ => BTreeMap::new(),
        };
        // Many hosts share the same routes: what is true of these is learned once.
        let mut learned: HashMap<Vec<RouteName>, Vec<Option<usize>>> = HashMap::new();
        for (host, routes) in &hosts {
            if let Some(route) = alone(routes) {
                findings.note_reached(route, host);
                continue;
            }
            let group = Group::new(routes, &listener.name, &any);
            let names: Vec<RouteName> = routes.iter().map(|route| route.name.clone()).collect();
            let first = !learned.contains_key(&names);
            let shadows = learned
                .entry(names)
                .or_insert_with(|| group.shadows(budget));
            let sample = witness::sample_host(host, &hosts);
            let sample = sample.filter(|name| {
                let mut through = through.keys();
                !through.any(|pattern| witness::covers(pattern, name))
            });
            findings.note_shadows(&group, shadows, host, sample.as_deref(), scene);
            if first && routes.len() > 1 {
                findings.note_overlaps(&group, shadows, host, sample.as_deref(), (scene, budget));
            }
        }
    }
    let mut problems = findings.problems(snapshot);
    problems.extend(redirected(snapshot));
    if budget.0 == 0 {
        problems.push(problem(
            "lint_incomplete",
            "routes".to_owned(),
            "too many rules share a host to compare them all: some that no request reaches may go unnoticed".to_owned(),
            "split the routes by host",
        ));
    }
    problems
}

/// The routes of each host on a listener that take the same.
fn hosts<'a>(
    snapshot: &'a Snapshot,
    listener: &ListenerName,
    mode: Mode,
) -> BTreeMap<&'a HostPattern, Vec<Arc<Route>>> {
    let mut hosts: BTreeMap<&HostPattern, Vec<Arc<Route>>> = BTreeMap::new();
    for route in snapshot
        .routes
        .values()
        .filter(|route| route.mode == mode && route.listeners.contains(listener))
    {
        for host in &route.hosts {
            let routes = hosts.entry(host).or_default();
            // A host written twice in a route is one.
            if routes.last().is_none_or(|last| last.name != route.name) {
                routes.push(Arc::clone(route));
            }
        }
    }
    hosts
}

/// The route that has a host to itself, and nothing in it that could be in each other's way.
fn alone(routes: &[Arc<Route>]) -> Option<&Route> {
    let [route] = routes else {
        return None;
    };
    match route.rules.as_slice() {
        [rule] if rule.matches.len() <= 1 => Some(route),
        _ => None,
    }
}

/// Routes all of whose listeners redirect every request to https.
fn redirected(snapshot: &Snapshot) -> Vec<Problem> {
    let open = |listener: &Arc<Listener>| listener.https_redirect.is_none();
    let closed = snapshot.routes.values().filter(|route| {
        let mut listeners = route.listeners.iter();
        route.mode == Mode::Http
            && !listeners.any(|name| snapshot.listeners.get(name).is_some_and(open))
    });
    let problems = closed.map(|route| {
        problem(
            "unreachable_host",
            format!("routes.{}", route.name),
            "every listener of this route redirects every request to https".to_owned(),
            "bind the route to another listener with `listeners`, or take `https_redirect` away",
        )
    });
    problems.collect()
}

impl Findings {
    /// For a route of one rule with one match at most.
    fn note_reached(&mut self, route: &Route, host: &HostPattern) {
        let reached = Reach::Reached;
        self.matches
            .insert(((route.name.clone(), 0), 0), reached.clone());
        self.hosts
            .insert((route.name.clone(), host.clone()), reached);
    }

    fn note_shadows(
        &mut self,
        group: &Group<'_>,
        shadows: &[Option<usize>],
        host: &HostPattern,
        sample: Option<&str>,
        scene: Scene<'_>,
    ) {
        for (entry, shadow) in group.entries.iter().zip(shadows) {
            let Some(route) = group.routes.get(entry.merged.route) else {
                continue;
            };
            let matched = entry.merged.matched.unwrap_or_default();
            let key = ((route.name.clone(), entry.merged.rule), matched);
            let earlier = shadow.and_then(|shadow| group.entries.get(shadow));
            let winner = earlier.and_then(|earlier| {
                Some((group.routes.get(earlier.merged.route)?, earlier.merged))
            });
            let Some((winner, merged)) = winner else {
                self.matches.insert(key, Reach::Reached);
                self.hosts
                    .insert((route.name.clone(), host.clone()), Reach::Reached);
                continue;
            };
            let blocked = || {
                let witness = sample
                    .and_then(|host| Witness::new(&[entry.condition], host.to_owned(), scene));
                Reach::Blocked(Box::new(Blocker {
                    by: call(winner, merged.rule),
                    witness,
                }))
            };
            self.matches.entry(key).or_insert_with(blocked);
            let whole = self.hosts.entry((route.name.clone(), host.clone()));
            if winner.name == route.name {
                // Its own route takes it: the host is reached.
                whole
                    .and_modify(|reach| *reach = Reach::Reached)
                    .or_insert(Reach::Reached);
            } else {
                whole.or_insert_with(blocked);
            }
        }
    }

    fn note_overlaps(
        &mut self,
        group: &Group<'_>,
        shadows: &[Option<usize>],
        host: &HostPattern,
        sample: Option<&str>,
        (scene, budget): (Scene<'_>, &mut Budget),
    ) {
        // Whether two rules overlap does not depend on the host; only showing it needs one.
        let host_name = sample.unwrap_or("host");
        for overlap in group.overlaps(shadows, host_name, scene, budget) {
            let entry = |position: usize| {
                let entry = group.entries.get(position)?;
                Some((entry, group.routes.get(entry.merged.route)?))
            };
            let (Some((first, winner)), Some((second, loser))) =
                (entry(overlap.first), entry(overlap.second))
            else {
                continue;
            };
            let rank = |condition| crate::model::order::specificity(condition);
            let rivals = self.merged.entry(loser.name.clone()).or_default();
            if rivals.iter().all(|rival| rival.route != winner.name) {
                rivals.push(Rival {
                    route: winner.name.clone(),
                    host: host.clone(),
                    by_name: rank(first.condition) == rank(second.condition),
                    witness: sample.map(|_| overlap.witness),
                });
            }
        }
    }

    fn problems(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let mut problems = Vec::new();
        for route in snapshot.routes.values() {
            let hosts = self.unreachable_hosts(route);
            let all = hosts.len() == route.hosts.len();
            problems.extend(hosts);
            if !all {
                problems.extend(self.shadowed(route));
            }
            problems.extend(self.merged_by_specificity(route));
        }
        problems
    }

    fn unreachable_hosts(&self, route: &Route) -> Vec<Problem> {
        let hosts = route
            .hosts
            .iter()
            .enumerate()
            .filter_map(|(position, host)| {
                let reach = self.hosts.get(&(route.name.clone(), host.clone()))?;
                let Reach::Blocked(blocker) = reach else {
                    return None;
                };
                let (name, noun, by) = (route.name.as_str(), noun(route.mode), &blocker.by);
                let nameless = matches!(route.mode, Mode::Tcp | Mode::Udp);
                let (what, at, hint) = if nameless && *host == HostPattern::Any {
                    (
                        format!("no {noun} reaches route {name:?}: {by} takes them first"),
                        format!("routes.{name}"),
                        "give this route the higher `priority`, or make the other one narrower",
                    )
                } else {
                    (
                        format!(
                            "no {noun} for host \"{host}\" reaches route {name:?}: {by} takes them \
                             first"
                        ),
                        format!("routes.{name}.hosts[{position}]"),
                        "give this route the higher `priority`, or take the host away",
                    )
                };
                Some(with_witness(
                    problem("unreachable_host", at, what, hint),
                    blocker,
                ))
            });
        hosts.collect()
    }

    fn shadowed(&self, route: &Route) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (position, rule) in route.rules.iter().enumerate() {
            let key = (route.name.clone(), position);
            let reaches: Vec<_> = (0..rule.matches.len().max(1))
                .filter_map(|matched| Some((matched, self.matches.get(&(key.clone(), matched))?)))
                .collect();
            let dead: Vec<_> = reaches
                .iter()
                .filter_map(|(matched, reach)| match reach {
                    Reach::Blocked(blocker) => Some((*matched, blocker)),
                    Reach::Reached => None,
                })
                .collect();
            let at = at_rule(route, position);
            let hint = "take it away, make the earlier rule narrower, or move this one before it";
            match dead.first() {
                None => {}
                Some((_, blocker)) if dead.len() == reaches.len() => {
                    let noun = noun(route.mode);
                    let what = format!(
                        "no {noun} reaches this rule: {} takes them first",
                        blocker.by
                    );
                    problems.push(with_witness(
                        problem("shadowed_rule", at, what, hint),
                        blocker,
                    ));
                }
                Some(_) => problems.extend(dead.iter().map(|(matched, blocker)| {
                    let noun = noun(route.mode);
                    let what = format!(
                        "no {noun} reaches this match: {} takes them first",
                        blocker.by
                    );
                    let at = format!("{at}.match[{matched}]");
                    with_witness(problem("shadowed_match", at, what, hint), blocker)
                })),
            }
        }
        problems
    }

    fn merged_by_specificity(&self, route: &Route) -> Option<Problem> {
        let rivals = self.merged.get(&route.name)?;
        let first = rivals.first()?;
        let others = rivals.len().saturating_sub(1);
        let more = match others {
            0 => String::new(),
            others => format!(" (and those of {others} more routes)"),
        };
        let why = if first.by_name {
            "its name is the smaller one and nothing else tells them apart"
        } else {
            "they are more specific"
        };
        let what = format!(
            "shares host \"{}\" with route {:?}, whose rules{more} are asked first where both match, because {why}",
            first.host,
            first.route.as_str(),
        );
        let hint = "give one of the routes a `priority` to say which is meant";
        let found = problem(
            "merged_by_specificity",
            format!("routes.{}", route.name),
            what,
            hint,
        );
        Some(Problem {
            witness: first.witness.as_ref().map(ToString::to_string),
            ..found
        })
    }
}

/// What rules are chosen for.
fn noun(mode: Mode) -> &'static str {
    match mode {
        Mode::Http => "request",
        Mode::Tcp | Mode::Passthrough => "stream",
        Mode::Udp => "datagram",
    }
}

fn with_witness(found: Problem, blocker: &Blocker) -> Problem {
    Problem {
        witness: blocker.witness.as_ref().map(ToString::to_string),
        ..found
    }
}
