//! The control runtime's loop: load, compile, hand out; and at the end, drain.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use sluice_config::{Problem, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Applied, ApplyError, Live, Options, Refused, expiry, orders::Keeps, planner::Planner};
use crate::{
    authn::{users::Lists, verifier::Verifier},
    drain::Tasks,
    listener::{Crew, Fresh},
    load::{self, Bound, Certificates, DatagramSets, Datagrams, SocketKey, Sockets},
    plan::{Plan, Reaper, reaper},
    pressure::{self, Pressure},
    telemetry::{
        access_log::Switch,
        metrics::{Counter, Metrics},
    },
    upstream::{Connector, Registry},
    worker::{Assignment, Hand, Setup},
};

/// What the owner of the engine wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Finish within this time; answer whether it sufficed.
    Drain(Duration, oneshot::Sender<bool>),
    /// The file of the access log was moved away.
    ReopenLog,
}

/// Tells the starter how the first snapshot fared.
type Started = std::sync::mpsc::SyncSender<Result<(), ApplyError>>;

/// What is seen and turned from outside.
type Seen = (watch::Sender<Applied>, Arc<ArcSwapOption<Live>>, Switch);

/// A plan that nobody runs yet, and what it needs.
#[derive(Debug)]
struct Prepared {
    plan: Arc<Plan>,
    fresh: BTreeMap<SocketKey, Bound>,
    datagrams: DatagramSets,
    certificates: Certificates,
}

/// Everything that is no worker.
#[derive(Debug)]
pub(super) struct Control {
    planner: Planner,
    sockets: Sockets,
    datagrams: Datagrams,
    crew: Arc<Crew>,
    /// Of workers that have not started.
    inboxes: Vec<mpsc::Receiver<Fresh>>,
    workers: Vec<Hand>,
    connector: Connector,
    metrics: Metrics,
    pressure: Arc<Pressure>,
    reaper: Reaper,
    /// What runs here besides this loop.
    tasks: Tasks,
    /// What runs on workers besides client connections.
    background: Tasks,
    publish: watch::Sender<Applied>,
    live: Arc<ArcSwapOption<Live>>,
}

impl Control {
    /// On the control runtime.
    pub(super) fn new(
        options: Options,
        metrics: Metrics,
        (publish, live, switch): Seen,
        keeps: Keeps,
    ) -> Self {
        let (crew, inboxes) = Crew::new(options.workers.get());
        let tasks = Tasks::new();
        let (reaper, reaping) = reaper();
        tasks.spawn(reaping);
        let pressure = Arc::new(Pressure::default());
        tasks.spawn(pressure::watch(options.bounds, Arc::clone(&pressure)));
        let Keeps {
            certificates,
            orders,
            keeping,
            development,
        } = keeps;
        tasks.spawn(keeping.run());
        let renewed = Arc::default();
        tasks.spawn(development.clone().run(Arc::clone(&renewed)));
        let keeper = orders.keeper().clone();
        let watch = expiry::watch(certificates.store.clone(), keeper, Arc::clone(&renewed));
        tasks.spawn(watch);
        let connector = options.connector;
        let counters = metrics.control();
        let registry = Registry::new(connector.clone(), tasks.clone(), counters.clone());
        Self {
            planner: Planner {
                registry,
                connections: Tasks::new(),
                workers: crew.len(),
                counters,
                fixed_log: options.access_log,
                switch,
                log: None,
                environment: options.environment,
                tracing: None,
                tasks: tasks.clone(),
                current: None,
                certificates,
                users: Lists::default(),
                verifier: Verifier::default(),
                orders,
                development,
                renewed,
            },
            sockets: Sockets::default(),
            datagrams: Datagrams::default(),
            crew,
            inboxes,
            workers: Vec::new(),
            connector,
            metrics,
            pressure,
            reaper,
            tasks,
            background: Tasks::new(),
            publish,
            live,
        }
    }

