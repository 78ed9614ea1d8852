//! Where something can be replaced so that a path means another file.
//!
//! A file is watched through its directory, since editors replace files. Where links lead to it, the
//! directory of every one of them is watched as well, since orchestrators and deployments replace links.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
};

/// How many links one path may go through: as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// The directories whose changes can make paths mean other files.
#[derive(Debug, Default)]
pub struct Watch {
    directories: BTreeSet<PathBuf>,
    /// Paths whose links are known, so that a thousand files of one directory cost one walk.
    walked: HashSet<PathBuf>,
}

impl Watch {
    /// A file, or a directory that may become another one. Reads links, so that it may block.
    pub fn add(&mut self, path: &Path) {
        self.follow(path, MAX_LINKS);
    }

    /// A directory in which files may come and go.
    pub fn add_contents(&mut self, directory: &Path) {
        self.directories.insert(directory.to_path_buf());
    }

    /// All of them, in order.
    pub fn into_directories(self) -> Vec<PathBuf> {
        self.directories.into_iter().collect()
    }

    fn follow(&mut self, path: &Path, links: usize) {
        self.directories.extend(parent(path));
        for step in path.ancestors() {
            let named = step.file_name().is_some();
            if named && !self.walked.insert(step.to_path_buf()) {
                return;
            }
            let Some(parent) = parent(step) else {
                continue;
            };
            let Ok(found) = std::fs::symlink_metadata(step) else {
                // Not there yet: it may come.
                self.directories.insert(parent);
                continue;
            };
            if found.is_symlink() {
                let target = std::fs::read_link(step).map(|target| parent.join(target));
                self.directories.insert(parent);
                if let (Ok(target), Some(left)) = (target, links.checked_sub(1)) {
                    self.follow(&target, left);
                }
            }
        }
    }
}

/// The directory that has an entry for this path; none for a root.
fn parent(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parent.to_path_buf()
    })
}
