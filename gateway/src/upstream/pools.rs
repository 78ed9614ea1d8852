//! The connections of one worker: which endpoint, which connection, and the way to a new one.
//!
//! Connections never leave their worker. Every wait in here is bounded by the upstream's settings.

mod aim;
mod raw;

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use rand::{SeedableRng, rngs::SmallRng};
use sluice_config::names::UpstreamName;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Dialect, Manner, Upstream,
    balance::{Key, pick, pick_avoiding},
    connect::{Connector, Dial, Made, NotMade},
    endpoints::{Active, Choice, Endpoint, Way},
    lease::{Account, Lease, NoLease},
    outward::Outward,
    pool::{Grant, Lent, Permit, Pool, Ride},
};
use crate::{drain::Tasks, error::ProxyError, pressure::Pressure, telemetry::metrics::Shard};

pub use aim::Aim;
pub use raw::Raw;

/// The connections of one worker to all upstreams.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    workers: usize,
    pub(super) dial: Dial,
    random: RefCell<SmallRng>,
    /// Upstreams that no configuration names.
    pub(super) outward: Outward,
    pub(super) by_state: RefCell<HashMap<u64, Rc<Pool>, foldhash::fast::RandomState>>,
}

impl Pools {
    /// The pools of worker `worker`, from 0, of `workers`. `tasks` runs the connections.
    pub fn new(
        worker: usize,
        workers: usize,
        connector: Connector,
        tasks: Tasks,
        counters: Shard,
    ) -> Self {
        Self {
            worker,
            workers: workers.max(1),
            outward: Outward::new(&counters),
            dial: Dial {
                connector,
                tasks,
                counters,
                pressure: Arc::default(),
            },
            random: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            by_state: RefCell::default(),
        }
    }

    /// The same, which leave the descriptors alone that `pressure` reserves.
    #[must_use]
    pub fn within(mut self, pressure: Arc<Pressure>) -> Self {
        self.dial.pressure = pressure;
        self
    }

    /// Closes idle connections to upstreams and endpoints that are gone. `current` says what serves
    /// under a name now.
    pub fn retain(&self, current: impl Fn(&UpstreamName) -> Option<Arc<Upstream>>) {
        let mut gone = Vec::new();
        self.by_state.borrow_mut().retain(|_, pool| {
            let kept = current(pool.name()).is_some_and(|upstream| pool.follow(&upstream));
            if !kept {
                gone.push(Rc::clone(pool));
            }
            kept
        });
        for pool in gone {
            pool.retire();
        }
    }

    /// Lends a connection to an endpoint of `upstream`, or room on one, for a request in this manner.
    ///
    /// Waits for the first answer to a name (at most `dns.timeout` and `timeouts.connect`), for the
    /// budget and for the connection (together at most `timeouts.connect`). A request that waited
    /// for the budget until then ends as [`ProxyError::Overflow`]. When connecting to one address
    /// of a name fails, its others are tried.
    pub async fn lease(
        &self,
        upstream: &Arc<Upstream>,
        choice: Choice,
        manner: impl Into<Manner>,
    ) -> Result<Lease, NoLease> {
        let manner = manner.into();
        let pool = self.pool(upstream);
        let Some(endpoint) = self.choose(&pool, upstream, &choice) else {
            return Box::pin(self.lease_unresolved(pool, upstream, choice, manner)).await;
        };
        let active = Active::new(endpoint);
        let way = manner.way(active.endpoint());
        let lent = match manner.dialect {
            Dialect::Http1 if choice.takes_used() => pool.idle_on(&way).map(Lent::Whole),
            Dialect::Http1 => None,
            Dialect::Http2 => pool.place_on(&way).map(Lent::Part),
            Dialect::Either => {
                let used = || choice.takes_used().then(|| pool.idle_on(&way)).flatten();
                let place = pool.place_on(&way).map(Lent::Part);
                place.or_else(|| used().map(Lent::Whole))
            }
        };
        if let Some(lent) = lent {
            let account = Account {
                pool,
                upstream: Arc::clone(upstream),
                active,
            };
            return Ok(Lease { account, lent });
        }
        Box::pin(self.lease_fresh(pool, upstream, active, choice, manner)).await
    }

    /// There is no endpoint, perhaps because a name has not been answered yet.
    async fn lease_unresolved(
        &self,
        pool: Rc<Pool>,
        upstream: &Arc<Upstream>,
        choice: Choice,
        manner: Manner,
    ) -> Result<Lease, NoLease> {
        let endpoint = self.resolved(&pool, upstream, &choice).await?;
        let active = Active::new(endpoint);
        self.lease_fresh(pool, upstream, active, choice, manner)
            .await
    }

