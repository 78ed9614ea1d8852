//! Files that a crash leaves as they were or as they shall be.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Read and written by the owner.
pub(super) const PRIVATE: u32 = 0o600;

/// Read by everybody.
pub(super) const PUBLIC: u32 = 0o644;

/// Replaces what is at `path`, whose folder is made when it is missing.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, draft) = draft(path)?;
    let written = write(&draft, bytes, mode).and_then(|()| fs::rename(&draft, path));
    finish(written, &folder, &draft)
}

/// Writes what is not at `path` yet. Whoever comes second gets `AlreadyExists`, and what the first has
/// written is complete.
pub(super) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, draft) = draft(path)?;
    // Unlike a rename, a link never replaces.
    let written = write(&draft, bytes, mode).and_then(|()| fs::hard_link(&draft, path));
    let left = written.is_ok().then(|| fs::remove_file(&draft));
    finish(written.and(left.unwrap_or(Ok(()))), &folder, &draft)
}

fn draft(path: &Path) -> io::Result<(std::path::PathBuf, std::path::PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut maker = DirBuilder::new();
    maker.recursive(true).mode(0o700).create(folder)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let draft = folder.join(format!(".{name}.{}.{number}", std::process::id()));
    Ok((folder.to_path_buf(), draft))
}

fn write(draft: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn finish(written: io::Result<()>, folder: &Path, draft: &Path) -> io::Result<()> {
    if written.is_err() {
        // What is left is a draft that nobody reads; the first error says more.
        fs::remove_file(draft).unwrap_or_default();
    }
    written?;
    // A name is on disk when its folder is.
    File::open(folder)?.sync_all()
}
