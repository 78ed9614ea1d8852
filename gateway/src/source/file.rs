//! Snapshots from files: read at start, read again when they change or somebody asks.
//!
//! A configuration that is refused, by the check or by the engine, changes nothing: the last good one
//! keeps running and the refusal is in the log, the counters and the [`Status`]. The last good one
//! is also kept on disk ([`LastGood`]).

use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::SystemTime};

use sluice_config::{Diff, Problem, Report, Snapshot, Sources, Style, Version, model::Process};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use super::{
    LastGood,
    settle::settled,
    stamp::{Checked, Stamps},
    watch::Watcher,
};
use crate::{
    engine::Applied,
    telemetry::metrics::{Counter, Shard},
};

/// The longest list of changes that is logged, in bytes.
const LONGEST_CHANGES: usize = 2000;

/// Reads a variable of the environment.
pub type Env = fn(&str) -> Option<String>;

/// A configuration in files.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    env: Env,
    last_good: LastGood,
    /// `[process]` as the process started with it.
    process: Process,
    /// What runs.
    running: Checked,
    /// What the engine refused last: with other files it may run.
    refused: Option<Checked>,
    /// The content that was read last, by its hash.
    seen: String,
    /// Files that were replaced outside of their mount; said once.
    replaced: Vec<PathBuf>,
    /// Files of certificates are why something is refused, and not what is written.
    refused_certificates: bool,
}

/// How it stands with the files.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// How often the files were applied or refused.
    pub handled: u64,
    /// The version that runs.
    pub running: Option<Version>,
    /// Why the files do not say what runs: the rendered problems.
    pub refused: Option<Arc<str>>,
}

/// A way to start.
#[derive(Debug)]
pub struct Start {
    /// What to run.
    pub snapshot: Arc<Snapshot>,
    /// What holds for the life of the process.
    pub process: Process,
    /// What it was read from.
    pub sources: Sources,
    /// When it took effect before, if it is the kept one.
    pub kept_since: Option<SystemTime>,
    files: Stamps,
}

/// The files as they are at start.
#[derive(Debug)]
pub struct First {
    /// What was read.
    pub sources: Sources,
    /// What the check says to it.
    pub report: Report,
    checked: Option<Checked>,
}

impl First {
    /// Reads and checks `paths`.
    pub fn read(paths: &[PathBuf], env: Env) -> Self {
        let sources = sluice_config::read(paths, &env);
        let report = sluice_config::check(&sources, None);
        let checked = report.snapshot.clone().map(Checked::new);
        Self {
            sources,
            report,
            checked,
        }
    }

    /// The way to start with it, when the check lets it run.
    pub fn start(&self) -> Option<Start> {
        let Checked { snapshot, files } = self.checked.clone()?;
        contained(&self.report.problems, &self.sources);
        Some(Start {
            snapshot,
            process: self.report.process.clone(),
            sources: self.sources.clone(),
            kept_since: None,
            files,
        })
    }
}

impl Files {
    /// The files of a gateway that found them as `first` and runs `start`.
    pub fn new(
        paths: Vec<PathBuf>,
        env: Env,
        last_good: LastGood,
        first: &First,
        start: &Start,
    ) -> Self {
        Self {
            paths,
            env,
            last_good,
            process: start.process.clone(),
            running: Checked {
                snapshot: Arc::clone(&start.snapshot),
                files: start.files.clone(),
            },
            refused: start.kept_since.and(first.checked.clone()),
            seen: first.sources.hash(),
            replaced: Vec::new(),
            refused_certificates: false,
        }
    }

    /// Follows the files until `reload` is closed: publishes what is good, says what is not.
    pub async fn follow(
        mut self,
        publish: watch::Sender<Arc<Snapshot>>,
        applied: watch::Receiver<Applied>,
        mut reload: mpsc::Receiver<()>,
        tell: Tell,
    ) {
        let mut watcher = Watcher::new();
        // What changed between a read and the watch that it led to was told to nobody.
        let directories = self.directories(self.read().await.watch);
        let mut unwatched = watcher.follow(directories).await;
        loop {
            let asked = tokio::select! {
                biased;
                asked = reload.recv() => match asked {
                    Some(()) => true,
                    None => return,
                },
                () = std::future::ready(()), if unwatched => false,
                () = watcher.changed() => false,
            };
            let (sources, is_new) = self.settled().await;
            if is_new || asked || self.may_do_now().await {
                self.seen = sources.hash();
                let applied = applied.clone();
                self.reload(sources.clone(), &publish, applied, &tell).await;
            }
            // After a refusal, too: what runs has files of its own.
            if self.running.changed().await {
                let applied = applied.clone();
                self.renew(&sources, &publish, applied, &tell).await;
            }
            // As the links lead now. Where a watch began, one more look follows at once.
            unwatched = watcher.follow(self.directories(sources.watch)).await;
        }
    }