    /// Serves until told to drain, or nobody is there to tell.
    pub(super) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut commands: mpsc::Receiver<Command>,
        started: Started,
    ) {
        let first = Arc::clone(&snapshots.borrow_and_update());
        let result = self.apply(&first).await;
        drop(first);
        let refused = result.is_err();
        if started.send(result).is_err() || refused {
            self.end(Duration::ZERO).await;
            return;
        }
        let mut more = true;
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let (grace, done) = match command {
                        Some(Command::ReopenLog) => {
                            self.reopen_log();
                            continue;
                        }
                        Some(Command::Drain(grace, done)) => (grace, Some(done)),
                        None => (Duration::ZERO, None),
                    };
                    let in_time = self.end(grace).await;
                    if done.is_some_and(|done| done.send(in_time).is_err()) {
                        tracing::debug!("nobody waits for the end");
                    }
                    return;
                }
                changed = snapshots.changed(), if more => {
                    more = changed.is_ok();
                    if more {
                        let snapshot = Arc::clone(&snapshots.borrow_and_update());
                        if let Err(error) = self.apply(&snapshot).await {
                            tracing::debug!(%error, version = %snapshot.version, "not applied");
                        }
                    }
                }
            }
        }
    }

    fn reopen_log(&self) {
        let Some(plan) = &self.planner.current else {
            return;
        };
        match plan.access_log.reopen() {
            Ok(()) => tracing::info!("access log reopened"),
            Err(error) => {
                tracing::error!(%error, "access log not reopened, writing on to the old file");
            }
        }
    }

    /// Applies `snapshot` as a whole, or refuses it as a whole.
    async fn apply(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), ApplyError> {
        // A defect that some configuration brings to light must not end what runs.
        let prepared = AssertUnwindSafe(self.prepare(snapshot))
            .catch_unwind()
            .await;
        let result = match prepared.unwrap_or_else(|_| Err(vec![defect()])) {
            Ok(prepared) => self.hand_out(snapshot, prepared).await,
            Err(problems) => Err(ApplyError::Refused(problems)),
        };
        let counters = &self.planner.counters;
        match &result {
            Ok(()) => {
                counters.count(Counter::ReloadsApplied);
                let plan = self.planner.current.clone();
                self.live.store(plan.map(|plan| {
                    let snapshot = Arc::clone(snapshot);
                    Arc::new(Live { snapshot, plan })
                }));
                let bound = snapshot.listeners.iter();
                let bound = bound.filter_map(|(name, listener)| {
                    let address = self.sockets.address(listener);
                    let address = address.or_else(|| self.datagrams.address(listener));
                    Some((name.clone(), address?))
                });
                let addresses = bound.collect();
                self.publish.send_modify(|applied| {
                    applied.handled = applied.handled.wrapping_add(1);
                    applied.version = Some(snapshot.version.clone());
                    applied.addresses = addresses;
                    applied.refused = None;
                });
            }
            Err(error) => {
                counters.count(Counter::ReloadsRefused);
                let problems: &[Problem] = match error {
                    ApplyError::Refused(problems) => problems,
                    ApplyError::Thread(_) | ApplyError::Ended => &[],
                };
                self.publish.send_modify(|applied| {
                    applied.handled = applied.handled.wrapping_add(1);
                    applied.refused = Some(Refused {
                        version: snapshot.version.clone(),
                        problems: problems.into(),
                    });
                });
            }
        }
        result
    }

    /// Everything that can fail: files, sockets, the access log. Changes nothing that runs.
    async fn prepare(&self, snapshot: &Arc<Snapshot>) -> Result<Prepared, Vec<Problem>> {
        let (named, known) = (Arc::clone(snapshot), self.planner.certificates.clone());
        let users = self.planner.users.clone();
        let read = tokio::task::spawn_blocking(move || load::files(&named, &known, &users));
        let bound = self.sockets.bind(snapshot, self.crew.len());
        let bound = bound.and_then(|fresh| {
            let sets = self.datagrams.bind(snapshot, self.crew.len())?;
            Ok((fresh, sets))
        });
        let (loaded, (fresh, datagrams)) = match (read.await, bound) {
            (Ok(Ok(loaded)), Ok(bound)) => (loaded, bound),
            (read, bound) => {
                let mut problems = bound.err().unwrap_or_default();
                match read {
                    Ok(Err(files)) => problems.extend(files),
                    Ok(Ok(_)) => {}
                    Err(_panic) => problems.push(defect()),
                }
                return Err(problems);
            }
        };
        let (plan, certificates) = self.planner.compile(snapshot, loaded)?;
        Ok(Prepared {
            plan,
            fresh,
            datagrams,
            certificates,
        })
    }

    /// Gives the plan and its sockets to the workers and waits until each runs it.
    async fn hand_out(
        &mut self,
        snapshot: &Snapshot,
        prepared: Prepared,
    ) -> Result<(), ApplyError> {
        let Prepared {
            plan,
            mut fresh,
            datagrams,
            certificates,
        } = prepared;
        self.sockets.keep(snapshot, &mut fresh);
        self.datagrams.keep(snapshot, &datagrams);
        // Before anybody runs the plan: a handshake finds its certificate from the first moment on.
        self.planner.present(snapshot, &plan, certificates);
        self.planner.settle().await;
        for (number, inbox) in self.inboxes.drain(..).enumerate() {
            let setup = Setup {
                number,
                crew: Arc::clone(&self.crew),
                connector: self.connector.clone(),
                background: self.background.clone(),
                counters: self.metrics.worker(number),
                pressure: Arc::clone(&self.pressure),
                reaper: self.reaper.clone(),
                plan: Arc::clone(&plan),
            };
            let worker = Hand::start(setup, inbox).map_err(ApplyError::Thread)?;
            self.workers.push(worker);
        }
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let assign = |listener: &Arc<sluice_config::model::Listener>| {
                let key = SocketKey::of(listener);
                let socket = fresh.get_mut(&key).and_then(|bound| bound.sockets.pop());
                let datagrams = datagrams.get(&key).map(Arc::clone);
                Assignment {
                    key,
                    listener: listener.name.clone(),
                    socket,
                    datagrams,
                }
            };
            let assignments = snapshot.listeners.values().map(assign).collect();
            waiting.push(worker.apply(Arc::clone(&plan), assignments).await);
        }
        for done in waiting {
            // An error means that the worker ended, which it says itself.
            done.await.unwrap_or_default();
        }
        self.planner.commit(snapshot, plan);
        Ok(())
    }

    /// Lets every worker accept on nothing.
    async fn close(&self, plan: &Arc<Plan>) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            waiting.push(worker.apply(Arc::clone(plan), Vec::new()).await);
        }
        for done in waiting {
            done.await.unwrap_or_default();
        }
    }

    /// Stops accepting, waits for what is in flight, ends the rest. Whether all was in time.
    async fn end(mut self, grace: Duration) -> bool {
        // Their files go first: nobody shall wait for nothing.
        self.sockets = Sockets::default();
        if let Some(plan) = self.planner.current.clone() {
            self.close(&plan).await;
            // Once more, for the sockets that one worker handed to another meanwhile.
            self.close(&plan).await;
        }
        let in_time = self.planner.connections.finish(grace).await;
        self.background.abort();
        let workers = std::mem::take(&mut self.workers);
        // The workers do not wait for this thread, so it may wait for them.
        for worker in workers {
            worker.end();
        }
        if let Some(plan) = &self.planner.current {
            plan.access_log.flush();
            plan.tracer.flush().await;
        }
        self.tasks.abort();
        in_time
    }
}

/// What is said when making a plan panicked.
fn defect() -> Problem {
    Problem {
        code: "internal",
        at: String::new(),
        what: "the gateway failed to make a plan of this configuration".to_owned(),
        hint: Some("this is a defect of the gateway: please report it".to_owned()),
        witness: None,
        place: None,
    }
}
