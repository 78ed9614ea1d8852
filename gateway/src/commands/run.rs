//! `sluice run`: the gateway in the foreground.

mod signals;

use std::{
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use sluice_config::{
    Problem, Snapshot, Style,
    model::{ControlAddress, Process},
};
use sluice_gateway::{
    admin::{Admin, Order, Ports},
    drain::Tasks,
    engine::{ApplyError, Engine, Options},
    pressure::{self, Bounds},
    source::{
        LastGood,
        file::{self, Files, First, Start, Status, Tell},
    },
};
use tokio::sync::{mpsc, watch};

use crate::{
    Exit,
    args::{ConfigPaths, environment},
    log::Level,
};
use signals::{Signal, Signals};

/// Orders that may wait.
const ORDERS: usize = 8;

/// Answers that are on their way when the process ends may take this long.
const FAREWELL: Duration = Duration::from_millis(100);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigPaths,
    /// Worker threads [default: `process.workers`, else one per core].
    #[arg(long, value_name = "NUMBER", env = "SLUICE_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Where the last good configuration is kept [default: `process.state_directory`].
    #[arg(long, value_name = "PATH", env = "SLUICE_STATE_DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// Where `sluice status` and its like ask [default: `process.admin`].
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_ADMIN")]
    admin: Option<ControlAddress>,
    /// Where metrics are read [default: `process.metrics`].
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_METRICS")]
    metrics: Option<ControlAddress>,
    /// Where probes ask [default: `process.readiness`].
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_READINESS")]
    readiness: Option<ControlAddress>,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Running {
    /// Files and directories of the configuration.
    pub(crate) paths: Vec<PathBuf>,
    /// Instead of `process.workers`.
    pub(crate) workers: Option<NonZeroUsize>,
    /// Instead of `process.state_directory`.
    pub(crate) state_directory: Option<PathBuf>,
    /// Instead of `process.admin`.
    pub(crate) admin: Option<ControlAddress>,
    /// Instead of `process.metrics`.
    pub(crate) metrics: Option<ControlAddress>,
    /// Instead of `process.readiness`.
    pub(crate) readiness: Option<ControlAddress>,
}

/// Runs the gateway until a signal ends it.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let level = crate::log::start();
    let running = Running {
        paths: args.config.resolve(),
        workers: args.workers,
        state_directory: args.state_directory,
        admin: args.admin,
        metrics: args.metrics,
        readiness: args.readiness,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // As in the engine: memory stays flat over reloads.
        .max_blocking_threads(2)
        .build()?;
    let exit = runtime.block_on(running.run(level));
    // A file that is being read on a stuck disk must not hold the process up.
    runtime.shutdown_background();
    exit
}

/// A gateway that serves.
struct Started {
    engine: Engine,
    snapshots: watch::Sender<Arc<Snapshot>>,
    start: Start,
    ports: Ports,
    /// Why the files do not say what runs: the rendered problems.
    refused: Option<Arc<str>>,
}

impl Running {
    /// Runs the gateway until a signal ends it.
    pub(crate) async fn run(self, mut level: Level) -> anyhow::Result<Exit> {
        let mut signals = Signals::new()?;
        pressure::raise_descriptor_limit();
        let first = First::read(&self.paths, environment);
        let state_directory = self.state_directory(&first.report.process);
        let last_good = LastGood::new(state_directory, &self.paths);
        let started = match self.start(&first, &last_good)? {
            Ok(started) => started,
            Err(exit) => return Ok(exit),
        };
        let Started {
            engine,
            snapshots,
            start,
            ports,
            refused,
        } = started;
        let tell = Tell {
            counters: engine.metrics().control(),
            status: watch::Sender::new(Status::default()),
        };
        announce(&engine);
        tell.started(&start.snapshot.version, refused);
        if start.kept_since.is_none() {
            file::save(&last_good, &start.sources);
        }
        let grace = start.process.drain_timeout;
        let answering = Tasks::new();
        let (orders, mut ordered) = mpsc::channel(ORDERS);
        let admin = Arc::new(Admin::new(engine.view(), tell.status.subscribe(), orders));
        ports.serve(&admin, &answering)?;
        let files = Files::new(self.paths, environment, last_good, &first, &start);
        let (reload, reloads) = mpsc::channel(1);
        let control = Tasks::new();
        control.spawn(files.follow(snapshots, engine.applied(), reloads, tell));

        let mut ended = std::pin::pin!(engine.ended());
        let grace = loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                Some(order) = ordered.recv() => match order {
                    Order::Reload => Signal::Reload,
                    Order::Drain(within) => break within.unwrap_or(grace),
                    Order::LogLevel(wanted, done) => {
                        let told = log_level(&mut level, wanted);
                        // Who asked may have left.
                        done.send(told).unwrap_or_default();
                        continue;
                    }
                },
                () = &mut ended => anyhow::bail!("the engine has failed"),
            };
            match signal {
                // Full: a reload is about to begin anyway.
                Signal::Reload => reload.try_send(()).unwrap_or_default(),
                Signal::Reopen => engine.reopen_log().await,
                Signal::HandOver => {
                    tracing::warn!("this version cannot hand over to another binary: restart it");
                }
                Signal::Drain => break grace,
                Signal::End => break Duration::ZERO,
            }
        };
        admin.set_draining();
        control.abort();
        let exit = drain(engine, grace, signals, ordered).await;
        answering.finish(FAREWELL).await;
        Ok(exit)
    }

    fn state_directory(&self, process: &Process) -> PathBuf {
        self.state_directory
            .clone()
            .or_else(|| process.state_directory.clone())
            .unwrap_or_else(|| LastGood::default_directory(&environment))
    }

    /// Starts with the files, else with the configuration that was kept; when neither may run, says
    /// why and how to end.
    fn start(&self, first: &First, last_good: &LastGood) -> anyhow::Result<Result<Started, Exit>> {
        file::warn(&first.report.warnings, &first.sources);
        let mut problems = first.report.problems.clone();
        if let Some(start) = first.start() {
            match self.engine(start)? {
                Ok(started) => return Ok(Ok(started)),
                Err(refused) => problems = refused,
            }
        }
        sluice_config::locate(&mut problems, &first.sources);
        if let Some(start) = file::kept(last_good, environment) {
            let refused = tell_kept(&start, &problems, first, last_good);
            match self.engine(start)? {
                Ok(mut started) => {
                    started.refused = Some(refused);
                    return Ok(Ok(started));
                }
                Err(refused) => {
                    let known = |new: &Problem| problems.iter().any(|it| it.what == new.what);
                    let news: Vec<_> = refused.into_iter().filter(|new| !known(new)).collect();
                    problems.extend(news);
                }
            }
        }
        diagnose(&problems, first)?;
        // Where only the machine refuses, the configuration is fine and may run later.
        let is_fine = problems.iter().all(|problem| problem.code == "bind");
        Ok(Err(if is_fine {
            Exit::Failure
        } else {
            Exit::Refused
        }))
    }

    fn engine(&self, start: Start) -> anyhow::Result<Result<Started, Vec<Problem>>> {
        let mut options = Options::new(self.workers(&start.process));
        options.bounds = bounds(&start.process);
        options.state_directory = Some(self.state_directory(&start.process));
        // First of all: who starts a second gateway by mistake must not take connections from the first.
        let ports = self.ports(&start.process)?;
        let (snapshots, receiver) = watch::channel(Arc::clone(&start.snapshot));
        match Engine::start(options, receiver) {
            Ok(engine) => Ok(Ok(Started {
                engine,
                snapshots,
                start,
                ports,
                refused: None,
            })),
            Err(ApplyError::Refused(problems)) => Ok(Err(problems)),
            Err(error @ (ApplyError::Thread(_) | ApplyError::Ended)) => Err(error.into()),
        }
    }

    fn ports(&self, process: &Process) -> anyhow::Result<Ports> {
        let admin = self.admin.as_ref().unwrap_or(&process.admin);
        anyhow::ensure!(
            admin.is_local(),
            "the admin address {admin} can be reached from outside of this machine"
        );
        let metrics = self.metrics.as_ref().unwrap_or(&process.metrics);
        let readiness = self.readiness.as_ref().unwrap_or(&process.readiness);
        Ok(Ports::bind(admin, metrics, readiness)?)
    }

    fn workers(&self, process: &Process) -> NonZeroUsize {
        self.workers
            .or(process.workers)
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }
}