    /// An endpoint, once the names of the upstream are answered.
    async fn resolved(
        &self,
        pool: &Pool,
        upstream: &Arc<Upstream>,
        choice: &Choice,
    ) -> Result<Arc<Endpoint>, NoLease> {
        let patience = upstream.dns.timeout.min(upstream.model.timeouts.connect);
        let deadline = Instant::now() + patience;
        let nothing = || ProxyError::NoEndpoint {
            upstream: upstream.name().clone(),
        };
        loop {
            let mut changed = std::pin::pin!(upstream.changed.notified());
            changed.as_mut().enable();
            if let Some(endpoint) = self.choose(pool, upstream, choice) {
                return Ok(endpoint);
            }
            if !upstream.set.load().unresolved {
                return Err(nothing().into());
            }
            timeout_at(deadline, changed).await.map_err(|_| nothing())?;
        }
    }

    /// Makes a connection, once the budget allows it, or shares one that another request makes.
    async fn lease_fresh(
        &self,
        pool: Rc<Pool>,
        upstream: &Arc<Upstream>,
        mut active: Active,
        choice: Choice,
        manner: Manner,
    ) -> Result<Lease, NoLease> {
        let deadline = Instant::now() + upstream.model.timeouts.connect;
        let wanted = (&choice, &manner);
        let lent = match manner.dialect {
            Dialect::Http1 => {
                self.alone(&pool, upstream, &mut active, wanted, deadline)
                    .await
            }
            Dialect::Http2 | Dialect::Either => {
                self.shared(&pool, upstream, &mut active, wanted, deadline)
                    .await
            }
        };
        let lent = lent.inspect_err(|no| {
            if matches!(no.error, ProxyError::NoDescriptor) {
                self.make_room();
            }
        })?;
        let account = Account {
            pool,
            upstream: Arc::clone(upstream),
            active,
        };
        Ok(Lease { account, lent })
    }

    /// No descriptor is left: a connection that is kept to be idle is worth less than one that would
    /// be used, and its own comes too late for this request, but not for the next.
    pub(super) fn make_room(&self) {
        for pool in self.by_state.borrow().values() {
            pool.close_oldest();
        }
    }

    /// Makes a connection for one request.
    async fn alone(
        &self,
        pool: &Rc<Pool>,
        upstream: &Arc<Upstream>,
        active: &mut Active,
        (choice, manner): (&Choice, &Manner),
        deadline: Instant,
    ) -> Result<Lent, NoLease> {
        let grant = pool.permit(upstream, choice, manner, deadline);
        let permit = match grant.await? {
            Grant::Permit(permit) => permit,
            Grant::Lent(lent) => return Ok(at_home(lent, active)),
        };
        let made = self.dial.make(upstream, active, manner, permit, deadline);
        match made.await {
            Ok(Made::Whole(connection)) => Ok(Lent::Whole(connection)),
            Ok(Made::Shared(channel)) => {
                active
                    .endpoint()
                    .prefers_http1
                    .store(false, Ordering::Relaxed);
                Ok(Lent::Part(pool.adopt(channel)))
            }
            Err(not_made) => Err(not_made.into_no_lease(upstream)),
        }
    }

    /// Finds room on a connection, which others may be waiting for, too.
    async fn shared(
        &self,
        pool: &Rc<Pool>,
        upstream: &Arc<Upstream>,
        active: &mut Active,
        (choice, manner): (&Choice, &Manner),
        deadline: Instant,
    ) -> Result<Lent, NoLease> {
        loop {
            let endpoint = Arc::clone(active.endpoint());
            let way = manner.way(&endpoint);
            if let Some(place) = pool.place_on(&way) {
                return Ok(Lent::Part(place));
            }
            let either = manner.dialect == Dialect::Either;
            if either && endpoint.prefers_http1.load(Ordering::Relaxed) {
                return self
                    .alone(pool, upstream, active, (choice, manner), deadline)
                    .await;
            }
            let ride = if let Some(ride) = pool.board(&way) {
                ride
            } else {
                let grant = pool.permit(upstream, choice, manner, deadline);
                match grant.await? {
                    Grant::Permit(permit) => {
                        self.connect(pool, upstream, (&endpoint, manner), permit, deadline)
                    }
                    Grant::Lent(lent) => return Ok(at_home(lent, active)),
                }
            };
            let no = match timeout_at(deadline, ride).await {
                Ok(Ok(Ride::Place(place))) => {
                    return Ok(at_home(Lent::Part(place), active));
                }
                Ok(Ok(Ride::Whole(connection))) if either => {
                    return Ok(at_home(Lent::Whole(connection), active));
                }
                Ok(Ok(Ride::Whole(connection))) => {
                    pool.take_back(connection);
                    continue;
                }
                Ok(Ok(Ride::Full | Ride::Alone)) => continue,
                // It came of somebody who demands HTTP/2.
                Ok(Ok(Ride::NotMade(not_made))) if either && not_made.is_http1() => {
                    endpoint.prefers_http1.store(true, Ordering::Relaxed);
                    continue;
                }
                Ok(Ok(Ride::NotMade(not_made))) => not_made.into_no_lease(upstream),
                // Nobody makes connections any more.
                Ok(Err(_)) => ProxyError::Draining.into(),
                Err(_) => NotMade::too_slow(&endpoint).into_no_lease(upstream),
            };
            return Err(no);
        }
    }

