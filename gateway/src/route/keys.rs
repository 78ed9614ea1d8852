//! One condition of each rule serves as its key; a question names the rules whose keys hold.
//!
//! A key only has to be necessary, so whoever asks holds the other conditions of each candidate
//! against the request. The one that rules out most is chosen: the path, else a value that has to
//! be there, one that has to be absent, the method, the client, the listener.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use sluice_config::{
    model::{Match, PathMatch},
    names::ListenerName,
};

use super::{
    candidates::Set,
    entry::Entry,
    texts::Texts,
    truth::{Kind, Truth},
};

/// Positions of rules.
type Positions = Vec<usize>;

/// The rules of a host by their keys.
pub(super) struct Keys {
    /// Rules without a key.
    always: Set,
    paths: Texts,
    /// By the number of a condition on a value.
    by_value: Vec<Positions>,
    /// By the number of the presence that may not be.
    by_absence: BTreeMap<usize, Positions>,
    /// The kinds of values that are keys.
    kinds: Vec<Kind>,
    /// By the number of a method.
    by_method: Vec<Positions>,
    /// By the length of a network's prefix, then by the network.
    by_client: BTreeMap<u8, HashMap<IpNet, Positions, RandomState>>,
    by_listener: HashMap<ListenerName, Positions, RandomState>,
}

impl Keys {
    /// For rules at positions below `length`.
    pub(super) fn new(length: usize) -> Self {
        Self {
            always: Set::new(length),
            paths: Texts::default(),
            by_value: Vec::new(),
            by_absence: BTreeMap::new(),
            kinds: Vec::new(),
            by_method: Vec::new(),
            by_client: BTreeMap::new(),
            by_listener: HashMap::default(),
        }
    }

    pub(super) fn add(&mut self, position: usize, condition: &Match, entry: &Entry) {
        match &condition.path {
            Some(_) if entry.is_rooted() => self.add_without_path(position, condition, entry),
            Some(PathMatch::Exact(text)) => self.paths.exact(text, position),
            Some(PathMatch::Prefix(text)) => self.paths.under(text, position),
            Some(PathMatch::StartsWith(text)) => self.paths.starts(text, position),
            Some(PathMatch::Regex(pattern)) => self.paths.matches(pattern, position),
            None => self.add_without_path(position, condition, entry),
        }
    }

    fn add_without_path(&mut self, position: usize, condition: &Match, entry: &Entry) {
        let needs = entry.needs();
        let present = needs.iter().find(|need| need.holds());
        if let Some(need) = present.or(needs.first()) {
            if need.holds() {
                push(&mut self.by_value, need.number(), position);
            } else {
                let absent = self.by_absence.entry(need.number()).or_default();
                absent.push(position);
            }
            if !self.kinds.contains(&need.kind()) {
                self.kinds.push(need.kind());
            }
        } else if !entry.methods().is_empty() {
            for number in entry.methods() {
                push(&mut self.by_method, *number, position);
            }
        } else if !condition.clients.is_empty() {
            for net in &condition.clients {
                let nets = self.by_client.entry(net.prefix_len()).or_default();
                nets.entry(net.trunc()).or_default().push(position);
            }
        } else if !condition.listeners.is_empty() {
            for listener in &condition.listeners {
                let positions = self.by_listener.entry(listener.clone()).or_default();
                positions.push(position);
            }
        } else {
            self.always.insert(position);
        }
    }

    /// To be called once, after the last rule was added.
    pub(super) fn seal(&mut self) {
        self.paths.seal();
    }

    /// Every rule whose key holds. `method` is the number of the method, when any rule has it.
    pub(super) fn candidates(
        &self,
        listener: &ListenerName,
        method: Option<usize>,
        truth: &mut Truth<'_>,
    ) -> Set {
        let mut candidates = self.always.clone();
        let question = truth.question();
        self.paths
            .each(question.path, |position| candidates.insert(position));
        for kind in &self.kinds {
            truth.look_at(*kind);
        }
        let holding = truth.holding();
        let present = holding
            .iter()
            .filter_map(|number| self.by_value.get(number));
        let absent = self
            .by_absence
            .iter()
            .filter(|(number, _)| !holding.contains(**number))
            .map(|(_, positions)| positions);
        let keyed = present
            .chain(absent)
            .chain(method.and_then(|method| self.by_method.get(method)))
            .chain(self.of_client(question.client))
            .chain(self.by_listener.get(listener));
        for position in keyed.flatten() {
            candidates.insert(*position);
        }
        candidates
    }

    fn of_client(&self, client: IpAddr) -> impl Iterator<Item = &Positions> {
        self.by_client.iter().filter_map(move |(length, nets)| {
            // A prefix longer than the address is one of the other family.
            let net = IpNet::new(client, *length).ok()?;
            nets.get(&net.trunc())
        })
    }
}

/// Adds to the list of a number, which may be the first of it.
fn push(lists: &mut Vec<Positions>, number: usize, position: usize) {
    if lists.len() <= number {
        lists.resize_with(number.saturating_add(1), Vec::new);
    }
    if let Some(list) = lists.get_mut(number) {
        list.push(position);
    }
}
