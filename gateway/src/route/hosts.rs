//! Which rules answer for a host: exact, then the longest wildcard, then any.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use sluice_config::model::{HostPattern, Mode};

use super::rules::Rules;

/// The hosts of one listener, by what their routes take: a name that is passed through has nothing to do
/// with the same name where TLS is ended.
#[derive(Default)]
pub(super) struct Modes {
    http: Hosts,
    tcp: Hosts,
    passthrough: Hosts,
    udp: Hosts,
}

impl Modes {
    pub(super) fn of(&self, mode: Mode) -> &Hosts {
        match mode {
            Mode::Http => &self.http,
            Mode::Tcp => &self.tcp,
            Mode::Passthrough => &self.passthrough,
            Mode::Udp => &self.udp,
        }
    }

    pub(super) fn of_mut(&mut self, mode: Mode) -> &mut Hosts {
        match mode {
            Mode::Http => &mut self.http,
            Mode::Tcp => &mut self.tcp,
            Mode::Passthrough => &mut self.passthrough,
            Mode::Udp => &mut self.udp,
        }
    }
}

/// The hosts of one listener and mode.
#[derive(Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Arc<Rules>, RandomState>,
    /// By what follows the `*`: `.example.com`.
    wildcards: HashMap<Box<str>, Arc<Rules>, RandomState>,
    any: Option<Arc<Rules>>,
}

impl Hosts {
    pub(super) fn insert(&mut self, host: &HostPattern, rules: Arc<Rules>) {
        match host {
            HostPattern::Exact(host) => drop(self.exact.insert(host.as_str().into(), rules)),
            HostPattern::Wildcard(suffix) => {
                drop(self.wildcards.insert(suffix.as_str().into(), rules));
            }
            HostPattern::Any => self.any = Some(rules),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.any.is_none()
    }

    /// A request without a host (HTTP/1.0) gets what `*` gets.
    pub(super) fn find(&self, host: Option<&str>) -> Option<&Arc<Rules>> {
        host.and_then(|host| self.exact.get(host).or_else(|| self.wildcard(host)))
            .or(self.any.as_ref())
    }

    /// A wildcard stands for one or more labels, so the first dot may not be the first character.
    fn wildcard(&self, host: &str) -> Option<&Arc<Rules>> {
        if self.wildcards.is_empty() {
            return None;
        }
        host.match_indices('.')
            .filter(|(dot, _)| *dot > 0)
            .find_map(|(dot, _)| self.wildcards.get(host.get(dot..)?))
    }

    /// The pattern that [`Hosts::find`] goes by.
    pub(super) fn pattern(&self, host: Option<&str>) -> Option<HostPattern> {
        if let Some(host) = host {
            if self.exact.contains_key(host) {
                return Some(HostPattern::Exact(host.to_owned()));
            }
            let suffixes = host.match_indices('.').filter(|(dot, _)| *dot > 0);
            let found = suffixes
                .filter_map(|(dot, _)| host.get(dot..))
                .find(|suffix| self.wildcards.contains_key(*suffix));
            if let Some(suffix) = found {
                return Some(HostPattern::Wildcard(suffix.to_owned()));
            }
        }
        self.any.is_some().then_some(HostPattern::Any)
    }

    /// Every host with its rules, for whoever looks for the nearest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (HostPattern, &Arc<Rules>)> {
        let exact = self
            .exact
            .iter()
            .map(|(host, rules)| (HostPattern::Exact(host.to_string()), rules));
        let wildcards = self
            .wildcards
            .iter()
            .map(|(suffix, rules)| (HostPattern::Wildcard(suffix.to_string()), rules));
        let any = self.any.iter().map(|rules| (HostPattern::Any, rules));
        exact.chain(wildcards).chain(any)
    }
}
