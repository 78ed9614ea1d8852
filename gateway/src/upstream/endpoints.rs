//! Where requests can go: the endpoints of an upstream at this moment.

mod ledger;
mod standings;
mod told;

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use sluice_certs::client::{Host, Part};
use sluice_config::model::{Balance, UpstreamLimits};

use super::{
    balance::{Key, Ring, Weights},
    budget::Budget,
    health::standing::Standing,
    resolve::Resolved,
};
use crate::downstream::Connection;

use ledger::Ledger;

pub use ledger::Connections;
pub(super) use ledger::Gauge;
pub use standings::Checks;
pub(super) use standings::Standings;
pub use told::EndpointReport;

/// What is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A name in a network inside the process.
    Memory(Box<str>),
}

/// What is connected to, and who that has to be. Two names of one address are two endpoints: what is
/// meant for one must never go over a connection to the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Goal {
    pub(super) target: Target,
    pub(super) speech: Speech,
}

impl Goal {
    /// What no other goal is called, in this process or another one.
    fn name(&self) -> String {
        let target = self.target.name();
        match &self.speech {
            Speech::Plain => target,
            Speech::Tls(None) => format!("{target} tls"),
            Speech::Tls(Some(host)) => format!("{target} tls {}", host.text()),
        }
    }
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Memory(name) => name.to_string(),
        }
    }
}

/// What is spoken below HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Speech {
    Plain,
    /// TLS, with whom the address names, if it names anybody.
    Tls(Option<Host>),
}

/// Where a connection leads and in whose name it began: what is meant for one way never takes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) endpoint: u64,
    /// The header that is the first on the wire.
    pub(super) header: Option<Introduction>,
}

impl Hash for Way {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Where there are no headers, they cost nothing.
        self.endpoint.hash(state);
        if let Some(header) = &self.header {
            header.0.bytes.hash(state);
        }
    }
}

/// What an endpoint is told first about the client of a connection (the PROXY protocol).
#[derive(Debug, Clone)]
pub struct Introduction(Rc<Introduced>);

#[derive(Debug)]
struct Introduced {
    bytes: Bytes,
    client: Weak<Connection>,
}

impl PartialEq for Introduction {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || self.0.bytes == other.0.bytes
    }
}

impl Eq for Introduction {}

impl Introduction {
    /// `bytes` as they are written, about `client`: when that one has left, nobody will need the
    /// connection.
    pub(super) fn new(bytes: Bytes, client: &Arc<Connection>) -> Self {
        let client = Arc::downgrade(client);
        Self(Rc::new(Introduced { bytes, client }))
    }

    /// As it is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Whether its client is still there.
    pub(super) fn is_needed(&self) -> bool {
        self.0.client.strong_count() > 0
    }
}

/// Names an endpoint in logs and in a [`Choice`]: its address. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey(Arc<str>);

