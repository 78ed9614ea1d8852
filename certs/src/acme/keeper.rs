//! Keeps every wanted certificate issued and renewed.
//!
//! One loop on the control runtime. It looks at what is wanted twice a second and at the storage every two,
//! and has the rest done beside it ([`work`]): no order, no storage and no issuer that hangs can keep it
//! from the others. What must stay true: of all replicas one orders a name, who holds its lock; what was
//! issued is served, expired or not, until there is something newer; while the storage is away nothing is
//! ordered.

mod admit;
mod book;
mod outcome;
mod poll;
mod show;
mod work;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::MissedTickBehavior,
};

use self::{
    admit::Gate,
    book::{Entry, Record},
    poll::{Changes, Known},
    work::{Ordered, now},
};
use super::{
    challenge::Challenge,
    demand::{Denied, Desk, Reply, Request},
    issuer::Terms,
    order,
    pending::{Lookup, Pending},
    schedule::{self, Moment},
};
use crate::{
    Pairs, Store, name,
    storage::{POLL, StorageError},
};

pub use book::{Phase, State};
pub(super) use book::{place, places};

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(500);
/// How many orders run at once.
const ORDERS: usize = 8;
/// How many of anything else are done at once.
const JOBS: usize = 128;

/// Keeps certificates. Clones are the same keeper; [`Keeping`] is what does the work.
#[derive(Debug, Clone)]
pub struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pending: Arc<Pending>,
    desk: Desk,
    terms: watch::Sender<Option<Arc<Terms>>>,
    states: ArcSwap<Vec<State>>,
    /// Whether the storage was read once under the current terms.
    loaded: watch::Sender<bool>,
    /// Names that somebody wants renewed.
    forced: Mutex<Vec<String>>,
    wake: Notify,
    issued: AtomicU64,
    failed: AtomicU64,
}

/// The work of a [`Keeper`].
#[must_use = "nothing is kept unless it runs"]
pub struct Keeping {
    shared: Arc<Shared>,
    store: Store,
    lookups: mpsc::Receiver<Lookup>,
    requests: mpsc::Receiver<Request>,
    terms: Option<Arc<Terms>>,
    entries: BTreeMap<String, Entry>,
    /// Others' challenges that are shown here.
    challenges: BTreeMap<String, Challenge>,
    /// Handshakes that wait, by the certificate's name.
    waiting: HashMap<String, Vec<Reply>>,
    gate: Gate,
    jobs: FuturesUnordered<Job>,
    orders: usize,
    polling: bool,
    polled: Option<tokio::time::Instant>,
    /// Whether the storage answered last.
    away: bool,
    due: Vec<String>,
}

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a job came to.
enum Done {
    Ordered(String, Ordered),
    Polled(Arc<Terms>, Result<Changes, StorageError>),
    /// The issuer's wish for a certificate (by fingerprint), and when to ask again.
    Asked(String, [u8; 32], Option<(Moment, Moment)>, Duration),
    /// Whether a host may have a certificate, and whether there is one already.
    Admitted(Request, Result<bool, Denied>),
    LookedUp,
}

