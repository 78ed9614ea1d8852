//! The rules of one host: those of every route that shares it, in the one merged order.
//!
//! The path chooses candidates through an index; the first of them, in order, whose other
//! conditions hold is the rule.

use std::{collections::HashMap, sync::Arc};

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
    /// Entries without a condition on the path.
    any_path: Set,
    /// The others, by position.
    paths: Texts,
    methods: Methods,
    values: Values,
}

/// The conditions of one match, but for the path.
#[derive(Default)]
struct Entry {
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
        let mut any_path = Set::new(order.len());
        let mut paths = Texts::default();
        let mut methods = Methods::default();
        let mut values = Values::default();
        let everything = Match::default();
        let mut entries = Vec::with_capacity(order.len());
        for (position, item) in order.iter().enumerate() {
            let condition = condition(&routes, *item).unwrap_or(&everything);
            match &condition.path {
                None => any_path.insert(position),
                Some(PathMatch::Exact(text)) => paths.exact(text, position),
                Some(PathMatch::Prefix(text)) => paths.under(text, position),
                Some(PathMatch::StartsWith(text)) => paths.starts(text, position),
                Some(PathMatch::Regex(pattern)) => paths.matches(pattern, position),
            }
            entries.push(Entry::compile(condition, &mut methods, &mut values));
        }
        paths.seal();
        values.seal();
        Self {
            routes,
            entries,
            order,
            any_path,
            paths,
            methods,
            values,
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
        let mut candidates = self.any_path.clone();
        self.paths
            .each(question.path, |position| candidates.insert(position));
        let method = self.methods.get(question.method).copied();
        let mut truth = Truth::new(&self.values, question);
        let position = candidates.iter().find(|position| {
            self.entries.get(*position).is_some_and(|entry| {
                entry.admits_method(method)
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
            methods,
            clients: condition.clients.clone().into(),
            listeners: condition.listeners.clone().into(),
            needs: needs.into(),
        }
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

fn condition(routes: &[Arc<model::Route>], item: Merged) -> Option<&Match> {
    let rule = routes.get(item.route)?.rules.get(item.rule)?;
    rule.matches.get(item.matched?)
}
