//! The rules of one host: those of every route that shares it, in the one merged order.
//!
//! Keys choose candidates; the first of them, in order, all of whose conditions hold is the rule.

use std::sync::Arc;

use sluice_config::{
    model::{
        self, Match,
        order::{self, Merged},
    },
    names::ListenerName,
};

use super::{
    Found, Question,
    entry::{Entry, Methods},
    keys::Keys,
    truth::{Truth, Values},
};

/// Compiled rules.
pub(super) struct Rules {
    routes: Vec<Arc<model::Route>>,
    /// In the order of `order`.
    entries: Vec<Entry>,
    order: Vec<Merged>,
    keys: Keys,
    methods: Methods,
    values: Values,
}

impl Rules {
    pub(super) fn compile(routes: &[&Arc<model::Route>]) -> Self {
        let routes: Vec<Arc<model::Route>> = routes.iter().copied().map(Arc::clone).collect();
        let order = order::merge(&routes);
        let mut rules = Self {
            keys: Keys::new(order.len()),
            entries: Vec::with_capacity(order.len()),
            routes,
            order,
            methods: Methods::default(),
            values: Values::default(),
        };
        let everything = Match::default();
        let (routes, order) = (rules.routes.clone(), rules.order.clone());
        for (position, item) in order.into_iter().enumerate() {
            let condition = condition(&routes, item).unwrap_or(&everything);
            let entry = Entry::compile(condition, &mut rules.methods, &mut rules.values);
            rules.keys.add(position, condition, &entry);
            rules.entries.push(entry);
        }
        rules.keys.seal();
        rules.values.seal();
        rules
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
        let method = self.methods.get(question.method).copied();
        let mut truth = Truth::new(&self.values, question);
        let candidates = self.keys.candidates(listener, method, &mut truth);
        let position = candidates.iter().find(|position| {
            self.entries.get(*position).is_some_and(|entry| {
                entry.admits(listener, method, question)
                    && entry.needs().iter().all(|need| truth.is_met(*need))
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

fn condition(routes: &[Arc<model::Route>], item: Merged) -> Option<&Match> {
    let rule = routes.get(item.route)?.rules.get(item.rule)?;
    rule.matches.get(item.matched?)
}