impl Keeper {
    /// A keeper that puts what it has into `store`, under the names that are wanted.
    pub fn new(store: Store) -> (Self, Keeping) {
        let (pending, lookups) = Pending::new();
        let (desk, requests) = Desk::new();
        let shared = Arc::new(Shared {
            pending,
            desk,
            terms: watch::Sender::new(None),
            states: ArcSwap::default(),
            loaded: watch::Sender::new(false),
            forced: Mutex::default(),
            wake: Notify::new(),
            issued: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let keeping = Keeping {
            shared: Arc::clone(&shared),
            store,
            lookups,
            requests,
            terms: None,
            entries: BTreeMap::new(),
            challenges: BTreeMap::new(),
            waiting: HashMap::new(),
            gate: Gate::default(),
            jobs: FuturesUnordered::new(),
            orders: 0,
            polling: false,
            polled: None,
            away: false,
            due: Vec::new(),
        };
        (Self(shared), keeping)
    }

    /// From now on this is wanted. What is known of names that stay is kept.
    pub fn set(&self, terms: Terms) {
        self.0.loaded.send_replace(false);
        self.0.terms.send_replace(Some(Arc::new(terms)));
    }

    /// Completes when the storage was read after the last [`Keeper::set`].
    pub async fn loaded(&self) {
        let mut loaded = self.0.loaded.subscribe();
        // An error means that the keeper is gone, and nothing will ever be read.
        loaded
            .wait_for(|loaded| *loaded)
            .await
            .map(|_| ())
            .unwrap_or_default();
    }

    /// What validating servers are to be answered.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.0.pending
    }

    /// The pairs for `host`, which a client asked for; ordered from `issuer` if that is allowed and there
    /// are none. Takes at most 10 s.
    pub async fn demand(&self, issuer: &str, host: &str) -> Result<Arc<Pairs>, Denied> {
        self.0.desk.demand(issuer, host).await
    }

    /// The pairs for `host`, if they are there because a client asked `issuer` for them. Never waits.
    pub fn held(&self, issuer: &str, host: &str) -> Option<Arc<Pairs>> {
        self.0.desk.find(issuer, &name::normal(host))
    }

    /// Renews a certificate now. Gives whether it is kept here.
    pub fn renew(&self, name: &str) -> bool {
        let known = self.0.states.load().iter().any(|state| state.name == name);
        if known {
            self.0.forced.lock().push(name.to_owned());
            self.0.wake.notify_one();
        }
        known
    }

    /// How everything that is kept fares, by name.
    pub fn states(&self) -> Arc<Vec<State>> {
        self.0.states.load_full()
    }

    /// How many orders succeeded and how many failed, since the start.
    pub fn orders(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.0.issued), read(&self.0.failed))
    }
}

