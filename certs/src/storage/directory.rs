//! A directory, of this machine or shared between several.
//!
//! Each object is a file of its own for each version: written beside, synced, renamed, and the folder
//! synced, so that a reader (or a start after a crash) finds one whole version or the other. A lock is a
//! file that only one can create; its owner writes a growing counter into it, and who sees the same
//! content for 30 s of its own clock may break it. Clocks of different machines are never compared.
//!
//! A file system that hangs (as a network's does) holds up one of a few threads, never the caller.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    Answer, BREAK, Kind, Lock, Storage, StorageError, Stored, Version,
    key::{decode, encode},
    owner,
};
use crate::durable::{self, Draft, PRIVATE};

/// How long the file system may take before it counts as away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many calls may hang in the file system, and keep a thread each.
const THREADS: usize = 3;
/// A reader that finds its version replaced looks again, but not forever.
const LOOKS: usize = 5;
const LOCKS: &str = "locks";

/// A directory as a storage.
#[derive(Debug, Clone)]
pub struct Directory {
    disk: Arc<Disk>,
    threads: Arc<Semaphore>,
    shared: bool,
}

#[derive(Debug)]
struct Disk {
    root: PathBuf,
    /// Locks of others: what they said, and since when.
    seen: Mutex<HashMap<String, (Vec<u8>, Instant)>>,
    /// Whether the folders were there once. If they are gone later, a file system was unmounted.
    made: AtomicBool,
}

impl Directory {
    /// The storage in `root`, which is made if need be. `shared` says whether others write there too.
    pub fn new(root: impl Into<PathBuf>, shared: bool) -> Self {
        let disk = Disk {
            root: root.into(),
            seen: Mutex::default(),
            made: AtomicBool::new(false),
        };
        Self {
            disk: Arc::new(disk),
            threads: Arc::new(Semaphore::new(THREADS)),
            shared,
        }
    }

    /// Runs `work` where it may block.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StorageError> + Send + 'static,
    ) -> Answer<'_, T> {
        let threads = Arc::clone(&self.threads);
        let disk = Arc::clone(&self.disk);
        let done = async move {
            let permit = threads.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let done = work(&disk);
                // Held by the thread, not by who waits for it: a hanging call keeps its place.
                drop(permit);
                done
            });
            // A panic of ours, or the end of the runtime.
            done.await.unwrap_or(Err(StorageError::Timeout))
        };
        Box::pin(async move {
            let late = Err(StorageError::Timeout);
            tokio::time::timeout(PATIENCE, done).await.unwrap_or(late)
        })
    }
}

impl Storage for Directory {
    fn list(&self, kind: Kind) -> Answer<'_, BTreeMap<String, Version>> {
        self.run(move |disk| disk.list(kind))
    }

    fn read<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        at: Option<Version>,
    ) -> Answer<'a, Option<Stored>> {
        let name = name.to_owned();
        self.run(move |disk| disk.read(kind, &name, at))
    }

    fn write<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        bytes: Bytes,
        lock: &'a Lock,
    ) -> Answer<'a, Version> {
        let (name, lock) = (name.to_owned(), lock.clone());
        self.run(move |disk| disk.write(kind, &name, &bytes, &lock))
    }

    fn remove<'a>(&'a self, kind: Kind, name: &'a str) -> Answer<'a, ()> {
        let name = name.to_owned();
        self.run(move |disk| disk.remove(kind, &name))
    }

    fn lock<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lock>> {
        let name = name.to_owned();
        self.run(move |disk| disk.lock(&name))
    }

    fn refresh<'a>(&'a self, lock: &'a Lock) -> Answer<'a, ()> {
        let lock = lock.clone();
        self.run(move |disk| disk.refresh(&lock))
    }

    fn unlock(&self, lock: Lock) -> Answer<'_, ()> {
        self.run(move |disk| disk.unlock(&lock))
    }

    fn is_shared(&self) -> bool {
        self.shared
    }
}

impl Disk {
    fn list(&self, kind: Kind) -> Result<BTreeMap<String, Version>, StorageError> {
        let mut latest = BTreeMap::new();
        for (name, version, _) in self.objects(kind)? {
            let known = latest.entry(name).or_insert(version);
            *known = version.max(*known);
        }
        Ok(latest)
    }

