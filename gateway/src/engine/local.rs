//! An engine on the caller's own runtime, over streams in memory: for tests with a paused clock.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sluice_config::{Snapshot, names::ListenerName};
use tokio::io::DuplexStream;

use super::{ApplyError, Engine, Options, orders::Keeps, planner::Planner};
use crate::{
    authn::{users::Lists, verifier::Verifier},
    drain::Tasks,
    listener::Crew,
    load,
    plan::{Plan, reaper},
    telemetry::{
        access_log::Switch,
        metrics::{Counter, Metrics},
    },
    upstream::Registry,
    worker::{Setup, Worker},
};

/// Bytes that wait in each direction of a stream in memory, as in a small socket buffer.
const BUFFER: usize = 64 << 10;

/// One worker and the control tasks on the caller's current-thread runtime. Binds nothing.
#[derive(Debug)]
pub struct LocalEngine {
    planner: Planner,
    worker: Worker,
    metrics: Metrics,
    control: Tasks,
    background: Tasks,
    next_port: u16,
}

impl Engine {
    /// Starts an engine inside the caller's `LocalSet`.
    pub fn local(options: Options, snapshot: &Snapshot) -> Result<LocalEngine, ApplyError> {
        let metrics = Metrics::new(1);
        let (control, background) = (Tasks::new(), Tasks::new());
        let (reaper, reaping) = reaper();
        control.spawn(reaping);
        // Nothing is ordered here: what an order waits for is no stream in memory.
        let Keeps {
            certificates,
            orders,
            keeping: _,
            development,
        } = Keeps::new(options.state_directory);
        let connector = options.connector;
        let mut planner = Planner {
            registry: Registry::new(connector.clone(), control.clone(), metrics.control()),
            connections: Tasks::new(),
            workers: 1,
            counters: metrics.control(),
            fixed_log: options.access_log,
            switch: Switch::default(),
            log: None,
            environment: options.environment,
            tracing: None,
            tasks: control.clone(),
            current: None,
            certificates,
            users: Lists::default(),
            verifier: Verifier::default(),
            orders,
            development,
            renewed: Arc::default(),
        };
        let plan = prepare(&mut planner, snapshot)?;
        let (crew, _) = Crew::new(1);
        let worker = Worker::new(Setup {
            number: 0,
            crew,
            connector,
            background: background.clone(),
            counters: metrics.worker(0),
            pressure: Arc::default(),
            reaper,
            plan: Arc::clone(&plan),
        });
        planner.commit(snapshot, plan);
        Ok(LocalEngine {
            planner,
            worker,
            metrics,
            control,
            background,
            next_port: 40_000,
        })
    }
}

fn prepare(planner: &mut Planner, snapshot: &Snapshot) -> Result<Arc<Plan>, ApplyError> {
    let files = load::files(snapshot, &planner.certificates, &planner.users)
        .map_err(ApplyError::Refused)?;
    let (plan, certificates) = planner
        .compile(snapshot, files)
        .map_err(ApplyError::Refused)?;
    planner.present(snapshot, &plan, certificates);
    Ok(plan)
}

impl LocalEngine {
    /// A connection to a listener, from a port of 127.0.0.1. None when there is no such listener.
    pub fn connect(&mut self, listener: &str) -> Option<DuplexStream> {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        self.connect_from(listener, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// A connection to a listener from that address.
    pub fn connect_from(&mut self, listener: &str, client: IpAddr) -> Option<DuplexStream> {
        let name = ListenerName::new(listener).ok()?;
        let plan = self.planner.current.as_ref()?;
        let listener = Arc::clone(plan.listeners.get(&name)?);
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let peer = SocketAddr::new(client, self.next_port);
        self.worker.door().admit_memory(ours, peer, listener);
        Some(theirs)
    }

    /// Applies another snapshot.
    pub async fn apply(&mut self, snapshot: &Snapshot) -> Result<(), ApplyError> {
        let result = prepare(&mut self.planner, snapshot);
        let counters = self.metrics.control();
        match result {
            Ok(plan) => {
                self.worker.apply(Arc::clone(&plan), Vec::new()).await;
                self.planner.commit(snapshot, plan);
                counters.count(Counter::ReloadsApplied);
                Ok(())
            }
            Err(error) => {
                counters.count(Counter::ReloadsRefused);
                Err(error)
            }
        }
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Lets requests in flight finish for at most `grace` and ends the rest. Returns whether
    /// everything finished by itself.
    pub async fn drain(self, grace: Duration) -> bool {
        let in_time = self.planner.connections.finish(grace).await;
        self.background.abort();
        if let Some(plan) = &self.planner.current {
            plan.tracer.flush().await;
        }
        self.control.abort();
        in_time
    }
}
