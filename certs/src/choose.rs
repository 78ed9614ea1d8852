//! Which certificate answers for a name: an exact host, the longest wildcard, one that was ordered when a
//! client asked for it, the default if one is named.
//!
//! A wildcard host stands for one or more labels, as everywhere in the configuration; a certificate
//! answers only for names that it covers itself. Looking one up costs the same however many there are.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use rustls::sign::CertifiedKey;

use crate::{
    acme::{Keeper, Pending},
    error::AcceptError,
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
    /// For clients that ask for nobody, as those do that were given an address.
    nameless: Option<Arc<Slot>>,
    /// What validating servers are answered.
    pending: Option<Arc<Pending>>,
    /// Who keeps what is ordered when a client asks for it, and from whom.
    demand: Option<(Keeper, Box<str>)>,
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
        Self {
            hosts,
            default,
            nameless: None,
            pending: None,
            demand: None,
        }
    }

    /// The same, with an answer for clients that ask for nobody, unless there is a default.
    #[must_use]
    pub fn answering_nameless(self, nameless: Option<Arc<Slot>>) -> Self {
        Self { nameless, ..self }
    }

    /// The same, with answers for validating servers.
    #[must_use]
    pub fn answering(self, pending: Arc<Pending>) -> Self {
        Self {
            pending: Some(pending),
            ..self
        }
    }

    /// The same, and `issuer` is asked for hosts that nothing is for.
    #[must_use]
    pub fn ordering(self, keeper: Keeper, issuer: &str) -> Self {
        Self {
            demand: Some((keeper, issuer.into())),
            ..self
        }
    }

    /// What answers a client that asked for `host`, or for nobody. A name that is asked for is covered by
    /// what is found, unless that is the default.
    pub fn find(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        self.own(host).or_else(|| self.default(host))
    }

    /// The same, unless something better than the default may have to be ordered.
    pub(crate) fn at_hand(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        let is_ordered = self.demand.is_some() && host.is_some();
        let default = || self.default(host).filter(|_| !is_ordered);
        self.own(host).or_else(default)
    }

    /// What answers a client that nothing is at hand for: it is ordered, if that is allowed.
    pub(crate) async fn order(&self, host: Option<&str>) -> Result<Arc<Pairs>, AcceptError> {
        let denied = match (&self.demand, host) {
            (Some((keeper, issuer)), Some(host)) => match keeper.demand(issuer, host).await {
                Ok(pairs) => return Ok(pairs),
                Err(denied) => Some(denied),
            },
            (None, _) | (_, None) => None,
        };
        // It may have been ordered meanwhile because the configuration wants it.
        self.find(host).ok_or_else(|| match (host, denied) {
            (Some(host), Some(denied)) => AcceptError::NotIssued(host.into(), denied),
            (host, _) => AcceptError::UnrecognizedName(host.map(Into::into)),
        })
    }

    /// What a validating server is shown that asks for `host`.
    pub(crate) async fn validation(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        self.pending.as_ref()?.find_alpn(host?).await
    }

    fn default(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        let nameless = || self.nameless.as_ref().filter(|_| host.is_none());
        self.default.as_ref().or_else(nameless)?.pairs()
    }

    fn own(&self, host: Option<&str>) -> Option<Arc<Pairs>> {
        let host = name::normal(host?);
        let slots = self.hosts.matching(&host).flatten();
        let mut pairs = slots.filter_map(|slot| slot.pairs());
        let found = pairs.find(|pairs| pairs.covers(&host));
        found.or_else(|| {
            let (keeper, issuer) = self.demand.as_ref()?;
            keeper.held(issuer, &host)
        })
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
    fn who_asks_for_nobody_gets_the_default_before_what_is_for_the_nameless() {
        let nameless = Some(slot("here", &["127.0.0.1"]));
        let choice = Choice::new([(slot("one", &["one.example"]), ["one.example"])], None);
        let choice = choice.answering_nameless(nameless.clone());
        assert_eq!(names(choice.find(None)).as_deref(), Some("127.0.0.1"));
        assert_eq!(names(choice.find(Some("other.test"))), None);
        let default = slot("default", &["fallback.example"]);
        let choice = Choice::new(Vec::<(Arc<Slot>, [&str; 0])>::new(), Some(default));
        let choice = choice.answering_nameless(nameless);
        assert_eq!(
            names(choice.find(None)).as_deref(),
            Some("fallback.example")
        );
    }

    #[test]
    fn a_slot_that_is_still_empty_answers_nobody() {
        let choice = Choice::new([(Arc::new(Slot::new("one")), ["one.example"])], None);
        assert!(choice.find(Some("one.example")).is_none());
    }
}
