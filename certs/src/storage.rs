//! What replicas share: ACME accounts, certificates, challenges, waits after failures, and the locks that
//! say who orders what.
//!
//! A storage is an existing engine: a directory (of this machine or shared) or etcd. It keeps named
//! objects with versions; a commit needs a lock, and is refused when another has it meanwhile. When a
//! storage is away, its callers keep serving what they have and order nothing.

mod directory;
mod etcd;
mod key;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap, fmt, future::Future, io, path::PathBuf, pin::Pin, time::Duration,
};

use bytes::Bytes;

use crate::fetch::FetchError;

pub use directory::Directory;
pub use etcd::{Etcd, Login};
pub use key::key;
pub(crate) use key::short_hash;

/// How often a lock must be refreshed.
pub const REFRESH: Duration = Duration::from_secs(5);
/// A lock that was not refreshed for so long is anybody's.
pub const BREAK: Duration = Duration::from_secs(30);
/// How often replicas look for what others wrote.
pub const POLL: Duration = Duration::from_secs(2);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An account with an issuer, its key included.
    Account,
    /// A chain with its key.
    Certificate,
    /// What a validating server is to be answered.
    Challenge,
    /// What failed, and until when to wait.
    Record,
}

impl Kind {
    /// Its place in a storage.
    const fn folder(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::Certificate => "certificates",
            Self::Challenge => "challenges",
            Self::Record => "records",
        }
    }
}

/// Grows with every commit of an object.
pub type Version = u64;

/// An object as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which commit.
    pub version: Version,
    /// The object.
    pub bytes: Bytes,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may be a private key.
        f.debug_struct("Stored")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Ours until it is given back, or was not refreshed in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    name: String,
    /// No other lock says the same.
    owner: String,
    /// Where the storage counts the time itself: under which number.
    lease: i64,
}

/// Why a storage did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file system refused.
    #[error("{path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The storage does not answer.
    #[error("the storage does not answer")]
    Timeout,
    /// The lock is another's by now.
    #[error("the lock is lost")]
    LockLost,
    /// etcd could not be reached.
    #[error("etcd")]
    Etcd(#[source] FetchError),
    /// etcd refused.
    #[error("etcd answered {status}: {words}")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its own words.
        words: String,
    },
    /// etcd's answer is none.
    #[error("etcd's answer makes no sense")]
    Nonsense,
}

/// What a storage answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Where replicas share. Names are those that [`key()`] makes.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The names and latest versions of all objects of a kind.
    fn list(&self, kind: Kind) -> Answer<'_, BTreeMap<String, Version>>;

    /// The latest version of an object. `at` is where to look first, after a [`Storage::list`].
    fn read<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        at: Option<Version>,
    ) -> Answer<'a, Option<Stored>>;

    /// Commits the next version of an object, wholly or not at all, if `lock` is still ours.
    fn write<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        bytes: Bytes,
        lock: &'a Lock,
    ) -> Answer<'a, Version>;

    /// Removes an object. It need not exist.
    fn remove<'a>(&'a self, kind: Kind, name: &'a str) -> Answer<'a, ()>;

    /// Takes a lock, unless another has it. One that was not refreshed for [`BREAK`] is broken, which
    /// takes asking now and then for as long.
    fn lock<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lock>>;

    /// Says that the owner is alive; due every [`REFRESH`].
    fn refresh<'a>(&'a self, lock: &'a Lock) -> Answer<'a, ()>;

    /// Gives a lock back.
    fn unlock(&self, lock: Lock) -> Answer<'_, ()>;

    /// Whether others may write here. What is not shared needs no time to be seen by others.
    fn is_shared(&self) -> bool;
}

/// An owner that nobody else is.
fn owner() -> String {
    format!("{:032x}", rand::random::<u128>())
}
