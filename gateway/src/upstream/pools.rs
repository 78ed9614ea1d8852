//! The connections of one worker: which endpoint, which connection, and the way to a new one.
//!
//! Connections never leave their worker. Every wait in here is bounded by the upstream's settings.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use rand::{SeedableRng, rngs::SmallRng};
use sluice_config::names::UpstreamName;
use tokio::time::{Instant, timeout_at};

use super::{
    Upstream,
    balance::{pick, pick_avoiding},
    connect::{Connection, Connector},
    endpoints::{Active, Choice, Endpoint},
    lease::{Lease, NoLease},
    pool::{Grant, Permit, Pool},
};
use crate::{
    drain::Tasks,
    error::ProxyError,
    telemetry::metrics::{Counter, Shard},
};

/// The connections of one worker to all upstreams.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    workers: usize,
    connector: Connector,
    tasks: Tasks,
    counters: Shard,
    random: RefCell<SmallRng>,
    by_state: RefCell<HashMap<u64, Rc<Pool>, foldhash::fast::RandomState>>,
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
            connector,
            tasks,
            counters,
            random: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            by_state: RefCell::default(),
        }
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

    /// Lends a connection to an endpoint of `upstream`.
    ///
    /// Waits for the first answer to a name (at most `dns.timeout` and `timeouts.connect`), for the
    /// budget and for the connection (together at most `timeouts.connect`). A request that waited
    /// for the budget until then ends as [`ProxyError::Overflow`]. When connecting to one address
    /// of a name fails, its others are tried.
    pub async fn lease(&self, upstream: &Arc<Upstream>, choice: Choice) -> Result<Lease, NoLease> {
        let pool = self.pool(upstream);
        let Some(endpoint) = self.choose(&pool, upstream, &choice) else {
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
                active,
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
    ) -> Result<Lease, NoLease> {
        let patience = upstream.dns.timeout.min(upstream.model.timeouts.connect);
        let deadline = Instant::now() + patience;
        let nothing = || ProxyError::NoEndpoint {
            upstream: upstream.name().clone(),
        };
        loop {
            let mut changed = std::pin::pin!(upstream.changed.notified());
            changed.as_mut().enable();
            if let Some(endpoint) = self.choose(&pool, upstream, &choice) {
                return self
                    .lease_fresh(pool, upstream, Active::new(endpoint), choice)
                    .await;
            }
            if !upstream.set.load().unresolved {
                return Err(nothing().into());
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
    ) -> Result<Lease, NoLease> {
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
                    active,
                });
            }
        };
        let (connection, active) = self.connect(&upstream, active, permit, deadline).await?;
        Ok(Lease {
            pool,
            upstream,
            connection,
            active,
        })
    }

    async fn connect(
        &self,
        upstream: &Arc<Upstream>,
        mut active: Active,
        permit: Permit,
        deadline: Instant,
    ) -> Result<(Connection, Active), NoLease> {
        let mut tried = Vec::new();
        loop {
            let endpoint = Arc::clone(active.endpoint());
            let key = endpoint.key.clone();
            tried.push(endpoint.id);
            let next = upstream.set.load().sibling(&endpoint, &tried).cloned();
            // An address that says nothing must not use up the time of the others.
            let now = Instant::now();
            let until = match next {
                Some(_) => now + deadline.duration_since(now) / 2,
                None => deadline,
            };
            let attempt = timeout_at(until, self.connector.open(&endpoint.target)).await;
            let source = match attempt {
                Ok(Ok(stream)) => {
                    self.counters.count(Counter::UpstreamConnections);
                    let connection = Connection::new(
                        stream,
                        endpoint,
                        upstream.model.timeouts.write_stall,
                        permit,
                        &self.tasks,
                    )
                    .await;
                    return connection
                        .map(|connection| (connection, active))
                        .map_err(|source| NoLease {
                            error: ProxyError::Connect {
                                upstream: upstream.name().clone(),
                                source,
                            },
                            endpoint: Some(key),
                        });
                }
                Ok(Err(source)) => Some(source),
                Err(_) => None,
            };
            self.counters.count(Counter::UpstreamConnectFailures);
            let upstream = upstream.name().clone();
            let error = match (next, source) {
                (Some(next), _) => {
                    active = Active::new(next);
                    continue;
                }
                (None, Some(source)) => ProxyError::Connect { upstream, source },
                (None, None) => ProxyError::ConnectTimeout { upstream },
            };
            return Err(NoLease {
                error,
                endpoint: Some(key),
            });
        }
    }

    /// The pool of an upstream, made on first use.
    fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.by_state.borrow_mut();
        let pool = pools
            .entry(upstream.state.id)
            .or_insert_with(|| Pool::new(upstream, self.workers, self.tasks.clone()));
        Rc::clone(pool)
    }

    fn choose(
        &self,
        pool: &Pool,
        upstream: &Arc<Upstream>,
        choice: &Choice,
    ) -> Option<Arc<Endpoint>> {
        let set = upstream.set.load();
        let mut rotor = pool.rotor(upstream, &set, self.worker, self.workers);
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
            pick(balance, &set.weights, &mut rotor, &mut *random, |index| {
                set.active(index)
            })
        };
        index.and_then(|index| set.get(index)).map(Arc::clone)
    }
}
