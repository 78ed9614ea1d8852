//! The connections of one worker to one upstream: kept while idle, handed over, closed.
//!
//! Never shared between threads, never borrowed across an await. The idle connection used last is
//! used first, so that what is not needed grows old and is closed.

mod queue;
mod shared;

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use sluice_config::{model::UpstreamPool, names::UpstreamName};
use tokio::{sync::Notify, time::Instant};

use self::{queue::Waiter, shared::Shared};
use super::{
    Dialect, Manner, Upstream,
    balance::Rotor,
    connect::{Connection, Dial},
    endpoints::{Gauge, Introduction, Set, State, Way},
};
use crate::{drain::Tasks, telemetry::metrics::Shard};

pub(super) use self::{
    queue::{Grant, Permit},
    shared::{Place, Ride},
};

/// The connections of one worker to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    name: UpstreamName,
    state: Arc<State>,
    settings: UpstreamPool,
    pub(super) tasks: Tasks,
    pub(super) counters: Shard,
    /// Idle connections this worker may keep.
    most_idle: usize,
    /// Connections this worker should have at most while others wait.
    fair: usize,
    /// As last seen; a plan that is gone must not be kept alive from here.
    upstream: RefCell<Weak<Upstream>>,
    /// Per way, the one used last at the back.
    idle: RefCell<HashMap<Way, VecDeque<Idle>, foldhash::fast::RandomState>>,
    kept: Gauge,
    /// Those that carry many requests at a time.
    shared: Shared,
    /// Connections that exist or are being made.
    live: Gauge,
    waiters: RefCell<VecDeque<Waiter>>,
    /// With the generation of the set it turns over.
    rotor: RefCell<(u64, Rotor)>,
    /// Rung when another worker needs a connection, or the pool is gone.
    bell: Arc<Notify>,
    /// Whether the task that closes old connections runs.
    sweeping: Cell<bool>,
    /// Whether connections that come back are closed.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// What a request is sent on.
#[derive(Debug)]
pub(super) enum Lent {
    /// A connection of its own.
    Whole(Connection),
    /// Room on a shared one.
    Part(Place),
}

/// Idle connections are looked at this often at most.
const MOST_OFTEN: Duration = Duration::from_millis(100);

