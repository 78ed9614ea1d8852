//! Locks on a directory, with a clock of the tests' own.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Duration, advance};

use super::*;

fn storage(folder: &TempDir) -> Directory {
    Directory::new(folder.path().join("certificates"), true)
}

async fn take(storage: &Directory) -> Option<Lock> {
    storage.lock("a.example").await.expect("an answer")
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_broken_when_it_was_not_refreshed_for_long() {
    let folder = TempDir::new().expect("a folder");
    let (dead, waiting) = (storage(&folder), storage(&folder));
    let lock = take(&dead).await.expect("the lock");

    assert_eq!(take(&waiting).await, None);
    let second = Duration::from_secs(1);
    advance(BREAK.saturating_sub(second)).await;
    assert_eq!(take(&waiting).await, None, "not yet");
    advance(second).await;
    let broken = take(&waiting).await.expect("the lock");

    assert_ne!(broken, lock);
    let late = dead
        .write(Kind::Certificate, "a.example", text("late"), &lock)
        .await;
    assert!(matches!(late, Err(StorageError::LockLost)), "{late:?}");
    let refreshed = dead.refresh(&lock).await;
    assert!(
        matches!(refreshed, Err(StorageError::LockLost)),
        "{refreshed:?}"
    );
    dead.unlock(lock).await.expect("nothing to give back");
    waiting.refresh(&broken).await.expect("it is still ours");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_refreshed_is_not_broken() {
    let folder = TempDir::new().expect("a folder");
    let (owner, waiting) = (storage(&folder), storage(&folder));
    let lock = take(&owner).await.expect("the lock");
    for _ in 0..20 {
        assert_eq!(take(&waiting).await, None);
        advance(REFRESH).await;
        owner.refresh(&lock).await.expect("refreshed");
    }
}

#[tokio::test(start_paused = true)]
async fn only_one_of_many_breaks_a_lock() {
    let folder = TempDir::new().expect("a folder");
    let dead = take(&storage(&folder)).await.expect("the lock");
    let waiting: Vec<_> = (0..8).map(|_| storage(&folder)).collect();
    for storage in &waiting {
        assert_eq!(take(storage).await, None);
    }
    advance(BREAK).await;
    let taken = futures_util::future::join_all(waiting.iter().map(take)).await;
    // Who holds it is who can commit.
    let mut committed = 0;
    for (storage, lock) in waiting.iter().zip(taken) {
        if let Some(lock) = lock {
            assert_ne!(lock, dead);
            let done = storage
                .write(Kind::Record, "a.example", text("{}"), &lock)
                .await;
            committed += usize::from(done.is_ok());
        }
    }
    assert_eq!(committed, 1);
}

#[tokio::test]
async fn what_is_stored_is_for_the_owners_eyes_only() {
    let folder = TempDir::new().expect("a folder");
    let storage = storage(&folder);
    let lock = take(&storage).await.expect("the lock");
    let kinds = [
        Kind::Account,
        Kind::Certificate,
        Kind::Challenge,
        Kind::Record,
    ];
    for kind in kinds {
        storage
            .write(kind, "a.example", text("x"), &lock)
            .await
            .expect("stored");
    }
    let mode = |path: &Path| fs::metadata(path).expect("facts").permissions().mode() & 0o777;
    let mut files = 0;
    for kind in ["accounts", "certificates", "challenges", "records", "locks"] {
        let inner = folder.path().join("certificates").join(kind);
        assert_eq!(mode(&inner), 0o700, "{kind}");
        for file in fs::read_dir(&inner).expect("a folder") {
            assert_eq!(mode(&file.expect("a file").path()), 0o600, "{kind}");
            files += 1;
        }
    }
    assert_eq!(files, 5);
}

#[tokio::test]
async fn a_directory_that_was_unmounted_is_away_and_not_empty() {
    let folder = TempDir::new().expect("a folder");
    let storage = storage(&folder);
    assert!(
        storage
            .list(Kind::Certificate)
            .await
            .expect("a list")
            .is_empty()
    );
    fs::remove_dir_all(folder.path().join("certificates")).expect("it goes");
    assert!(storage.list(Kind::Certificate).await.is_err());
}