impl EndpointKey {
    /// What is connected to at `target`.
    pub(super) fn of(target: &Target) -> Self {
        Self(Arc::from(target.name()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<EndpointKey> for Arc<str> {
    fn from(key: EndpointKey) -> Self {
        key.0
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which endpoint, and whether a used connection will do.
#[derive(Debug, Clone, Default)]
pub enum Choice {
    /// The one whose turn it is; an idle connection if there is one.
    #[default]
    Any,
    /// As `Any`, but where the upstream keeps requests of one kind together, the endpoint of this key.
    Of(Key),
    /// A new connection to this endpoint while it is there, else to the one whose turn it is.
    FreshOf(EndpointKey),
    /// As `Any`, but none of these if there are others.
    Avoid(Vec<EndpointKey>),
}

impl Choice {
    pub(super) fn takes_used(&self) -> bool {
        !matches!(self, Self::FreshOf(_))
    }

    pub(super) fn takes(&self, endpoint: &Endpoint) -> bool {
        match self {
            // Where the budget is spent, what comes free is worth more than the same endpoint as before.
            Self::Any | Self::Of(_) => true,
            Self::FreshOf(_) => false,
            Self::Avoid(keys) => !keys.contains(&endpoint.key),
        }
    }
}

/// One address of an upstream; lives as long as somebody can be sent there.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Unique in the process.
    pub(super) id: u64,
    pub(super) key: EndpointKey,
    pub(super) goal: Goal,
    /// It chose HTTP/1.1 when it was last offered HTTP/2, too.
    pub(super) prefers_http1: AtomicBool,
    /// What was wrong with its TLS when it was last tried.
    pub(super) trouble: Mutex<Option<Part>>,
    /// Whether it is well. That of the endpoint before, where only other settings changed.
    pub(super) standing: Arc<Standing>,
    active: AtomicUsize,
}

impl Endpoint {
    fn new(goal: Goal, standing: Arc<Standing>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            key: EndpointKey::of(&goal.target),
            goal,
            prefers_http1: AtomicBool::new(false),
            trouble: Mutex::new(None),
            standing,
            active: AtomicUsize::new(0),
        }
    }

    /// How many requests it has, over all workers.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }
}

/// A request that its endpoint is busy with, until dropped.
#[derive(Debug)]
pub(super) struct Active(Arc<Endpoint>);

impl Active {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What outlives a change of endpoints: everything that is counted.
#[derive(Debug)]
pub(super) struct State {
    /// Unique in the process.
    pub(super) id: u64,
    pub(super) budget: Budget,
    pub(super) ledger: Ledger,
    pub(super) standings: Arc<Standings>,
    known: Mutex<HashMap<Goal, Weak<Endpoint>>>,
    generations: AtomicU64,
}

impl State {
    /// With what is known of endpoints of this name.
    pub(super) fn new(limits: &UpstreamLimits, standings: Arc<Standings>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            budget: Budget::new(limits),
            ledger: Ledger::default(),
            standings,
            known: Mutex::new(HashMap::new()),
            generations: AtomicU64::new(0),
        }
    }

    /// The endpoint at `goal`: the same as long as anybody remembers it.
    pub(super) fn endpoint(&self, goal: Goal) -> Arc<Endpoint> {
        let mut known = self.known.lock();
        if let Some(endpoint) = known.get(&goal).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let standing = self.standings.of(&goal);
        let endpoint = Arc::new(Endpoint::new(goal.clone(), standing));
        known.insert(goal, Arc::downgrade(&endpoint));
        endpoint
    }
}

/// What one endpoint of the configuration stands for.
#[derive(Debug)]
pub(super) enum Source {
    Fixed {
        endpoint: Arc<Endpoint>,
        weight: u32,
    },
    Name {
        resolved: Arc<Resolved>,
        port: u16,
        speech: Speech,
        weight: u32,
    },
    /// The addresses of a name that somebody else has looked up.
    Resolved(Box<[Arc<Endpoint>]>),
}

/// The endpoints that can be picked, at one moment.
#[derive(Debug)]
pub(super) struct Set {
    /// Grows with each change of the upstream.
    pub(super) generation: u64,
    pub(super) weights: Weights,
    /// Where requests go by what they are recognised by.
    pub(super) ring: Option<Ring>,
    members: Box<[Member]>,
    /// Those that are left out because they are not available.
    away: Box<[Member]>,
    /// Whether so few are available that none is left out.
    pub(super) panicking: bool,
    /// Whether a name is still without any answer.
    pub(super) unresolved: bool,
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    weight: u32,
    /// Which endpoint of the configuration it comes from.
    source: usize,
}

impl Set {
    /// What `sources` stand for now. With less than this many percent of them available, all can be
    /// picked.
    pub(super) fn new(sources: &[Source], state: &State, panic_threshold: u32) -> Self {
        let mut members: Vec<Member> = Vec::with_capacity(sources.len());
        let mut places: HashMap<u64, usize> = HashMap::new();
        let mut unresolved = false;
        let mut add = |endpoint: Arc<Endpoint>, weight: u32, source: usize| {
            if weight == 0 {
                return;
            }
            // One address, one member, however often it is named.
            if let Some(member) = places.get(&endpoint.id).and_then(|&at| members.get_mut(at)) {
                member.weight = member.weight.saturating_add(weight);
                return;
            }
            places.insert(endpoint.id, members.len());
            members.push(Member {
                endpoint,
                weight,
                source,
            });
        };
        for (source, entry) in sources.iter().enumerate() {
            match entry {
                Source::Fixed { endpoint, weight } => add(Arc::clone(endpoint), *weight, source),
                Source::Resolved(endpoints) => {
                    for endpoint in endpoints {
                        add(Arc::clone(endpoint), 1, source);
                    }
                }
                Source::Name {
                    resolved,
                    port,
                    speech,
                    weight,
                } => {
                    let known = resolved.known();
                    unresolved |= known.is_none();
                    for address in known.iter().flat_map(|addresses| addresses.iter()) {
                        let target = Target::Tcp(SocketAddr::new(*address, *port));
                        let speech = speech.clone();
                        add(state.endpoint(Goal { target, speech }), *weight, source);
                    }
                }
            }
        }
        let (members, away, panicking) = part(members, panic_threshold);
        Self {
            generation: state.generations.fetch_add(1, Ordering::Relaxed),
            weights: Weights::new(members.iter().map(|member| member.weight)),
            ring: None,
            members: members.into(),
            away: away.into(),
            panicking,
            unresolved,
        }
    }

    /// The same, ready for `balance`. Costs more than finding out whether anything has changed.
    pub(super) fn ready_for(self, balance: Balance) -> Self {
        let names: Vec<String> = match balance {
            Balance::RingHash => self.iter().map(|endpoint| endpoint.goal.name()).collect(),
            Balance::RoundRobin | Balance::Random | Balance::LeastRequest => return self,
        };
        let weights = self.members.iter().map(|member| member.weight);
        let ring = Ring::new(names.iter().map(String::as_str).zip(weights));
        Self {
            ring: Some(ring),
            ..self
        }
    }

    /// Whether a request would notice the difference.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same = |a: &[Member], b: &[Member]| {
            let same =
                |(a, b): (&Member, &Member)| a.weight == b.weight && a.endpoint.id == b.endpoint.id;
            a.len() == b.len() && a.iter().zip(b).all(same)
        };
        self.unresolved == other.unresolved
            && self.panicking == other.panicking
            && same(&self.members, &other.members)
            && same(&self.away, &other.away)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Arc<Endpoint>> {
        self.members.get(index).map(|member| &member.endpoint)
    }

    pub(super) fn active(&self, index: usize) -> usize {
        self.get(index).map_or(0, |endpoint| endpoint.active())
    }

    pub(super) fn find(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.iter().find(|endpoint| endpoint.key == *key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members.iter().map(|member| &member.endpoint)
    }

    /// Also those that are left out.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let all = self.members.iter().chain(&self.away);
        all.map(|member| &member.endpoint)
    }

    /// The same in the order of the configuration.
    fn in_order(&self) -> Vec<&Arc<Endpoint>> {
        let mut all: Vec<&Member> = self.members.iter().chain(&self.away).collect();
        all.sort_by_key(|member| member.source);
        all.into_iter().map(|member| &member.endpoint).collect()
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.iter().any(|endpoint| endpoint.id == id)
    }

    /// Another address of the name that `endpoint` belongs to, not among `tried`.
    pub(super) fn sibling(&self, endpoint: &Endpoint, tried: &[u64]) -> Option<&Arc<Endpoint>> {
        let source = self
            .members
            .iter()
            .find(|member| member.endpoint.id == endpoint.id)?
            .source;
        self.members
            .iter()
            .find(|member| member.source == source && !tried.contains(&member.endpoint.id))
            .map(|member| &member.endpoint)
    }
}

/// Those of `members` that can be picked, the others, and whether all are picked because too few are
/// available.
fn part(members: Vec<Member>, panic_threshold: u32) -> (Vec<Member>, Vec<Member>, bool) {
    let is_available = |member: &Member| member.endpoint.standing.is_available();
    let all = members.len();
    let there = members.iter().filter(|member| is_available(member)).count();
    if there == all {
        return (members, Vec::new(), false);
    }
    let threshold = usize::try_from(panic_threshold).unwrap_or(usize::MAX);
    if there.saturating_mul(100) < all.saturating_mul(threshold) {
        return (members, Vec::new(), true);
    }
    let (some, away) = members.into_iter().partition(is_available);
    (some, away, false)
}
