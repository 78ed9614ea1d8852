//! The connections of one worker: lent, kept, closed.
//!
//! Never shared between threads, never borrowed across an await. The idle connection used last is
//! used first, so that what is not needed grows old and is closed.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::{Rc, Weak},
    sync::{Arc, Weak as SharedWeak},
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use sluice_config::model::{UpstreamLimits, UpstreamPool};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    EndpointKey, Upstream,
    balance::{Rotor, pick, pick_avoiding},
    connect::{Connection, Connector},
    endpoints::{Active, Endpoint, Set, State},
    lease::Lease,
};
use crate::{
    drain::Tasks,
    error::ProxyError,
    telemetry::metrics::{Counter, Shard},
};

/// Which endpoint, and whether a used connection will do.
#[derive(Debug, Clone, Default)]
pub enum Choice {
    /// The one whose turn it is; an idle connection if there is one.
    #[default]
    Any,
    /// A new connection to this endpoint while it is there, else to the one whose turn it is.
    FreshOf(EndpointKey),
    /// As `Any`, but none of these if there are others.
    Avoid(Vec<EndpointKey>),
}

impl Choice {
    fn takes_used(&self) -> bool {
        !matches!(self, Self::FreshOf(_))
    }

    fn takes(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Any => true,
            Self::FreshOf(_) => false,
            Self::Avoid(keys) => !keys.contains(&endpoint.key),
        }
    }
}

/// The connections of one worker to all upstreams.
#[derive(Debug)]
pub struct Pools(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    worker: usize,
    workers: usize,
    connector: Connector,
    tasks: Tasks,
    counters: Shard,
    random: RefCell<SmallRng>,
    pools: RefCell<HashMap<u64, Rc<Pool>, foldhash::fast::RandomState>>,
    /// Rung when another worker needs a connection.
    bell: Arc<Notify>,
    /// Whether the task that closes old connections runs.
    sweeping: Cell<bool>,
}

/// The connections of one worker to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Weak<Shared>,
    state: Arc<State>,
    settings: UpstreamPool,
    /// Idle connections this worker may keep.
    most_idle: usize,
    /// Connections this worker should have at most while others wait.
    fair: usize,
    bell: Arc<Notify>,
    /// As last seen; a plan that is gone must not be kept alive from here.
    upstream: RefCell<SharedWeak<Upstream>>,
    /// Per endpoint, the one used last at the back.
    idle: RefCell<HashMap<u64, VecDeque<Idle>, foldhash::fast::RandomState>>,
    kept: Cell<usize>,
    /// Connections that exist or are being made.
    live: Cell<usize>,
    waiters: RefCell<VecDeque<oneshot::Sender<Grant>>>,
    rotor: RefCell<(u64, Rotor)>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// What a waiting request gets.
#[derive(Debug)]
enum Grant {
    Connection(Connection),
    Permit(Permit),
}

/// The right to one connection, until dropped.
#[derive(Debug)]
pub(super) struct Permit(Rc<Pool>);

impl Pools {
    /// The pools of worker `worker`, from 0, of `workers`. `tasks` runs the connections.
    pub fn new(
        worker: usize,
        workers: usize,
        connector: Connector,
        tasks: Tasks,
        counters: Shard,
    ) -> Self {
        Self(Rc::new(Shared {
            worker,
            workers: workers.max(1),
            connector,
            tasks,
            counters,
            random: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            pools: RefCell::default(),
            bell: Arc::new(Notify::new()),
            sweeping: Cell::new(false),
        }))
    }

    /// Closes idle connections of the upstreams that are not kept, and of endpoints that are gone.
    pub fn retain(&self, keep: impl Fn(&Upstream) -> bool) {
        let mut gone = Vec::new();
        self.0.pools.borrow_mut().retain(|_, pool| {
            let upstream = pool.upstream.borrow().upgrade();
            let kept = upstream.is_some_and(|upstream| keep(&upstream));
            if !kept {
                gone.push(Rc::clone(pool));
            }
            kept
        });
        for pool in gone {
            pool.clear();
        }
        for pool in self.0.snapshot() {
            pool.forget_gone();
        }
    }

    /// Lends a connection to an endpoint of `upstream`.
    ///
    /// Waits for the first answer to a name (at most `dns.timeout` and `timeouts.connect`), for the
    /// budget and for the connection (together at most `timeouts.connect`). A request that waited
    /// for the budget until then ends as [`ProxyError::Overflow`]. When connecting to one address
    /// of a name fails, its others are tried.
    pub async fn lease(
        &self,
        upstream: &Arc<Upstream>,
        choice: Choice,
    ) -> Result<Lease, ProxyError> {
        let pool = self.0.pool(upstream);
        let Some(endpoint) = self.0.choose(&pool, upstream, &choice) else {
            return Box::pin(self.lease_unresolved(pool, upstream, choice)).await;
        };
        let active = Active::new(endpoint);
        if choice.takes_used()
            && let Some(connection) = pool.idle_to(active.endpoint().id)
        {
            return Ok(Lease {
                pool,
                upstream: Arc::clone(upstream),
                connection,
                _active: active,
            });
        }
        Box::pin(self.lease_fresh(pool, upstream, active, choice)).await
    }

