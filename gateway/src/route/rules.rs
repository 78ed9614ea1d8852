//! The rules of one host: those of every route that shares it, in the one merged order.
//!
//! One condition of each rule serves as its key: the path, else a value, else the method. Keys
//! choose candidates; the first of them, in order, all of whose conditions hold is the rule.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use sluice_config::{
    model::{
        self, Match, PathMatch,
        order::{self, Merged},
    },
    names::ListenerName,
};

use super::{
    Found, Question,
    candidates::Set,
    texts::Texts,
    truth::{Kind, Need, Truth, Values},
};

/// Compiled rules.
pub(super) struct Rules {
    routes: Vec<Arc<model::Route>>,
    /// In the order of `order`.
    entries: Vec<Entry>,
    order: Vec<Merged>,
    /// Entries without a key.
    always: Set,
    /// Those whose key is a path.
    paths: Texts,
    /// Those whose key is a condition on a value, by its number.
    by_value: Vec<Vec<usize>>,
    /// Those whose key is that a value is absent, by the number of its presence.
    by_absence: BTreeMap<usize, Vec<usize>>,
    /// The kinds of conditions that are keys.
    kinds: Vec<Kind>,
    /// Those whose key are methods, by their numbers.
    by_method: Vec<Vec<usize>>,
    methods: Methods,
    values: Values,
}

/// The conditions of one match, but for a path that is the key.
struct Entry {
    /// Every path but `*`.
    rooted: bool,
    /// Numbers of methods; empty means every method.
    methods: Box<[usize]>,
    clients: Box<[IpNet]>,
    listeners: Box<[ListenerName]>,
    needs: Box<[Need]>,
}

/// Every method among the rules has a number: numbers compare faster than texts.
type Methods = HashMap<Box<str>, usize, RandomState>;

impl Rules {
    pub(super) fn compile(routes: &[&Arc<model::Route>]) -> Self {
        let routes: Vec<Arc<model::Route>> = routes.iter().copied().map(Arc::clone).collect();
        let order = order::merge(&routes);
        let mut rules = Self {
            always: Set::new(order.len()),
            entries: Vec::with_capacity(order.len()),
            routes,
            order,
            paths: Texts::default(),
            by_value: Vec::new(),
            by_absence: BTreeMap::new(),
            kinds: Vec::new(),
            by_method: Vec::new(),
            methods: Methods::default(),
            values: Values::default(),
        };
        let everything = Match::default();
        let (routes, order) = (rules.routes.clone(), rules.order.clone());
        for (position, item) in order.into_iter().enumerate() {
            let condition = condition(&routes, item).unwrap_or(&everything);
            let entry = Entry::compile(condition, &mut rules.methods, &mut rules.values);
            rules.index(position, condition.path.as_ref(), &entry);
            rules.entries.push(entry);
        }
        rules.paths.seal();
        rules.values.seal();
        rules
    }

    /// Chooses the key of an entry.
    fn index(&mut self, position: usize, path: Option<&PathMatch>, entry: &Entry) {
        match path {
            None => self.index_without_path(position, entry),
            Some(_) if entry.rooted => self.index_without_path(position, entry),
            Some(PathMatch::Exact(text)) => self.paths.exact(text, position),
            Some(PathMatch::Prefix(text)) => self.paths.under(text, position),
            Some(PathMatch::StartsWith(text)) => self.paths.starts(text, position),
            Some(PathMatch::Regex(pattern)) => self.paths.matches(pattern, position),
        }
    }

    fn index_without_path(&mut self, position: usize, entry: &Entry) {
        // What has to be there rules out more than what has to be absent.
        let present = entry.needs.iter().find(|need| need.holds());
        if let Some(need) = present.or(entry.needs.first()) {
            if need.holds() {
                add(&mut self.by_value, need.number(), position);
            } else {
                let absent = self.by_absence.entry(need.number()).or_default();
                absent.push(position);
            }
            if !self.kinds.contains(&need.kind()) {
                self.kinds.push(need.kind());
            }
        } else if entry.methods.is_empty() {
            self.always.insert(position);
        } else {
            for number in &entry.methods {
                add(&mut self.by_method, *number, position);
            }
        }
    }

