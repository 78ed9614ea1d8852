//! How the files of certificates stand: enough to see that one was written, replaced or linked anew
//! without reading it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_config::{Snapshot, Watch};
use tokio::task::spawn_blocking;

use super::settle::settled;
use crate::load;

/// A snapshot, and how the files stood that it names before they were read: whatever changes from
/// there on is a change.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) files: Stamps,
}

impl Checked {
    /// Blocks.
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        let files = Stamps::of(&snapshot);
        Self { snapshot, files }
    }

    /// How the files stand now, and stay for a moment: a chain and its key are written one after the
    /// other. Gives whether they stood otherwise before.
    pub(super) async fn changed(&mut self) -> bool {
        let mut now = self.look().await;
        if !now.agrees(&self.files) {
            now = settled(now, || self.look(), Stamps::agrees).await;
        }
        let changed = !now.agrees(&self.files);
        self.files = now;
        changed
    }

    async fn look(&self) -> Stamps {
        let snapshot = Arc::clone(&self.snapshot);
        let stamps = spawn_blocking(move || Stamps::of(&snapshot)).await;
        // What cannot be looked at stands as it stood.
        stamps.unwrap_or_else(|_| self.files.clone())
    }
}

/// How each file stands, and where to look for changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamps {
    /// Nothing where there is no file.
    files: BTreeMap<PathBuf, Option<Stamp>>,
    directories: Vec<PathBuf>,
}

/// Device, inode, size, and when content and node changed last. Of what a link leads to.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamps {
    /// Of every file that a certificate of `snapshot` is read from. Blocks.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut watch = Watch::default();
        let named = load::named(snapshot).into_iter();
        let stamped = named.map(|path| {
            watch.add(&path);
            let stamp = stamp(&path);
            (path, stamp)
        });
        Self {
            files: stamped.collect(),
            directories: watch.into_directories(),
        }
    }

    /// Where something happens when one of them changes. An orchestrator swaps a link in there.
    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Whether every file stands as it stood.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let it = fs::metadata(path).ok()?;
    let modified = (it.mtime(), it.mtime_nsec());
    let changed = (it.ctime(), it.ctime_nsec());
    Some((it.dev(), it.ino(), it.size(), modified, changed))
}