    /// There is no endpoint, perhaps because a name has not been answered yet.
    async fn lease_unresolved(
        &self,
        pool: Rc<Pool>,
        upstream: &Arc<Upstream>,
        choice: Choice,
    ) -> Result<Lease, ProxyError> {
        let patience = upstream.dns.timeout.min(upstream.model.timeouts.connect);
        let deadline = Instant::now() + patience;
        let nothing = || ProxyError::NoEndpoint {
            upstream: upstream.name().clone(),
        };
        loop {
            let mut changed = std::pin::pin!(upstream.changed.notified());
            changed.as_mut().enable();
            if let Some(endpoint) = self.0.choose(&pool, upstream, &choice) {
                return self
                    .lease_fresh(pool, upstream, Active::new(endpoint), choice)
                    .await;
            }
            if !upstream.set.load().unresolved {
                return Err(nothing());
            }
            timeout_at(deadline, changed).await.map_err(|_| nothing())?;
        }
    }

    /// Makes a connection, once the budget allows it.
    async fn lease_fresh(
        &self,
        pool: Rc<Pool>,
        upstream: &Arc<Upstream>,
        active: Active,
        choice: Choice,
    ) -> Result<Lease, ProxyError> {
        let deadline = Instant::now() + upstream.model.timeouts.connect;
        let upstream = Arc::clone(upstream);
        let permit = match pool.permit(&upstream, &choice, deadline).await? {
            Grant::Permit(permit) => permit,
            Grant::Connection(connection) => {
                let active = Active::new(Arc::clone(&connection.endpoint));
                return Ok(Lease {
                    pool,
                    upstream,
                    connection,
                    _active: active,
                });
            }
        };
        let (connection, active) = self.connect(&upstream, active, permit, deadline).await?;
        Ok(Lease {
            pool,
            upstream,
            connection,
            _active: active,
        })
    }

    async fn connect(
        &self,
        upstream: &Arc<Upstream>,
        mut active: Active,
        permit: Permit,
        deadline: Instant,
    ) -> Result<(Connection, Active), ProxyError> {
        let mut tried = Vec::new();
        loop {
            let endpoint = Arc::clone(active.endpoint());
            let attempt = timeout_at(deadline, self.0.connector.open(&endpoint.target)).await;
            let source = match attempt {
                Ok(Ok(stream)) => {
                    self.0.counters.count(Counter::UpstreamConnections);
                    let connection = Connection::new(
                        stream,
                        endpoint,
                        upstream.model.timeouts.write_stall,
                        permit,
                        &self.0.tasks,
                    )
                    .await;
                    return connection
                        .map(|connection| (connection, active))
                        .map_err(|source| ProxyError::Connect {
                            upstream: upstream.name().clone(),
                            source,
                        });
                }
                Ok(Err(source)) => source,
                Err(_) => {
                    self.0.counters.count(Counter::UpstreamConnectFailures);
                    return Err(ProxyError::ConnectTimeout {
                        upstream: upstream.name().clone(),
                    });
                }
            };
            self.0.counters.count(Counter::UpstreamConnectFailures);
            tried.push(endpoint.id);
            match upstream.set.load().sibling(&endpoint, &tried) {
                Some(next) => active = Active::new(Arc::clone(next)),
                None => {
                    return Err(ProxyError::Connect {
                        upstream: upstream.name().clone(),
                        source,
                    });
                }
            }
        }
    }
}

impl Shared {
    /// The pool of an upstream, made on first use.
    fn pool(self: &Rc<Self>, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(&upstream.state.id) {
            return Rc::clone(pool);
        }
        let UpstreamLimits { connections, .. } = upstream.model.limits;
        let settings = upstream.model.pool;
        let share = |total: usize| total.checked_div(self.workers).unwrap_or(0).max(1);
        upstream.state.budget.join(&self.bell);
        let pool = Rc::new(Pool {
            shared: Rc::downgrade(self),
            state: Arc::clone(&upstream.state),
            settings,
            most_idle: match settings.idle_connections {
                0 => 0,
                total => share(total),
            },
            fair: connections.get().map_or(usize::MAX, share),
            bell: Arc::clone(&self.bell),
            upstream: RefCell::new(SharedWeak::new()),
            idle: RefCell::default(),
            kept: Cell::new(0),
            live: Cell::new(0),
            waiters: RefCell::default(),
            // No set has this generation, so the first one starts the rotor.
            rotor: RefCell::new((u64::MAX, Rotor::default())),
        });
        pools.insert(upstream.state.id, Rc::clone(&pool));
        pool
    }

