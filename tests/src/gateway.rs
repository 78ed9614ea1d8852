//! The real engine in this process, on real sockets, configured by the same TOML as the program.

use std::{
    fmt::Write as _, net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc, time::Duration,
};

use sluice_config::{Snapshot, Sources, Style};
use sluice_gateway::{
    engine::{Engine, Options},
    telemetry::{
        metrics::{Counter, DatagramReading, Event, HandshakeReading, Reading, Sniffed},
        trace::Environment,
    },
};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    AccessLog, Client, Reply,
    eventually::{eventually, within},
};

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    engine: Option<Engine>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    folder: TempDir,
}

/// Starts a gateway with this configuration. A text without a listener gets `web` on a port of its
/// own, one without an access log gets one in a file.
pub async fn gateway(config: &str) -> Gateway {
    Gateway::start(config, 2).await
}

impl Gateway {
    /// Starts a gateway with this many workers.
    pub async fn start(config: &str, workers: usize) -> Self {
        Self::start_in(config, workers, Environment::default()).await
    }

    /// Starts a gateway with this many workers, whose environment says this about traces.
    pub async fn start_in(config: &str, workers: usize, environment: Environment) -> Self {
        let mut options = Options::new(NonZeroUsize::new(workers).expect("at least one worker"));
        options.environment = environment;
        Self::start_with(config, options).await
    }

    /// Starts a gateway with these options.
    pub async fn start_with(config: &str, mut options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = || folder.path().join("state");
        options.state_directory.get_or_insert_with(state);
        let (snapshots, receiver) = watch::channel(snapshot(config, folder.path()));
        // Starting binds sockets and starts threads; it must not hold up the origins of the test.
        let engine = tokio::task::spawn_blocking(move || Engine::start(options, receiver));
        let engine = engine.await.expect("no panic").expect("the engine starts");
        Self {
            engine: Some(engine),
            snapshots,
            folder,
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it was not stopped")
    }

    /// Where a listener accepts.
    pub fn address_of(&self, listener: &str) -> Option<SocketAddr> {
        self.engine().address(listener)
    }

    /// Where the listener `web` accepts.
    pub fn address(&self) -> SocketAddr {
        self.address_of("web").expect("there is a listener web")
    }

    /// A connection to the listener `web`.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// One request over a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> Reply {
        self.connect().await.get(host, path).await
    }

    /// Sends bytes over a connection of their own and gives the answer.
    pub async fn ask(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.reply().await
    }

    /// Its access log.
    pub fn log(&self) -> AccessLog {
        AccessLog::at(&self.folder.path().join("access.jsonl"))
    }

    /// The sum of a counter over all workers.
    pub fn count(&self, counter: Counter) -> u64 {
        self.engine().metrics().sum(counter)
    }

    /// How many connections of a listener turned out to be this.
    pub fn sniffed(&self, listener: &str, outcome: Sniffed) -> u64 {
        let live = self.engine().view().live().expect("a plan");
        let mut all = live.plan.listeners.iter();
        let found = all.find(|(name, _)| name.as_str() == listener);
        let (_, listener) = found.expect("there is such a listener");
        listener.traffic.read().events(Event::Sniffed(outcome))
    }

    /// The TLS handshakes of a listener so far.
    pub fn handshakes(&self, listener: &str) -> HandshakeReading {
        let live = self.engine().view().live().expect("a plan");
        let mut all = live.plan.listeners.iter();
        let found = all.find(|(name, _)| name.as_str() == listener);
        let (_, listener) = found.expect("there is such a listener");
        let tls = listener.tls.as_ref().expect("it ends TLS");
        tls.handshakes.read()
    }

    /// The TLS handshakes with the endpoints of an upstream so far.
    pub fn handshakes_with(&self, upstream: &str) -> HandshakeReading {
        let live = self.engine().view().live().expect("a plan");
        let mut all = live.plan.upstreams.iter();
        let found = all.find(|(name, _)| name.as_str() == upstream);
        let (_, upstream) = found.expect("there is such an upstream");
        upstream.handshakes().expect("it speaks TLS").read()
    }

    /// How many attempts to get outside were allowed, refused and let pass in the shadow by a rule, or where
    /// none was about them (an empty name).
    pub fn egress(&self, rule: &str) -> [u64; 3] {
        let plan = &self.engine().view().live().expect("a plan").plan;
        let mut all = plan.egress.counts();
        let found = all.find(|(name, _)| name.map_or("", |it| it.as_str()) == rule);
        let (_, counts) = found.expect("there is such a rule");
        [counts.allowed, counts.refused, counts.shadow]
    }