impl Keeping {
    /// Keeps, for as long as it is polled.
    pub async fn run(mut self) {
        let mut terms = self.shared.terms.subscribe();
        // They may have been set before.
        terms.mark_changed();
        let shared = Arc::clone(&self.shared);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Before the first look nobody knows what is there: who asks waits.
            let room = self.jobs.len() < JOBS && *shared.loaded.borrow();
            let used = self.terms.as_ref().is_some_and(|terms| self.is_used(terms));
            tokio::select! {
                biased;
                // Before anything else: what is not wanted any more must not be put where something else
                // is by now. The sender is part of `shared`.
                _ = terms.changed() => {
                    let terms = terms.borrow_and_update().clone();
                    if let Some(terms) = terms {
                        self.change(terms);
                    }
                }
                _ = ticks.tick(), if used => {}
                () = shared.wake.notified() => {}
                Some(done) = self.jobs.next() => self.note(done),
                Some(lookup) = self.lookups.recv(), if room => self.look_up(lookup),
                Some(request) = self.requests.recv(), if room => self.admit(request),
            }
            self.tick();
        }
    }

    /// Takes over what is wanted.
    fn change(&mut self, terms: Arc<Terms>) {
        let moved = self
            .terms
            .as_ref()
            .is_none_or(|before| !Arc::ptr_eq(&before.storage, &terms.storage));
        let places = places(&terms.wanted);
        self.entries.retain(|name, entry| {
            if entry.on_demand {
                return terms
                    .issuers
                    .get(&entry.wanted.issuer)
                    .is_some_and(|issuer| {
                        let on_demand = issuer.on_demand.as_ref();
                        on_demand.is_some_and(|it| it.allows(name))
                    })
                    && !terms.wanted.contains_key(name);
            }
            let wanted = terms.wanted.get(name);
            wanted.is_some_and(|wanted| wanted.hosts == entry.wanted.hosts)
                && places.get(name.as_str()) == Some(&entry.key)
        });
        for (name, wanted) in &terms.wanted {
            let slot = self.store.slot(name);
            let key = places.get(name.as_str()).cloned().unwrap_or_default();
            let entry = self.entries.entry(name.clone());
            let entry =
                entry.or_insert_with(|| Entry::new(wanted.clone(), key, Arc::clone(&slot), false));
            entry.wanted = wanted.clone();
            // Between two configurations that want it, nobody wanted it for a moment.
            entry.show_in(slot);
        }
        if moved {
            for entry in self.entries.values_mut() {
                entry.version = None;
                entry.record = (None, Record::default());
            }
            self.away = false;
        }
        self.terms = Some(terms);
        // Read at once: certificates of names that are new may lie there.
        self.polled = None;
        self.hold();
    }

    fn tick(&mut self) {
        let Some(terms) = self.terms.clone() else {
            return;
        };
        let now = now();
        for name in self.shared.forced.lock().drain(..) {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.forced = true;
            }
        }
        self.poll(&terms);
        // Before the first look, and while it cannot be looked, nobody knows what is there.
        if !self.away && *self.shared.loaded.borrow() {
            self.order(&terms, now);
            self.ask(&terms, now);
        }
        self.publish(&terms, now);
    }

    /// Whether there is anything to keep, or may be soon.
    fn is_used(&self, terms: &Terms) -> bool {
        let mut issuers = terms.issuers.values();
        !self.entries.is_empty() || issuers.any(|issuer| issuer.on_demand.is_some())
    }

    /// Has the storage looked at, if it is time and there is anything to keep.
    fn poll(&mut self, terms: &Arc<Terms>) {
        if !self.is_used(terms) {
            self.shared
                .loaded
                .send_if_modified(|loaded| !std::mem::replace(loaded, true));
            return;
        }
        if self.polling || self.polled.is_some_and(|at| at.elapsed() < POLL) {
            return;
        }
        let versions = self.entries.values();
        let versions = versions.map(|entry| (entry.key.clone(), (entry.version, entry.record.0)));
        let known = Known {
            certificates: versions.collect(),
            challenges: self.challenges.clone(),
        };
        self.polling = true;
        self.polled = Some(tokio::time::Instant::now());
        let terms = Arc::clone(terms);
        self.jobs.push(Box::pin(async move {
            let polled = poll::poll(&terms.storage, known).await;
            Done::Polled(terms, polled)
        }));
    }

    /// Has everything ordered that is due.
    fn order(&mut self, terms: &Arc<Terms>, now: Moment) {
        for (name, entry) in &mut self.entries {
            if self.orders >= ORDERS {
                return;
            }
            if entry.next(terms, now).is_none() {
                continue;
            }
            let order = work::Order {
                name: name.clone(),
                key: entry.key.clone(),
                wanted: entry.wanted.clone(),
                terms: Arc::clone(terms),
                pending: Arc::clone(&self.shared.pending),
                known: entry.version,
                replaces: entry
                    .held
                    .as_ref()
                    .and_then(|held| order::identify(&held.pair)),
                forced: entry.forced,
                plain: !entry.on_demand && entry.is_plainly_due(terms, now),
            };
            entry.busy = Some(now);
            self.orders = self.orders.saturating_add(1);
            let name = name.clone();
            let job = async move { Done::Ordered(name, order.run().await) };
            self.jobs.push(Box::pin(job));
        }
    }

    /// Has issuers asked for their wishes.
    fn ask(&mut self, terms: &Arc<Terms>, now: Moment) {
        for (name, entry) in &mut self.entries {
            if self.jobs.len() >= JOBS {
                return;
            }
            let Some(held) = entry.held.as_ref().filter(|_| entry.ask <= now) else {
                continue;
            };
            let issuer = terms
                .issuers
                .values()
                .find(|issuer| issuer.directory == held.directory);
            let Some((issuer, id)) = issuer.zip(order::identify(&held.pair)) else {
                continue;
            };
            // Set for real when there is an answer.
            entry.ask = schedule::ask_again(now, Duration::ZERO);
            let (issuer, storage) = (Arc::clone(issuer), Arc::clone(&terms.storage));
            let (name, fingerprint) = (name.clone(), held.pair.facts().fingerprint);
            self.jobs.push(Box::pin(async move {
                let (window, again) = work::ask(&issuer, &storage, &id).await;
                Done::Asked(name, fingerprint, window, again)
            }));
        }
    }

    fn look_up(&self, lookup: Lookup) {
        let Some(terms) = self.terms.clone() else {
            return;
        };
        let pending = Arc::clone(&self.shared.pending);
        self.jobs.push(Box::pin(async move {
            work::look_up(&terms.storage, &pending, &lookup.question).await;
            // Who asked may have gone.
            lookup.done.send(()).unwrap_or_default();
            Done::LookedUp
        }));
    }
}
