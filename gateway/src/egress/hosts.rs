//! Which rules are for a host, the most specific first.

use std::{cmp::Reverse, collections::HashMap};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use sluice_config::model::{EgressHost, EgressRule, HostPattern};

use super::Target;

/// Positions of rules, which stand in the order of their names.
type Rules = Vec<usize>;

/// The hosts of every rule.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Rules, RandomState>,
    /// By what follows the `*`: `.example.com`.
    wildcards: HashMap<Box<str>, Rules, RandomState>,
    any: Rules,
    /// The longer first, and then in the order of names.
    networks: Vec<(IpNet, usize)>,
}

impl Hosts {
    pub(super) fn compile(rules: &[EgressRule]) -> Self {
        let mut hosts = Self::default();
        for (position, rule) in rules.iter().enumerate() {
            for host in &rule.hosts {
                let rules = match host {
                    EgressHost::Network(network) => {
                        hosts.networks.push((*network, position));
                        continue;
                    }
                    EgressHost::Name(HostPattern::Exact(name)) => {
                        hosts.exact.entry(name.as_str().into()).or_default()
                    }
                    EgressHost::Name(HostPattern::Wildcard(suffix)) => {
                        hosts.wildcards.entry(suffix.as_str().into()).or_default()
                    }
                    EgressHost::Name(HostPattern::Any) => &mut hosts.any,
                };
                rules.push(position);
            }
        }
        // Stable, so that what is equally long stays in the order of names.
        let length = |(network, _): &(IpNet, usize)| Reverse(network.prefix_len());
        hosts.networks.sort_by_key(length);
        hosts
    }

    /// Every rule for `target`, the most specific first.
    pub(super) fn find<'h>(&'h self, target: &'h Target) -> impl Iterator<Item = usize> + 'h {
        let (name, address) = match target {
            Target::Name(name) => (Some(&**name), None),
            Target::Address(address) => (None, Some(*address)),
        };
        let exact = name.and_then(|name| self.exact.get(name));
        // A wildcard stands for one or more labels, and no label is empty: the first dot is not the first
        // character.
        let name = name.filter(|_| !self.wildcards.is_empty());
        let dots = name.into_iter().flat_map(|name| {
            let dots = name.match_indices('.');
            dots.filter_map(|(dot, _)| name.get(dot..))
        });
        let wildcards = dots.filter_map(|suffix| self.wildcards.get(suffix));
        let any = address.is_none().then_some(&self.any);
        let named = exact.into_iter().chain(wildcards).chain(any).flatten();
        let networks = address.into_iter().flat_map(|address| {
            let networks = self.networks.iter();
            networks.filter(move |(network, _)| network.contains(&address))
        });
        named.chain(networks.map(|(_, position)| position)).copied()
    }
}