    /// Every version that is there.
    fn objects(&self, kind: Kind) -> Result<Vec<(String, Version, PathBuf)>, StorageError> {
        let folder = self.folder(kind.folder())?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failure(&folder))? {
            let path = entry.map_err(failure(&folder))?.path();
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
                continue;
            };
            if durable::sweep(&path) {
                continue;
            }
            if let Some((name, version)) = parse(file, kind) {
                found.push((name, version, path));
            }
        }
        Ok(found)
    }

    fn versions(&self, kind: Kind, name: &str) -> Result<Vec<(Version, PathBuf)>, StorageError> {
        let all = self.objects(kind)?.into_iter();
        let mut versions: Vec<_> = all
            .filter(|(other, _, _)| other == name)
            .map(|(_, version, path)| (version, path))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn read(
        &self,
        kind: Kind,
        name: &str,
        at: Option<Version>,
    ) -> Result<Option<Stored>, StorageError> {
        let mut next = at.map(|version| (version, self.file(kind, name, version)));
        for _ in 0..LOOKS {
            let (version, path) = match next.take() {
                Some(place) => place,
                None => match self.versions(kind, name)?.pop() {
                    Some(place) => place,
                    None => return Ok(None),
                },
            };
            match fs::read(&path) {
                Ok(bytes) => {
                    let bytes = Bytes::from(bytes);
                    return Ok(Some(Stored { version, bytes }));
                }
                // Replaced in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failure(&path)(error)),
            }
        }
        Ok(None)
    }

    fn write(
        &self,
        kind: Kind,
        name: &str,
        bytes: &[u8],
        lock: &Lock,
    ) -> Result<Version, StorageError> {
        self.check(lock)?;
        let folder = self.folder(kind.folder())?;
        let before = self.versions(kind, name)?;
        let version = before
            .last()
            .map_or(0, |(version, _)| *version)
            .saturating_add(1);
        let draft = Draft::write(&folder, bytes, PRIVATE).map_err(failure(&folder))?;
        self.check(lock)?;
        let place = self.file(kind, name, version);
        draft.replace(&place).map_err(failure(&place))?;
        for (_, old) in before {
            forget(&old)?;
        }
        Ok(version)
    }

    fn remove(&self, kind: Kind, name: &str) -> Result<(), StorageError> {
        let versions = self.versions(kind, name)?;
        if versions.is_empty() {
            return Ok(());
        }
        // The oldest first: what is left when this is cut short is never an older one.
        for (_, path) in versions {
            forget(&path)?;
        }
        sync(&self.root.join(kind.folder()))
    }

    fn lock(&self, name: &str) -> Result<Option<Lock>, StorageError> {
        let path = self.folder(LOCKS)?.join(format!("{}.lock", encode(name)));
        if let Some(lock) = create(&path, name)? {
            self.seen.lock().remove(name);
            return Ok(Some(lock));
        }
        let content = match fs::read(&path) {
            Ok(content) => content,
            // Given back in between: next time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(&path)(error)),
        };
        if !self.is_stale(name, &content) || !take_away(&path, &content)? {
            return Ok(None);
        }
        tracing::warn!(lock = name, "broke a lock that its owner did not refresh");
        self.seen.lock().remove(name);
        create(&path, name)
    }

    /// Whether a lock has said the same for too long.
    fn is_stale(&self, name: &str, content: &[u8]) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        match seen.get(name) {
            Some((before, since)) if before == content => now.duration_since(*since) >= BREAK,
            _ => {
                seen.insert(name.to_owned(), (content.to_vec(), now));
                false
            }
        }
    }

    fn refresh(&self, lock: &Lock) -> Result<(), StorageError> {
        let path = self
            .root
            .join(LOCKS)
            .join(format!("{}.lock", encode(&lock.name)));
        let counter = self.check(lock)?.saturating_add(1);
        let opened = OpenOptions::new().write(true).open(&path);
        let file = opened.map_err(|error| lost(&path, error))?;
        // In place and in one go. Were the lock broken meanwhile, this would change the file that was
        // taken away, not the new owner's.
        let content = content(&lock.owner, counter);
        file.write_all_at(content.as_bytes(), 0)
            .map_err(failure(&path))
    }

    fn unlock(&self, lock: &Lock) -> Result<(), StorageError> {
        let path = self
            .root
            .join(LOCKS)
            .join(format!("{}.lock", encode(&lock.name)));
        match self.check(lock) {
            Ok(_) => forget(&path),
            Err(StorageError::LockLost) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The counter of a lock, if it is ours.
    fn check(&self, lock: &Lock) -> Result<u64, StorageError> {
        let path = self
            .root
            .join(LOCKS)
            .join(format!("{}.lock", encode(&lock.name)));
        let content = fs::read_to_string(&path).map_err(|error| lost(&path, error))?;
        match content.trim_end().split_once(' ') {
            Some((owner, counter)) if owner == lock.owner => Ok(counter.parse().unwrap_or(0)),
            _ => Err(StorageError::LockLost),
        }
    }

    /// A folder of the storage. All are made when the first is asked for.
    fn folder(&self, name: &str) -> Result<PathBuf, StorageError> {
        if !self.made.load(Ordering::Relaxed) {
            let kinds = [
                Kind::Account,
                Kind::Certificate,
                Kind::Challenge,
                Kind::Record,
            ];
            for folder in kinds.iter().map(|kind| kind.folder()).chain([LOCKS]) {
                let folder = self.root.join(folder);
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700);
                builder.create(&folder).map_err(failure(&folder))?;
            }
            sync(&self.root)?;
            self.made.store(true, Ordering::Relaxed);
        }
        Ok(self.root.join(name))
    }

    fn file(&self, kind: Kind, name: &str, version: Version) -> PathBuf {
        let file = format!("{}.{version:08x}.{}", encode(name), suffix(kind));
        self.root.join(kind.folder()).join(file)
    }
}

