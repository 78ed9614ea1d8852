//! Files that a crash leaves as they were or as they shall be: the one way in which keys get to disk.
//!
//! What is new is written beside its place, synced, put there in one step, and the folder is synced. What
//! must stay true: at no moment is there half a file under a name that somebody reads, nor a key that
//! somebody but its owner can read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Read and written by the owner.
pub const PRIVATE: u32 = 0o600;

/// Read by everybody.
pub const PUBLIC: u32 = 0o644;

/// How old a draft is before nobody can be writing it.
const ABANDONED: Duration = Duration::from_hours(1);

/// What is written and synced, and not in its place yet. Gone when it is dropped there.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    folder: PathBuf,
}

impl Draft {
    /// Writes `bytes` into a file of its own in `folder`. Its name begins with a dot and is nobody
    /// else's, on this machine or another.
    pub fn write(folder: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let path = folder.join(format!(".{:032x}", rand::random::<u128>()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        let draft = Self {
            path,
            folder: folder.to_path_buf(),
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Puts it at `path`, in its folder, whatever is there.
    pub fn replace(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        sync(&self.folder)
    }

    /// Puts it at `path`, in its folder, where nothing is yet. Whoever comes second gets `AlreadyExists`.
    pub fn create(self, path: &Path) -> io::Result<()> {
        // Unlike a rename, a link never replaces.
        fs::hard_link(&self.path, path)?;
        sync(&self.folder)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed, it is gone already; else what is left is swept later.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// Replaces what is at `path`, whose folder is made when it is missing.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Draft::write(folder(path)?, bytes, mode)?.replace(path)
}

/// Writes what is not at `path` yet. Whoever comes second gets `AlreadyExists`, and what the first has
/// written is complete.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Draft::write(folder(path)?, bytes, mode)?.create(path)
}

/// Makes renames and removals in a folder last: a name is on disk when its folder is.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a draft that a killed writer left behind, once no living one can still be at it. Gives whether
/// `path` is a draft at all.
pub fn sweep(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    if !name.as_encoded_bytes().starts_with(b".") {
        return false;
    }
    let written = fs::metadata(path).and_then(|facts| facts.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    if age.is_some_and(|age| age > ABANDONED) {
        // Another process may sweep too.
        fs::remove_file(path).unwrap_or_default();
    }
    true
}

/// The folder of `path`, for its owner alone where it is made.
fn folder(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = entries.map(|entry| name(entry).into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_is_replaced_is_whole_private_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/key.pem");
        for text in ["first", "second"] {
            replace(&path, text.as_bytes(), PRIVATE).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(names(path.parent().unwrap()), ["key.pem"]);
    }

    #[test]
    fn who_comes_second_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        create(&path, b"first", PRIVATE).unwrap();
        let error = create(&path, b"second", PRIVATE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(folder.path()), ["key.pem"]);
    }

    #[test]
    fn what_never_got_to_its_place_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::write(folder.path(), b"text", PRIVATE).unwrap();
        let path = draft.path.clone();
        // Somebody may be writing it.
        assert!(sweep(&path) && path.exists());
        drop(draft);
        assert_eq!(names(folder.path()), Vec::<String>::new());

        let left = folder.path().join(".left");
        let file = File::create(&left).unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        file.set_modified(long_ago).unwrap();
        assert!(sweep(&left) && !left.exists());
        assert!(!sweep(&folder.path().join("key.pem")));
    }
}