    /// Whether it was compiled from just these.
    pub(super) fn is_of(&self, routes: &[&Arc<model::Route>]) -> bool {
        self.routes.len() == routes.len()
            && self
                .routes
                .iter()
                .zip(routes)
                .all(|(ours, theirs)| Arc::ptr_eq(ours, theirs) || ours == *theirs)
    }

    pub(super) fn find(
        &self,
        listener: &ListenerName,
        question: &Question<'_>,
    ) -> Option<Found<'_>> {
        let mut candidates = self.always.clone();
        self.paths
            .each(question.path, |position| candidates.insert(position));
        let method = self.methods.get(question.method).copied();
        let of_method = method.and_then(|method| self.by_method.get(method));
        let mut truth = Truth::new(&self.values, question);
        for kind in &self.kinds {
            truth.look_at(*kind);
        }
        let holding = truth.holding();
        let of_value = holding
            .iter()
            .filter_map(|number| self.by_value.get(number));
        let absent = self.by_absence.iter();
        let absent = absent.filter(|(number, _)| !holding.contains(**number));
        let keyed = of_value
            .chain(of_method)
            .chain(absent.map(|(_, list)| list));
        for position in keyed.flatten() {
            candidates.insert(*position);
        }
        let position = candidates.iter().find(|position| {
            self.entries.get(*position).is_some_and(|entry| {
                entry.admits_path(question)
                    && entry.admits_method(method)
                    && entry.admits_listener(listener)
                    && entry.admits_client(question)
                    && entry.needs.iter().all(|need| truth.is_met(*need))
            })
        })?;
        self.at(position)
    }

    /// The rule and match at a position of the merged order.
    pub(super) fn at(&self, position: usize) -> Option<Found<'_>> {
        let item = self.order.get(position)?;
        Some(Found {
            route: self.routes.get(item.route)?,
            rule: item.rule,
            matched: item.matched,
        })
    }

    /// Every rule and match, in the merged order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        (0..self.order.len()).filter_map(|position| self.at(position))
    }
}

impl Entry {
    fn compile(condition: &Match, methods: &mut Methods, values: &mut Values) -> Self {
        let number = |method: &model::Method| {
            let next = methods.len();
            *methods.entry(method.as_str().into()).or_insert(next)
        };
        let methods = condition.methods.iter().map(number).collect();
        let mut needs = Vec::new();
        for header in &condition.headers {
            needs.push(values.add(Kind::Header, header.name.as_str(), &header.value));
        }
        for (name, value) in &condition.query {
            needs.push(values.add(Kind::Query, name, value));
        }
        for (name, value) in &condition.cookies {
            needs.push(values.add(Kind::Cookie, name, value));
        }
        Self {
            rooted: match &condition.path {
                Some(PathMatch::Prefix(text) | PathMatch::StartsWith(text)) => text == "/",
                Some(PathMatch::Exact(_) | PathMatch::Regex(_)) | None => false,
            },
            methods,
            clients: condition.clients.clone().into(),
            listeners: condition.listeners.clone().into(),
            needs: needs.into(),
        }
    }

    fn admits_path(&self, question: &Question<'_>) -> bool {
        !self.rooted || question.path.starts_with('/')
    }

    fn admits_method(&self, method: Option<usize>) -> bool {
        self.methods.is_empty() || method.is_some_and(|method| self.methods.contains(&method))
    }

    fn admits_listener(&self, listener: &ListenerName) -> bool {
        self.listeners.is_empty() || self.listeners.contains(listener)
    }

    fn admits_client(&self, question: &Question<'_>) -> bool {
        self.clients.is_empty()
            || self
                .clients
                .iter()
                .any(|net| net.contains(&question.client))
    }
}

/// Adds to the list of a number, which may be the first of it.
fn add(lists: &mut Vec<Vec<usize>>, number: usize, position: usize) {
    if lists.len() <= number {
        lists.resize_with(number.saturating_add(1), Vec::new);
    }
    if let Some(list) = lists.get_mut(number) {
        list.push(position);
    }
}

fn condition(routes: &[Arc<model::Route>], item: Merged) -> Option<&Match> {
    let rule = routes.get(item.route)?.rules.get(item.rule)?;
    rule.matches.get(item.matched?)
}
