//! Which certificate answers for a name: an exact host, the longest wildcard, the default if one is
//! named.
//!
//! A wildcard host stands for one or more labels, as everywhere in the configuration; a certificate
//! answers only for names that it covers itself. Looking one up costs the same however many there are.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{
    name,
    slot::{Pairs, Slot},
};

/// Something per host.
#[derive(Debug, Clone)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T, RandomState>,
    /// By what follows the `*`: `.example.com`.
    wildcards: HashMap<Box<str>, T, RandomState>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            wildcards: HashMap::default(),
            any: None,
        }
    }
}

impl<T> Hosts<T> {
    /// What stands at `host` (`a.example`, `*.example` or `*`), made when nothing does.
    pub fn entry(&mut self, host: &str, make: impl FnOnce() -> T) -> &mut T {
        let host = name::normal(host);
        match host.strip_prefix('*') {
            Some("") => self.any.get_or_insert_with(make),
            Some(suffix) => self.wildcards.entry(suffix.into()).or_insert_with(make),
            None => self.exact.entry(host.into()).or_insert_with(make),
        }
    }

    /// What stands at the exact host, then at each wildcard from the longest, then at `*`. `host` is
    /// normal.
    pub fn matching<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t T> {
        let exact = self.exact.get(host).into_iter();
        let dots = host.match_indices('.').filter(|(dot, _)| *dot > 0);
        let wildcards = dots
            .take_while(|_| !self.wildcards.is_empty())
            .filter_map(|(dot, _)| self.wildcards.get(host.get(dot..)?));
        exact.chain(wildcards).chain(&self.any)
    }

    /// The first of [`Self::matching`].
    pub fn first(&self, host: &str) -> Option<&T> {
        let exact = self.exact.get(host);
        exact
            .or_else(|| {
                let dots = host.match_indices('.').filter(|(dot, _)| *dot > 0);
                dots.take_while(|_| !self.wildcards.is_empty())
                    .find_map(|(dot, _)| self.wildcards.get(host.get(dot..)?))
            })
            .or(self.any.as_ref())
    }

    /// Everything that stands anywhere.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let named = self.exact.values().chain(self.wildcards.values());
        named.chain(&self.any)
    }

    /// What stands at `*`.
    pub fn any(&self) -> Option<&T> {
        self.any.as_ref()
    }
}

/// The certificates of one listener.
#[derive(Debug, Default)]
pub struct Choice {
    hosts: Hosts<Vec<Arc<Slot>>>,
    default: Option<Arc<Slot>>,
}

impl Choice {
    /// Each certificate with its hosts, earlier ones first; `default` answers when no other does.
    pub fn new<'h, H>(
        certificates: impl IntoIterator<Item = (Arc<Slot>, H)>,
        default: Option<Arc<Slot>>,
    ) -> Self
    where
        H: IntoIterator<Item = &'h str>,
    {
        let mut hosts: Hosts<Vec<Arc<Slot>>> = Hosts::default();
        for (slot, names) in certificates {
            for name in names {
                hosts.entry(name, Vec::new).push(Arc::clone(&slot));
            }
        }
        Self { hosts, default }
    }

    /// What answers a client that asked for `host`, or for nobody. A name that is asked for is covered by
    /// what is found, unless that is the default.
    pub fn find(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        let host = host.map(name::normal);
        let found = host.as_deref().and_then(|host| {
            let slots = self.hosts.matching(host).flatten();
            let mut pairs = slots.filter_map(|slot| slot.pairs());
            pairs.find(|pairs| pairs.covers(host))
        });
        found.or_else(|| self.default.as_ref()?.pairs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    fn slot(name: &str, certified: &[&str]) -> Arc<Slot> {
        let slot = Slot::new(name);
        let pair = Authority::default().server(certified).pair();
        slot.set(Pairs::new(vec![pair]).unwrap());
        Arc::new(slot)
    }

    fn names(pairs: Option<Arc<Pairs>>) -> Option<String> {
        let pairs = pairs?;
        let pair = pairs.iter().next()?;
        pair.facts().names.first().cloned()
    }

    #[test]
    fn the_most_specific_certificate_that_covers_the_name_answers() {
        let choice = Choice::new(
            [
                (slot("one", &["one.example"]), vec!["one.example"]),
                (slot("wild", &["*.example"]), vec!["*.example"]),
                (slot("deep", &["*.deep.example"]), vec!["*.deep.example"]),
                (slot("second", &["one.example"]), vec!["one.example"]),
            ],
            None,
        );
        for (asked, expected) in [
            ("one.example", Some("one.example")),
            ("ONE.Example.", Some("one.example")),
            ("two.example", Some("*.example")),
            ("a.deep.example", Some("*.deep.example")),
            // The host `*.example` stands for it, but no certificate covers it.
            ("a.b.example", None),
            ("example", None),
            ("other.test", None),
        ] {
            let found = names(choice.find(Some(asked)));
            assert_eq!(found.as_deref(), expected, "{asked}");
        }
        assert_eq!(names(choice.find(None)), None);
    }

    #[test]
    fn only_a_named_default_answers_for_names_that_no_certificate_covers() {
        let default = slot("default", &["fallback.example"]);
        let choice = Choice::new(
            [(slot("one", &["one.example"]), ["one.example"])],
            Some(default),
        );
        for (asked, expected) in [
            (Some("one.example"), "one.example"),
            (Some("other.test"), "fallback.example"),
            (None, "fallback.example"),
        ] {
            assert_eq!(names(choice.find(asked)).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_slot_that_is_still_empty_answers_nobody() {
        let choice = Choice::new([(Arc::new(Slot::new("one")), ["one.example"])], None);
        assert!(choice.find(Some("one.example")).is_none());
    }
}