    fn snapshot(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    fn choose(
        &self,
        pool: &Rc<Pool>,
        upstream: &Arc<Upstream>,
        choice: &Choice,
    ) -> Option<Arc<Endpoint>> {
        let set = upstream.set.load();
        let mut rotor = pool.rotor.borrow_mut();
        if rotor.0 != set.generation {
            *rotor = (
                set.generation,
                Rotor::new(&set.weights, self.worker, self.workers),
            );
            *pool.upstream.borrow_mut() = Arc::downgrade(upstream);
            pool.forget_all_but(&set);
        }
        let mut random = self.random.borrow_mut();
        if let Choice::FreshOf(key) = choice
            && let Some(endpoint) = set.find(key)
        {
            return Some(Arc::clone(endpoint));
        }
        let index = if let Choice::Avoid(keys) = choice {
            let avoid = |index| set.get(index).is_some_and(|e| keys.contains(&e.key));
            pick_avoiding(&set.weights, &mut *random, avoid)
        } else {
            let balance = upstream.model.balance;
            pick(balance, &set.weights, &mut rotor.1, &mut *random, |index| {
                set.active(index)
            })
        };
        index.and_then(|index| set.get(index)).map(Arc::clone)
    }

    /// Runs the task that closes old connections, until there are none.
    fn keep_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let shared = Rc::downgrade(self);
        let bell = Arc::clone(&self.bell);
        let drained = self.tasks.drained();
        self.tasks.spawn_local(async move {
            let mut drained = std::pin::pin!(drained);
            loop {
                let Some(next) = shared.upgrade().and_then(|shared| shared.sweep()) else {
                    return;
                };
                tokio::select! {
                    () = &mut drained => {
                        if let Some(shared) = shared.upgrade() {
                            shared.snapshot().iter().for_each(|pool| pool.clear());
                        }
                        return;
                    }
                    () = bell.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            }
        });
    }

    /// Closes what is too old; says when to come again, if at all.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let next = self
            .snapshot()
            .iter()
            .filter_map(|pool| pool.sweep(now))
            .min();
        self.sweeping.set(next.is_some());
        // Connections that grow old one after the other are closed together.
        next.map(|next| next.max(now + MOST_OFTEN))
    }
}

/// Idle connections are looked at this often at most.
const MOST_OFTEN: Duration = Duration::from_millis(100);

impl Drop for Shared {
    fn drop(&mut self) {
        // The sweeping task finds out.
        self.bell.notify_one();
    }
}