/// What the process may take.
fn bounds(process: &Process) -> Bounds {
    Bounds {
        memory: match process.memory {
            None => pressure::half_of_memory(),
            Some(limit) => limit.get(),
        },
        descriptor_reserve: Some(process.descriptor_reserve.into()),
    }
}

/// Says loudly that what runs is not what the files say, and gives why.
fn tell_kept(start: &Start, problems: &[Problem], first: &First, last_good: &LastGood) -> Arc<str> {
    let age = start.kept_since.and_then(|since| since.elapsed().ok());
    let text = sluice_config::render(problems, &first.sources, Style::Plain);
    tracing::error!(
        age_seconds = age.unwrap_or_default().as_secs(),
        version = %start.snapshot.version,
        path = %last_good.path().display(),
        problems = problems.len(),
        "configuration refused, starting with the last good one instead\n{}",
        text.trim_end()
    );
    text.into()
}

/// Prints what is wrong.
fn diagnose(problems: &[Problem], first: &First) -> io::Result<()> {
    let style = if io::stderr().is_terminal() {
        Style::Color
    } else {
        Style::Plain
    };
    let text = sluice_config::render(problems, &first.sources, style);
    writeln!(io::stderr().lock(), "{}", text.trim_end())
}

fn announce(engine: &Engine) {
    for (name, address) in &engine.applied().borrow().addresses {
        tracing::info!(listener = %name, %address, "listening");
    }
}

/// Says what is logged, after changing it.
fn log_level(level: &mut Level, wanted: Option<String>) -> Result<String, String> {
    if let Some(wanted) = wanted {
        level.set(&wanted).map_err(|error| format!("{error:#}"))?;
        tracing::info!(level = level.text(), "log level changed");
    }
    Ok(level.text().to_owned())
}

/// Completes with an order to end at once.
async fn ordered_to_end(mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        if matches!(order, Order::Drain(Some(Duration::ZERO))) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Ends the engine; a further signal ends it at once, and so does an order to.
async fn drain(
    engine: Engine,
    grace: Duration,
    mut signals: Signals,
    orders: mpsc::Receiver<Order>,
) -> Exit {
    tracing::info!(grace_seconds = grace.as_secs(), "draining");
    tokio::select! {
        in_time = engine.drain(grace) => {
            tracing::info!(in_time, "stopped");
            Exit::Fine
        }
        () = signals.force() => {
            tracing::warn!("stopped by a second signal");
            Exit::Failure
        }
        () = ordered_to_end(orders) => {
            tracing::warn!("stopped by a further order");
            Exit::Failure
        }
    }
}
