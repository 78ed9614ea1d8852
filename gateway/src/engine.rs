//! The engine: workers that serve what a channel of snapshots says.
//!
//! Its own thread takes each snapshot through load and compile and hands the plan to the workers,
//! so control work never delays a request. A snapshot is applied as a whole or refused as a whole;
//! refused, everything stays as it was. Files, controllers and tests all fill the same channel.

mod control;
mod development;
mod expiry;
mod local;
mod orders;
mod planner;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use sluice_config::{Problem, Snapshot, Version, names::ListenerName};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use crate::{
    pressure::Bounds,
    telemetry::{
        access_log::{Switch, Writer},
        metrics::Metrics,
        trace::Environment,
    },
    upstream::Connector,
};

use control::{Command, Control};
use orders::Keeps;

pub use local::LocalEngine;
pub use view::{Certificate, Live, View};

/// What holds for the life of an engine.
#[derive(Debug)]
pub struct Options {
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// How endpoints are reached.
    pub connector: Connector,
    /// What the process may take; nothing is watched by default.
    pub bounds: Bounds,
    /// Takes request lines instead of what the snapshots say.
    pub access_log: Option<Writer>,
    /// What the environment says about traces.
    pub environment: Environment,
    /// Where certificates are kept that are ordered, unless several gateways share them elsewhere.
    pub state_directory: Option<PathBuf>,
}

impl Options {
    /// That many workers, the network, and the access log of the snapshots.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self {
            workers,
            connector: Connector::Network,
            bounds: Bounds::default(),
            access_log: None,
            environment: Environment::of_process(),
            state_directory: None,
        }
    }
}

/// Why an engine cannot start, or a snapshot take effect.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What the snapshot names is not to be had.
    #[error("the configuration cannot take effect")]
    Refused(Vec<Problem>),
    /// The machine gives no further thread or runtime.
    #[error("starting a thread")]
    Thread(#[source] io::Error),
    /// The engine has ended.
    #[error("the engine has ended")]
    Ended,
}

/// What became of the snapshots so far.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// How many were applied or refused.
    pub handled: u64,
    /// The one that runs; none before the first.
    pub version: Option<Version>,
    /// Where its listeners accept.
    pub addresses: BTreeMap<ListenerName, SocketAddr>,
    /// The latest one, when it was refused.
    pub refused: Option<Refused>,
}

/// A snapshot that could not take effect.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Which.
    pub version: Version,
    /// Why.
    pub problems: Arc<[Problem]>,
}

/// A running engine. Dropping it ends it at once; [`Engine::drain`] ends it well.
#[derive(Debug)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    view: View,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts serving the current snapshot of the channel, then each later one. Returns when the
    /// first is served; refused, nothing was ever accepted. Blocks meanwhile.
    pub fn start(
        options: Options,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Result<Self, ApplyError> {
        let metrics = Metrics::new(options.workers.get());
        let (commands, receiver) = mpsc::channel(1);
        let (publish, applied) = watch::channel(Applied::default());
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            // Files are read one after the other; each further thread would keep memory of its own. But a
            // shared directory may hang, and keep some.
            .max_blocking_threads(4)
            .build()
            .map_err(ApplyError::Thread)?;
        let keeps = Keeps::new(options.state_directory.clone());
        let view = View {
            live: Arc::default(),
            certificates: keeps.certificates.store.clone(),
            keeper: keeps.orders.keeper().clone(),
            development: keeps.development.clone(),
            metrics: metrics.clone(),
            switch: Switch::default(),
            applied,
        };
        let (live, switch) = (Arc::clone(&view.live), view.switch.clone());
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let seen = (publish, live, switch);
                    let control = Control::new(options, metrics, seen, keeps);
                    Box::pin(control.run(snapshots, receiver, started)).await;
                });
            })
            .map_err(ApplyError::Thread)?;
        start.recv().map_err(|_| ApplyError::Ended)??;
        Ok(Self {
            commands,
            view,
            thread,
        })
    }

    /// Where a listener accepts, with the port that port 0 became.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        let name = ListenerName::new(listener).ok()?;
        self.view.applied.borrow().addresses.get(&name).copied()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.view.metrics
    }

    /// A look at it that outlives it.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// What became of the snapshots so far.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.view.applied.clone()
    }

    /// Completes when the engine has ended by itself, which only a defect can cause.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut applied = self.view.applied.clone();
        async move { while applied.changed().await.is_ok() {} }
    }

    /// Opens the file of the access log anew, for whoever rotates logs. Failures are logged.
    pub async fn reopen_log(&self) {
        if self.commands.send(Command::ReopenLog).await.is_err() {
            tracing::debug!("nobody is there to reopen the access log");
        }
    }

    /// Stops accepting, lets requests in flight finish for at most `grace`, and ends the rest.
    /// Returns whether everything finished by itself.
    pub async fn drain(self, grace: Duration) -> bool {
        let (done, finished) = oneshot::channel();
        let command = Command::Drain(grace, done);
        if self.commands.send(command).await.is_err() {
            return false;
        }
        let in_time = finished.await.unwrap_or(false);
        // The control thread has nothing left to do but to return.
        let joined = self.thread.join();
        in_time && joined.is_ok()
    }
}