/// A lock file of our own, unless there is one.
fn create(path: &Path, name: &str) -> Result<Option<Lock>, StorageError> {
    let mut file = match private().create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(failure(path)(error)),
    };
    let owner = owner();
    file.write_all(content(&owner, 0).as_bytes())
        .map_err(failure(path))?;
    Ok(Some(Lock {
        name: name.to_owned(),
        owner,
        lease: 0,
    }))
}

/// Always of the same length, so that writing it again overwrites it wholly.
fn content(owner: &str, counter: u64) -> String {
    format!("{owner} {counter:020}\n")
}

/// Takes a lock file away, provided that it is the one that was seen.
fn take_away(path: &Path, stale: &[u8]) -> Result<bool, StorageError> {
    let aside = path.with_file_name(format!(".{}", owner()));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        // Another was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failure(path)(error)),
    }
    let ours = fs::read(&aside).map_err(failure(&aside))? == stale;
    if !ours {
        // Another broke the lock and made its own between our look and our rename: it goes back. If a
        // third has one by now, its owner finds out at its next refresh or commit.
        match fs::hard_link(&aside, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failure(path)(error)),
        }
    }
    forget(&aside)?;
    Ok(ours)
}

/// For the owner's eyes only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(PRIVATE);
    options
}

fn parse(file: &str, kind: Kind) -> Option<(String, Version)> {
    let rest = file.strip_suffix(suffix(kind))?.strip_suffix('.')?;
    let (name, version) = rest.rsplit_once('.')?;
    if name.is_empty() || version.len() < 8 {
        return None;
    }
    Some((decode(name)?, Version::from_str_radix(version, 16).ok()?))
}

const fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificate => "pem",
        Kind::Account | Kind::Challenge | Kind::Record => "json",
    }
}

/// Makes renames and removals in a folder last.
fn sync(folder: &Path) -> Result<(), StorageError> {
    durable::sync(folder).map_err(failure(folder))
}

fn forget(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure(path)(error)),
        _ => Ok(()),
    }
}

fn failure(path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { path, source }
}

fn lost(path: &Path, error: io::Error) -> StorageError {
    if error.kind() == io::ErrorKind::NotFound {
        StorageError::LockLost
    } else {
        failure(path)(error)
    }
}
