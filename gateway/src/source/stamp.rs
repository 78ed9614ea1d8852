//! How the files of certificates stand: enough to see that one was written, replaced or linked anew
//! without reading it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sluice_config::Snapshot;

use crate::load;

/// How each file stands; nothing where there is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Device, inode, size, and when content and node changed last. Of what a link leads to.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamps {
    /// Of every file that a certificate of `snapshot` is read from. Blocks.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let named = load::named(snapshot).into_iter();
        let stamped = named.map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        Self(stamped.collect())
    }

    /// Where something happens when one of them changes. An orchestrator swaps a link in there.
    pub(super) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let parents = self.0.keys().filter_map(|path| path.parent());
        parents.map(|parent| {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_path_buf()
            }
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let it = fs::metadata(path).ok()?;
    let modified = (it.mtime(), it.mtime_nsec());
    let changed = (it.ctime(), it.ctime_nsec());
    Some((it.dev(), it.ino(), it.size(), modified, changed))
}
