//! Says that something may have changed in the directories of the configuration.
//!
//! Directories, since editors and orchestrators replace files and links. Where the kernel tells
//! nothing (no inotify, a file mounted from elsewhere) a slow poll does; the reader compares contents,
//! so a false alarm costs a read.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode,
    event::{AccessKind, AccessMode},
};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

/// How long a directory must be quiet.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How often to look without being told, where the kernel tells.
const SLOW_POLL: Duration = Duration::from_secs(10);

/// How often to look where it does not.
const POLL: Duration = Duration::from_secs(1);

/// Device, inode, and when it was made, since numbers of inodes are given again.
type Identity = (u64, u64, Option<SystemTime>);

/// Watches directories.
pub(super) struct Watcher {
    debouncer: Option<Debouncer<RecommendedWatcher, RecommendedCache>>,
    alarms: mpsc::Receiver<()>,
    /// By their real names, with what stood there when its watch began: another directory of the same
    /// name needs a watch of its own.
    watched: BTreeMap<PathBuf, Option<Identity>>,
}

impl Watcher {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let (alarm, alarms) = mpsc::channel(1);
        let tell = move |result: DebounceEventResult| {
            let matters = match &result {
                Ok(events) => events.iter().any(|event| is_change(event.kind)),
                Err(_) => true,
            };
            if matters {
                // Full: somebody is about to look anyway.
                alarm.try_send(()).unwrap_or_default();
            }
        };
        let debouncer = new_debouncer(DEBOUNCE, None, tell)
            .inspect_err(|error| tracing::warn!(%error, "files cannot be watched, polling"))
            .ok();
        Self {
            debouncer,
            alarms,
            watched: BTreeMap::new(),
        }
    }

    /// From now on watches these directories and no others. Gives whether a watch began: what
    /// changed just before was told to nobody.
    pub(super) async fn follow(&mut self, directories: Vec<PathBuf>) -> bool {
        let Some(debouncer) = &mut self.debouncer else {
            return false;
        };
        let found = spawn_blocking(move || found(&directories)).await;
        let wanted = found.unwrap_or_default();
        self.watched.retain(|path, identity| {
            let stays = wanted.get(path) == Some(identity);
            if !stays && let Err(error) = debouncer.unwatch(path) {
                tracing::debug!(%error, path = %path.display(), "unwatch");
            }
            stays
        });
        let mut began = false;
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match debouncer.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, identity);
                    began = true;
                }
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "cannot be watched, polling");
                }
            }
        }
        began
    }

    /// Completes when something may have changed.
    pub(super) async fn changed(&mut self) {
        let poll = if self.debouncer.is_none() || self.watched.is_empty() {
            POLL
        } else {
            SLOW_POLL
        };
        // Late or told makes no difference.
        let _told_or_late = timeout(poll, self.alarms.recv()).await;
    }
}

/// The directories that are there. The kernel knows a directory and not by which way it was found: of
/// two watches by two ways the end of one would be the end of both.
fn found(directories: &[PathBuf]) -> BTreeMap<PathBuf, Option<Identity>> {
    let real = directories.iter().filter_map(|path| {
        let path = fs::canonicalize(path).ok()?;
        let identity = identity(&path);
        Some((path, identity))
    });
    real.collect()
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

/// Whether content, names or permissions may differ afterwards. Our own reading must not count.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}