/// And this often where some began with a header: they are worth nothing once its client has left.
const WITH_HEADERS: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn new(upstream: &Upstream, workers: usize, dial: &Dial) -> Rc<Self> {
        let settings = upstream.model.pool;
        let share = |total: usize| total.checked_div(workers).unwrap_or(0).max(1);
        let bell = Arc::new(Notify::new());
        upstream.state.budget.join(&bell);
        let (live, kept) = upstream.state.ledger.open();
        Rc::new(Self {
            name: upstream.name().clone(),
            state: Arc::clone(&upstream.state),
            settings,
            tasks: dial.tasks.clone(),
            counters: dial.counters.clone(),
            most_idle: match settings.idle_connections {
                0 => 0,
                total => share(total),
            },
            fair: upstream
                .model
                .limits
                .connections
                .get()
                .map_or(usize::MAX, share),
            upstream: RefCell::new(Weak::new()),
            idle: RefCell::default(),
            kept,
            shared: Shared::new(upstream.model.limits.streams),
            live,
            waiters: RefCell::default(),
            // No set has this generation, so the first one starts the rotor.
            rotor: RefCell::new((u64::MAX, Rotor::default())),
            bell,
            sweeping: Cell::new(false),
            retired: Cell::new(false),
        })
    }

    pub(super) fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// Goes on with `upstream`, if that is this one with other endpoints at most.
    pub(super) fn follow(&self, upstream: &Arc<Upstream>) -> bool {
        let same = Arc::ptr_eq(&self.state, &upstream.state);
        if same {
            *self.upstream.borrow_mut() = Arc::downgrade(upstream);
            self.forget_gone();
        }
        same
    }

    /// What turns over `set`; a new set is taken over first.
    pub(super) fn rotor(
        &self,
        upstream: &Arc<Upstream>,
        set: &Set,
        worker: usize,
        workers: usize,
    ) -> RefMut<'_, Rotor> {
        let mut rotor = self.rotor.borrow_mut();
        if rotor.0 != set.generation {
            *rotor = (set.generation, Rotor::new(&set.weights, worker, workers));
            *self.upstream.borrow_mut() = Arc::downgrade(upstream);
            self.forget_all_but(set);
        }
        RefMut::map(rotor, |(_, rotor)| rotor)
    }

    /// Takes the idle connection on a way that was used last.
    pub(super) fn idle_on(&self, way: &Way) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(way)?;
        let mut found = None;
        while let Some(Idle { connection, .. }) = kept.pop_back() {
            self.kept.set(self.kept.get().saturating_sub(1));
            if self.may_serve(&connection) {
                found = Some(connection);
                break;
            }
        }
        // There are few endpoints, but as many headers as clients.
        if kept.is_empty() && way.header.is_some() {
            idle.remove(way);
        }
        found
    }

    /// Takes a connection back whose exchange ended cleanly: it goes to whoever waits, is kept, or
    /// is closed.
    pub(super) fn take_back(self: &Rc<Self>, connection: Connection) {
        let now = Instant::now();
        if !self.may_serve(&connection) || self.is_closing() || !connection.is_needed() {
            return;
        }
        let waiting = self.state.budget.waiting();
        let Some(connection) = self.hand_over(connection, waiting) else {
            return;
        };
        if waiting > 0 || self.most_idle == 0 {
            // Somebody waits elsewhere: what is closed here can be opened there.
            return;
        }
        if self.kept.get().saturating_add(self.shared.idle()) >= self.most_idle {
            self.close_oldest();
        }
        let way = connection.way();
        let idle = Idle {
            connection,
            since: now,
        };
        self.idle
            .borrow_mut()
            .entry(way)
            .or_default()
            .push_back(idle);
        self.kept.set(self.kept.get().saturating_add(1));
        self.keep_sweeping();
    }

    /// Closes the idle connection that was not used for longest; says whether there was one.
    pub(super) fn close_oldest(&self) -> bool {
        let shared = self.shared.oldest();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.values_mut().filter(|kept| !kept.is_empty());
        let oldest = kept.min_by_key(|kept| kept.front().map(|idle| idle.since));
        let since = oldest.as_ref().and_then(|kept| kept.front());
        let since = since.map(|idle| idle.since);
        if shared.is_some_and(|shared| since.is_none_or(|since| shared < since)) {
            self.shared.close_oldest();
            return true;
        }
        let closed = oldest.and_then(VecDeque::pop_front).is_some();
        self.kept
            .set(self.kept.get().saturating_sub(usize::from(closed)));
        closed
    }

    /// Whether a connection may take another request.
    fn may_serve(&self, connection: &Connection) -> bool {
        connection.is_ready() && self.is_young(connection.born, connection.served)
    }

    /// Whether a connection is within its bounds.
    fn is_young(&self, born: Instant, served: u64) -> bool {
        let (age, requests) = (self.settings.max_age, self.settings.requests_per_connection);
        age.get().is_none_or(|limit| born.elapsed() < limit)
            && requests.get().is_none_or(|limit| served < limit)
    }

    /// Whether connections that come back are closed.
    fn is_closing(&self) -> bool {
        self.retired.get() || self.tasks.is_draining()
    }

    /// Runs the task that closes old connections, until there are none.
    fn keep_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        let bell = Arc::clone(&self.bell);
        let drained = self.tasks.drained();
        self.tasks.spawn_local(async move {
            let mut drained = std::pin::pin!(drained);
            loop {
                let Some(next) = pool.upgrade().and_then(|pool| pool.sweep(Instant::now())) else {
                    return;
                };
                tokio::select! {
                    () = &mut drained => {
                        if let Some(pool) = pool.upgrade() {
                            pool.retire();
                        }
                        return;
                    }
                    () = bell.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            }
        });
    }

    /// Closes what is idle for too long or dead, and one more if somebody waits for it; says when
    /// to come again, if at all.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let limit = self.settings.idle_timeout;
        self.forget_gone();
        self.forget(|_, idle| {
            let young = now.duration_since(idle.since) < limit;
            young && self.may_serve(&idle.connection) && idle.connection.is_needed()
        });
        self.sweep_shared(now, limit);
        if self.state.budget.waiting() > 0 {
            self.close_oldest();
        }
        let idle = self.idle.borrow();
        let oldest = idle.values().filter_map(VecDeque::front);
        let oldest = oldest.map(|idle| idle.since).chain(self.shared.oldest());
        let next = oldest.map(|since| since + limit).min();
        let headers = self.shared.has_headers() || idle.keys().any(|way| way.header.is_some());
        let next = next.map(|next| {
            if headers {
                next.min(now + WITH_HEADERS)
            } else {
                next
            }
        });
        self.sweeping.set(next.is_some());
        // Connections that grow old one after the other are closed together.
        next.map(|next| next.max(now + MOST_OFTEN))
    }

    /// Closes connections to endpoints that are gone.
    fn forget_gone(&self) {
        let upstream = self.upstream.borrow().upgrade();
        if let Some(upstream) = upstream {
            self.forget_all_but(&upstream.set.load());
        }
    }

    fn forget_all_but(&self, set: &Set) {
        let mut endpoints = self.shared.endpoints();
        endpoints.extend(self.idle.borrow().keys().map(|way| way.endpoint));
        if endpoints.iter().any(|&endpoint| !set.contains(endpoint)) {
            self.forget(|endpoint, _| set.contains(endpoint));
            self.shared.forget(|endpoint, _| set.contains(endpoint));
        }
    }

    fn forget(&self, keep: impl Fn(u64, &Idle) -> bool) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|way, kept| {
            kept.retain(|idle| keep(way.endpoint, idle));
            !kept.is_empty()
        });
        self.kept.set(idle.values().map(VecDeque::len).sum());
    }

    /// Closes what is idle now and what comes back later.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.forget(|_, _| false);
        self.shared.forget(|_, _| false);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.budget.leave(&self.bell);
        // The sweeping task finds out.
        self.bell.notify_one();
    }
}