    async fn read(&self) -> Sources {
        let (paths, env) = (self.paths.clone(), self.env);
        let read = spawn_blocking(move || sluice_config::read(&paths, &env));
        read.await.unwrap_or_default()
    }

    /// What the files say when it stays the same for a moment, and whether that is new.
    async fn settled(&mut self) -> (Sources, bool) {
        let sources = self.read().await;
        self.look_for_replaced(&sources);
        if sources.hash() == self.seen {
            return (sources, false);
        }
        let sources = settled(sources, || self.read(), |a, b| a.hash() == b.hash()).await;
        let is_new = sources.hash() != self.seen;
        (sources, is_new)
    }

    /// What is watched: the directories of what was read, and of the files that it names.
    fn directories(&self, mut directories: Vec<PathBuf>) -> Vec<PathBuf> {
        for checked in std::iter::once(&self.running).chain(&self.refused) {
            directories.extend_from_slice(checked.files.directories());
        }
        directories.sort();
        directories.dedup();
        directories
    }

    /// Whether files have changed that the refused configuration names.
    async fn may_do_now(&mut self) -> bool {
        match &mut self.refused {
            Some(refused) => refused.changed().await,
            None => false,
        }
    }

    /// Lets the engine read the files of what runs once more.
    async fn renew(
        &mut self,
        sources: &Sources,
        publish: &watch::Sender<Arc<Snapshot>>,
        mut applied: watch::Receiver<Applied>,
        tell: &Tell,
    ) {
        let before = applied.borrow_and_update().handled;
        publish.send_replace(Arc::clone(&self.running.snapshot));
        let outcome = applied.wait_for(|applied| applied.handled != before).await;
        let refused = match outcome {
            Ok(outcome) => outcome.refused.clone(),
            Err(_) => return,
        };
        if let Some(refused) = refused {
            self.refused_certificates = true;
            tell.refused(&refused.problems, sources);
        } else {
            let mended = std::mem::take(&mut self.refused_certificates);
            tell.renewed(mended);
        }
    }

    /// A file without a name is one whose name was given to another outside of a mount of this
    /// single file: its new content cannot be seen from here.
    fn look_for_replaced(&mut self, sources: &Sources) {
        for file in &sources.files {
            let gone = std::fs::metadata(&file.path).is_ok_and(|file| file.nlink() == 0);
            if gone && !self.replaced.contains(&file.path) {
                tracing::warn!(
                    path = %file.path.display(),
                    "the file was replaced outside of its mount and cannot be read anew; mount its directory instead"
                );
                self.replaced.push(file.path.clone());
            }
        }
    }

    /// Takes `sources` through the check and the engine.
    async fn reload(
        &mut self,
        sources: Sources,
        publish: &watch::Sender<Arc<Snapshot>>,
        mut applied: watch::Receiver<Applied>,
        tell: &Tell,
    ) {
        let running = Arc::clone(&self.running.snapshot);
        let checking = spawn_blocking(move || {
            let report = sluice_config::check(&sources, Some(&running));
            let checked = report.snapshot.clone().map(Checked::new);
            (sources, report, checked)
        });
        self.refused = None;
        let Ok((sources, report, checked)) = checking.await else {
            tracing::error!("the check has panicked");
            tell.set(|_| {});
            return;
        };
        warn(&report.warnings, &sources);
        let Some(checked) = checked else {
            tell.counters.count(Counter::ReloadsRefused);
            tell.refused(&report.problems, &sources);
            return;
        };
        contained(&report.problems, &sources);
        if report.process != self.process {
            tracing::warn!("[process] has changed: it takes effect at the next start");
        }
        let before = applied.borrow_and_update().handled;
        publish.send_replace(Arc::clone(&checked.snapshot));
        let refused = match applied.wait_for(|applied| applied.handled != before).await {
            Ok(outcome) => outcome.refused.clone(),
            Err(_) => return,
        };
        if let Some(refused) = refused {
            tell.refused(&refused.problems, &sources);
            self.refused = Some(checked);
            return;
        }
        let changes = sluice_config::diff(&self.running.snapshot, &checked.snapshot);
        tell.applied(&changes, &checked.snapshot.version);
        self.running = checked;
        self.refused_certificates = false;
        self.keep(sources).await;
    }