    /// How many attempts to get outside there were of clients that have not said who they are.
    pub fn unauthenticated(&self) -> u64 {
        let plan = &self.engine().view().live().expect("a plan").plan;
        plan.egress.unknown()
    }

    /// How many names are kept that clients asked for.
    pub fn names_kept(&self) -> usize {
        let plan = &self.engine().view().live().expect("a plan").plan;
        plan.outlets.names().expect("a way outside").kept()
    }

    /// The raw streams of a listener, route or upstream so far.
    pub fn streams(&self, kind: &str, name: &str) -> Reading {
        let plan = &self.engine().view().live().expect("a plan").plan;
        let traffic = match kind {
            "listener" => {
                let mut all = plan.listeners.iter();
                all.find(|it| it.0.as_str() == name).map(|it| &it.1.traffic)
            }
            "route" => {
                let mut all = plan.routes.iter();
                all.find(|it| it.0.as_str() == name).map(|it| &it.1.traffic)
            }
            _ => {
                let mut all = plan.upstreams.iter();
                all.find(|it| it.0.as_str() == name)
                    .map(|it| it.1.traffic())
            }
        };
        traffic.expect("there is such an object").read_streams()
    }

    /// The datagrams of a listener so far.
    pub fn datagrams(&self, listener: &str) -> DatagramReading {
        let live = self.engine().view().live().expect("a plan");
        let mut all = live.plan.listeners.iter();
        let found = all.find(|(name, _)| name.as_str() == listener);
        let (_, listener) = found.expect("there is such a listener");
        listener.datagrams.read()
    }

    /// Waits until so many handshakes of the listener `web` have failed for this reason.
    pub async fn handshakes_fail(&self, reason: &str, count: u64) {
        eventually(&format!("{count} handshakes failed as {reason}"), || {
            let failures = self.handshakes("web").failures;
            (failures.get(reason).copied().unwrap_or_default() >= count).then_some(())
        })
        .await;
    }

    /// Waits until a counter has reached a value.
    pub async fn counts(&self, counter: Counter, value: u64) {
        eventually(&format!("{} = {value}", counter.name()), || {
            (self.count(counter) >= value).then_some(())
        })
        .await;
    }

    /// Gives it another configuration and waits until that runs.
    pub async fn reload(&self, config: &str) {
        if let Err(problems) = self.try_reload(config).await {
            panic!("the configuration was refused: {problems}");
        }
    }

    /// Gives it another configuration and waits for what becomes of it: its problems, when it cannot
    /// take effect.
    pub async fn try_reload(&self, config: &str) -> Result<(), String> {
        let snapshot = snapshot(config, self.folder.path());
        let mut applied = self.engine().applied();
        // The same one may have been refused before.
        let before = applied.borrow_and_update().handled;
        let version = snapshot.version.clone();
        self.snapshots.send_replace(snapshot);
        let handled = applied.wait_for(|applied| {
            let refused = applied.refused.as_ref();
            applied.handled != before
                && (applied.version.as_ref() == Some(&version)
                    || refused.is_some_and(|refused| refused.version == version))
        });
        let handled = within("the configuration is handled", handled).await;
        match &handled.expect("the engine lives").refused {
            Some(refused) if refused.version == version => Err(format!("{:?}", refused.problems)),
            _ => Ok(()),
        }
    }

    /// Drains it; gives whether everything in flight finished by itself.
    pub async fn drain(&mut self, grace: Duration) -> bool {
        let engine = self.engine.take().expect("it was not stopped");
        engine.drain(grace).await
    }
}

/// Checks a configuration; a problem fails the test with its diagnosis.
pub fn snapshot(config: &str, folder: &Path) -> Arc<Snapshot> {
    let mut text = String::new();
    if !config.contains("[listeners.") {
        text.push_str("[listeners.web]\naddress = \"127.0.0.1:0\"\n");
    }
    if !config.contains("[access_log]") {
        let path = folder.join("access.jsonl");
        let path = path.display().to_string();
        writeln!(text, "[access_log]\noutput = {{ file = {path:?} }}").expect("a text");
    }
    text.push_str(config);
    let sources = Sources::from_text("test.toml", &text);
    let report = sluice_config::check(&sources, None);
    let problems = sluice_config::render(&report.problems, &sources, Style::Plain);
    report
        .snapshot
        .unwrap_or_else(|| panic!("the configuration was refused:\n{problems}"))
}