impl Pool {
    /// Takes the idle connection to an endpoint that was used last.
    fn idle_to(&self, endpoint: u64) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        while let Some(Idle { connection, .. }) = kept.pop_back() {
            self.kept.set(self.kept.get().saturating_sub(1));
            if connection.is_ready() && !self.is_too_old(&connection, Instant::now()) {
                return Some(connection);
            }
        }
        None
    }

    /// The right to make a connection, or one that became free meanwhile.
    async fn permit(
        self: &Rc<Self>,
        upstream: &Upstream,
        choice: &Choice,
        deadline: Instant,
    ) -> Result<Grant, ProxyError> {
        let budget = &self.state.budget;
        if budget.try_take(self.live.get() == 0) {
            return Ok(Grant::Permit(Permit::new(self)));
        }
        let overflow = || ProxyError::Overflow {
            upstream: upstream.name().clone(),
        };
        // Its permit comes back through the queue once its socket is closed.
        let closing = self.close_oldest();
        let _place = budget.queue(closing).ok_or_else(overflow)?;
        if !closing {
            budget.ask();
        }
        let (grant, mut granted) = oneshot::channel();
        if choice.takes_used() {
            self.waiters.borrow_mut().push_back(grant);
        }
        let outcome = timeout_at(deadline, async {
            tokio::select! {
                biased;
                Ok(grant) = &mut granted => match grant {
                    Grant::Connection(connection) if !choice.takes(&connection.endpoint) => {
                        // Somebody else may like it; we wait for the budget.
                        self.take_back(connection);
                        budget.take().await;
                        Grant::Permit(Permit::new(self))
                    }
                    grant => grant,
                },
                () = budget.take() => Grant::Permit(Permit::new(self)),
            }
        })
        .await;
        // Whatever was granted in the same moment is not lost.
        granted.close();
        if let Ok(Grant::Connection(connection)) = granted.try_recv() {
            self.take_back(connection);
        }
        outcome.map_err(|_| overflow())
    }

    /// Takes a connection back whose exchange ended cleanly: it goes to whoever waits, is kept, or
    /// is closed.
    pub(super) fn take_back(self: &Rc<Self>, connection: Connection) {
        let now = Instant::now();
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if !connection.is_ready()
            || self.is_too_old(&connection, now)
            || self.is_used_up(&connection)
            || shared.tasks.is_draining()
        {
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
        if self.kept.get() >= self.most_idle {
            self.close_oldest();
        }
        let endpoint = connection.endpoint.id;
        let idle = Idle {
            connection,
            since: now,
        };
        self.idle
            .borrow_mut()
            .entry(endpoint)
            .or_default()
            .push_back(idle);
        self.kept.set(self.kept.get().saturating_add(1));
        shared.keep_sweeping();
    }

    /// Gives a connection to a request of this worker that waits for one, unless requests of other
    /// workers wait too and this worker has more than its share.
    fn hand_over(&self, mut connection: Connection, waiting: usize) -> Option<Connection> {
        let mut waiters = self.waiters.borrow_mut();
        if waiting > waiters.len() && self.live.get() > self.fair {
            return Some(connection);
        }
        while let Some(waiter) = waiters.pop_front() {
            match waiter.send(Grant::Connection(connection)) {
                Err(Grant::Connection(back)) => connection = back,
                Ok(()) | Err(Grant::Permit(_)) => return None,
            }
        }
        Some(connection)
    }

    /// Closes the idle connection that was not used for longest; says whether there was one.
    fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle
            .values_mut()
            .filter(|kept| !kept.is_empty())
            .min_by_key(|kept| kept.front().map(|idle| idle.since));
        let closed = oldest.and_then(VecDeque::pop_front);
        if closed.is_some() {
            self.kept.set(self.kept.get().saturating_sub(1));
        }
        closed.is_some()
    }

    fn is_too_old(&self, connection: &Connection, now: Instant) -> bool {
        let limit = self.settings.max_age.get();
        limit.is_some_and(|limit| now.duration_since(connection.born) >= limit)
    }

    fn is_used_up(&self, connection: &Connection) -> bool {
        let limit = self.settings.requests_per_connection.get();
        limit.is_some_and(|limit| connection.served >= limit)
    }

    /// Closes what is idle for too long or dead, and one more if somebody waits for it; says when
    /// the next will be idle for too long.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let limit = self.settings.idle_timeout;
        self.forget_gone();
        self.forget(|_, idle| {
            now.duration_since(idle.since) < limit
                && idle.connection.is_ready()
                && !self.is_too_old(&idle.connection, now)
        });
        if self.state.budget.waiting() > 0 {
            self.close_oldest();
        }
        let idle = self.idle.borrow();
        let oldest = idle.values().filter_map(VecDeque::front);
        oldest.map(|idle| idle.since + limit).min()
    }

    /// Closes connections to endpoints that are gone.
    fn forget_gone(&self) {
        let upstream = self.upstream.borrow().upgrade();
        if let Some(upstream) = upstream {
            self.forget_all_but(&upstream.set.load());
        }
    }

    fn forget_all_but(&self, set: &Set) {
        let endpoints: Vec<u64> = self.idle.borrow().keys().copied().collect();
        if endpoints.iter().any(|&endpoint| !set.contains(endpoint)) {
            self.forget(|endpoint, _| set.contains(endpoint));
        }
    }

    fn forget(&self, keep: impl Fn(u64, &Idle) -> bool) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|&endpoint, kept| {
            kept.retain(|idle| keep(endpoint, idle));
            !kept.is_empty()
        });
        self.kept.set(idle.values().map(VecDeque::len).sum());
    }

    fn clear(&self) {
        self.forget(|_, _| false);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.budget.leave(&self.bell);
    }
}

impl Permit {
    /// The caller has taken one connection from the budget.
    fn new(pool: &Rc<Pool>) -> Self {
        pool.live.set(pool.live.get().saturating_add(1));
        Self(Rc::clone(pool))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let pool = &self.0;
        pool.live.set(pool.live.get().saturating_sub(1));
        pool.state.budget.give_back();
        // A worker may always have one: what waits here must not depend on the others.
        while pool.live.get() == 0 && !pool.waiters.borrow().is_empty() {
            let waiter = pool.waiters.borrow_mut().pop_front();
            let Some(waiter) = waiter.filter(|waiter| !waiter.is_closed()) else {
                continue;
            };
            if pool.state.budget.try_take(true) {
                // If nobody takes it after all, dropping it comes here again.
                drop(waiter.send(Grant::Permit(Self::new(pool))));
            }
        }
    }
}