    /// Keeps what runs for a start without files.
    async fn keep(&self, sources: Sources) {
        let last_good = self.last_good.clone();
        let kept = spawn_blocking(move || save(&last_good, &sources));
        if kept.await.is_err() {
            tracing::error!("keeping the configuration has panicked");
        }
    }
}

/// Keeps `sources`; a failure is logged, since the gateway runs as well without.
pub fn save(last_good: &LastGood, sources: &Sources) {
    if let Err(error) = last_good.save(sources) {
        let path = last_good.path();
        tracing::warn!(%error, path = %path.display(), "the configuration cannot be kept for a later start");
    }
}

/// The kept configuration, when it is there and good.
pub fn kept(last_good: &LastGood, env: Env) -> Option<Start> {
    let path = last_good.path();
    let (sources, since) = match last_good.load(&env) {
        Ok(kept) => kept?,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "the kept configuration cannot be read");
            return None;
        }
    };
    let report = sluice_config::check(&sources, None);
    if let Some(snapshot) = report.snapshot {
        let Checked { snapshot, files } = Checked::new(snapshot);
        return Some(Start {
            snapshot,
            process: report.process,
            sources,
            kept_since: Some(since),
            files,
        });
    }
    let text = sluice_config::render(&report.problems, &sources, Style::Plain);
    tracing::error!(path = %path.display(), "the kept configuration is refused\n{text}");
    None
}

/// Logs what was refused and contained while the rest runs.
fn contained(problems: &[Problem], sources: &Sources) {
    if !problems.is_empty() {
        let text = sluice_config::render(problems, sources, Style::Plain);
        tracing::error!(
            problems = problems.len(),
            "parts of the configuration are refused and contained\n{}",
            text.trim_end()
        );
    }
}

/// Logs the warnings of a check.
pub fn warn(warnings: &[Problem], sources: &Sources) {
    if !warnings.is_empty() {
        let text = sluice_config::render_warnings(warnings, sources, Style::Plain);
        let text = text.trim_end();
        tracing::warn!(
            warnings = warnings.len(),
            "the configuration has warnings\n{text}"
        );
    }
}

/// Where the outcome of reloads is told.
#[derive(Debug)]
pub struct Tell {
    /// Counts refusals by the check; the engine counts its own.
    pub counters: Shard,
    /// What everybody may look at.
    pub status: watch::Sender<Status>,
}

impl Tell {
    /// Says that a version runs from the start, and why it is not that of the files.
    pub fn started(&self, version: &Version, refused: Option<Arc<str>>) {
        if refused.is_some() {
            self.counters.count(Counter::ReloadsRefused);
        }
        tracing::info!(%version, "started");
        self.set(|status| {
            status.running = Some(version.clone());
            status.refused = refused;
        });
    }

    /// Says that a version runs, and what is different.
    pub fn applied(&self, changes: &Diff, version: &Version) {
        let mut changes = changes.to_string();
        if changes.len() > LONGEST_CHANGES {
            changes.truncate(changes.floor_char_boundary(LONGEST_CHANGES));
            changes.push('…');
        }
        tracing::info!(%version, %changes, "configuration applied");
        self.set(|status| {
            status.running = Some(version.clone());
            status.refused = None;
        });
    }

    /// Says that files of certificates were read once more; and that nothing is refused any more, if
    /// `mended`.
    pub fn renewed(&self, mended: bool) {
        tracing::info!("the files of certificates have changed and were read again");
        self.set(|status| {
            if mended {
                status.refused = None;
            }
        });
    }

    /// Says that the files are refused and what runs stays.
    pub fn refused(&self, problems: &[Problem], sources: &Sources) {
        let mut problems = problems.to_vec();
        if problems.iter().any(|problem| problem.place.is_none()) {
            sluice_config::locate(&mut problems, sources);
        }
        let text = sluice_config::render(&problems, sources, Style::Plain);
        tracing::error!(
            problems = problems.len(),
            "configuration refused, the last good one keeps running\n{}",
            text.trim_end()
        );
        self.set(|status| status.refused = Some(text.into()));
    }

    fn set(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| {
            change(status);
            status.handled = status.handled.wrapping_add(1);
        });
    }
}
