//! Says that something may have changed in the directories of the configuration.
//!
//! Directories, since editors and orchestrators replace files and links. Where the kernel tells
//! nothing (no inotify, a file mounted from elsewhere) a slow poll does; the reader compares contents,
//! so a false alarm costs a read.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode,
    event::{AccessKind, AccessMode},
};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::{sync::mpsc, time::timeout};

/// How long a directory must be quiet.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How often to look without being told, where the kernel tells.
const SLOW_POLL: Duration = Duration::from_secs(10);

/// How often to look where it does not.
const POLL: Duration = Duration::from_secs(1);

/// Watches directories.
pub(super) struct Watcher {
    debouncer: Option<Debouncer<RecommendedWatcher, RecommendedCache>>,
    alarms: mpsc::Receiver<()>,
    watched: BTreeSet<PathBuf>,
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
            watched: BTreeSet::new(),
        }
    }

    /// From now on watches these directories and no others.
    pub(super) fn follow(&mut self, directories: &[PathBuf]) {
        let Some(debouncer) = &mut self.debouncer else {
            return;
        };
        let wanted: BTreeSet<_> = directories.iter().cloned().collect();
        for gone in self.watched.difference(&wanted) {
            if let Err(error) = debouncer.unwatch(gone) {
                tracing::debug!(%error, path = %gone.display(), "unwatch");
            }
        }
        self.watched.retain(|path| wanted.contains(path));
        for path in wanted {
            if self.watched.contains(&path) {
                continue;
            }
            match debouncer.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path);
                }
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "cannot be watched, polling");
                }
            }
        }
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