    /// Makes a connection for whoever needs one, also when the first who did is gone.
    fn connect(
        &self,
        pool: &Rc<Pool>,
        upstream: &Arc<Upstream>,
        (endpoint, manner): (&Arc<Endpoint>, &Manner),
        permit: Permit,
        deadline: Instant,
    ) -> oneshot::Receiver<Ride> {
        let (expected, ride) = pool.expect(manner.way(endpoint));
        let (dial, manner) = (self.dial.clone(), manner.clone());
        let upstream = Arc::clone(upstream);
        let mut active = Active::new(Arc::clone(endpoint));
        self.dial.tasks.spawn_local(async move {
            let making = dial.make(&upstream, &mut active, &manner, permit, deadline);
            let made = making.await;
            if let Ok(Made::Whole(connection)) = &made {
                connection
                    .endpoint
                    .prefers_http1
                    .store(true, Ordering::Relaxed);
            }
            // Whoever gets it must not find its endpoint busy with nothing.
            drop(active);
            expected.arrived(made);
        });
        ride
    }

    /// The pool of an upstream, made on first use.
    fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.by_state.borrow_mut();
        let pool = pools
            .entry(upstream.state.id)
            .or_insert_with(|| Pool::new(upstream, self.workers, &self.dial));
        Rc::clone(pool)
    }

    fn choose(
        &self,
        pool: &Pool,
        upstream: &Arc<Upstream>,
        choice: &Choice,
    ) -> Option<Arc<Endpoint>> {
        let key = match choice {
            Choice::Of(key) => Some(*key),
            Choice::Any | Choice::FreshOf(_) | Choice::Avoid(_) => None,
        };
        self.choose_for(pool, upstream, choice, key)
    }

    /// As [`Self::choose`], where what has the same `key` is kept together.
    fn choose_for(
        &self,
        pool: &Pool,
        upstream: &Arc<Upstream>,
        choice: &Choice,
        key: Option<Key>,
    ) -> Option<Arc<Endpoint>> {
        let set = upstream.set.load();
        let mut rotor = pool.rotor(upstream, &set, self.worker, self.workers);
        let mut random = self.random.borrow_mut();
        if let Choice::FreshOf(key) = choice
            && let Some(endpoint) = set.find(key)
        {
            return Some(Arc::clone(endpoint));
        }
        let avoid = |index| match choice {
            Choice::Avoid(keys) => set.get(index).is_some_and(|e| keys.contains(&e.key)),
            Choice::Any | Choice::Of(_) | Choice::FreshOf(_) => false,
        };
        let index = match (&set.ring, key, choice) {
            (Some(ring), Some(key), _) => ring.at(key, avoid),
            (_, _, Choice::Avoid(_)) => pick_avoiding(&set.weights, &mut *random, avoid),
            (_, _, Choice::Any | Choice::Of(_) | Choice::FreshOf(_)) => {
                let balance = upstream.model.balance;
                pick(balance, &set.weights, &mut rotor, &mut *random, |index| {
                    set.active(index)
                })
            }
        };
        index.and_then(|index| set.get(index)).map(Arc::clone)
    }
}

impl Manner {
    /// The way of such a request to `endpoint`.
    fn way(&self, endpoint: &Endpoint) -> Way {
        Way {
            endpoint: endpoint.id,
            header: self.header.clone(),
        }
    }
}

/// Counts a request where it goes, which may be another endpoint than it had in mind.
fn at_home(lent: Lent, active: &mut Active) -> Lent {
    let endpoint = match &lent {
        Lent::Whole(connection) => &connection.endpoint,
        Lent::Part(place) => &place.channel.endpoint,
    };
    *active = Active::new(Arc::clone(endpoint));
    lent
}
