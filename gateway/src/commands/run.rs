//! `sluice run`: the gateway in the foreground.

mod signals;

use std::{
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use sluice_config::{Problem, Snapshot, Style, model::Process};
use sluice_gateway::{
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
};
use signals::{Signal, Signals};

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
}

/// Runs the gateway until a signal ends it.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    crate::log::start();
    let running = Running {
        paths: args.config.resolve(),
        workers: args.workers,
        state_directory: args.state_directory,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // As in the engine: memory stays flat over reloads.
        .max_blocking_threads(2)
        .build()?;
    let exit = runtime.block_on(running.run());
    // A file that is being read on a stuck disk must not hold the process up.
    runtime.shutdown_background();
    exit
}

/// A gateway that serves.
struct Started {
    engine: Engine,
    snapshots: watch::Sender<Arc<Snapshot>>,
    start: Start,
    /// Why the files do not say what runs: the rendered problems.
    refused: Option<Arc<str>>,
}

impl Running {
    /// Runs the gateway until a signal ends it.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let mut signals = Signals::new()?;
        pressure::raise_descriptor_limit();
        let first = First::read(&self.paths, environment);
        let last_good = self.last_good(&first);
        let started = match self.start(&first, &last_good)? {
            Ok(started) => started,
            Err(exit) => return Ok(exit),
        };
        let Started {
            engine,
            snapshots,
            start,
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
        let files = Files::new(self.paths, environment, last_good, &first, &start);
        let (reload, reloads) = mpsc::channel(1);
        let control = Tasks::new();
        control.spawn(files.follow(snapshots, engine.applied(), reloads, tell));

        let mut ended = std::pin::pin!(engine.ended());
        let grace = loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
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
        control.abort();
        Ok(drain(engine, grace, signals).await)
    }

    fn last_good(&self, first: &First) -> LastGood {
        let directory = self
            .state_directory
            .clone()
            .or_else(|| first.report.process.state_directory.clone())
            .unwrap_or_else(|| LastGood::default_directory(&environment));
        LastGood::new(directory, &self.paths)
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
        let (snapshots, receiver) = watch::channel(Arc::clone(&start.snapshot));
        match Engine::start(options, receiver) {
            Ok(engine) => Ok(Ok(Started {
                engine,
                snapshots,
                start,
                refused: None,
            })),
            Err(ApplyError::Refused(problems)) => Ok(Err(problems)),
            Err(error @ (ApplyError::Thread(_) | ApplyError::Ended)) => Err(error.into()),
        }
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

/// Ends the engine; a further signal ends it at once.
async fn drain(engine: Engine, grace: Duration, mut signals: Signals) -> Exit {
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
    }
}
