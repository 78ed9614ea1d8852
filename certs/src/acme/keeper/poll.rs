//! Looking at the storage: what others issued, what failed for them, what they publish.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{
    book::Record,
    work::{now, parse_record},
};
use crate::{
    PairError,
    acme::{bundle::Bundle, challenge::Challenge},
    storage::{Kind, Storage, StorageError, Stored, Version},
};

/// How many objects are read at once.
const READS: usize = 8;

/// What others wrote.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) certificates: BTreeMap<String, (Version, Result<Bundle, PairError>)>,
    pub(super) records: BTreeMap<String, (Option<Version>, Record)>,
    pub(super) challenges: BTreeMap<String, Challenge>,
}

/// What is known already, by name in the storage.
pub(super) struct Known {
    pub(super) certificates: BTreeMap<String, (Option<Version>, Option<Version>)>,
    pub(super) challenges: BTreeMap<String, Challenge>,
}

/// Reads what changed.
pub(super) async fn poll(
    storage: &Arc<dyn Storage>,
    known: Known,
) -> Result<Changes, StorageError> {
    let mut changes = Changes::default();
    let there = storage.list(Kind::Certificate).await?;
    let news = known
        .certificates
        .iter()
        .filter_map(|(name, (version, _))| {
            let there = *there.get(name)?;
            (Some(there) != *version).then_some((name.clone(), there))
        });
    for (name, stored) in read(storage, Kind::Certificate, news.collect()).await? {
        let bundle = Bundle::read(&stored.bytes);
        changes.certificates.insert(name, (stored.version, bundle));
    }
    let there = storage.list(Kind::Record).await?;
    let mut news = Vec::new();
    for (name, (_, version)) in &known.certificates {
        match there.get(name) {
            Some(there) if Some(*there) != *version => news.push((name.clone(), *there)),
            None if version.is_some() => {
                let none = (None, Record::default());
                changes.records.insert(name.clone(), none);
            }
            _ => {}
        }
    }
    for (name, stored) in read(storage, Kind::Record, news).await? {
        let record = parse_record(&stored);
        changes.records.insert(name, (Some(stored.version), record));
    }
    if storage.is_shared() {
        changes.challenges = challenges(storage, known.challenges).await?;
    }
    Ok(changes)
}

/// All challenges that others published. What an orderer that died left behind is removed.
async fn challenges(
    storage: &Arc<dyn Storage>,
    mut known: BTreeMap<String, Challenge>,
) -> Result<BTreeMap<String, Challenge>, StorageError> {
    let there = storage.list(Kind::Challenge).await?;
    known.retain(|name, _| there.contains_key(name));
    let news = there
        .into_iter()
        .filter(|(name, _)| !known.contains_key(name));
    for (name, stored) in read(storage, Kind::Challenge, news.collect()).await? {
        match serde_json::from_slice::<Challenge>(&stored.bytes) {
            Ok(challenge) if challenge.until > now() => drop(known.insert(name, challenge)),
            _ => storage.remove(Kind::Challenge, &name).await?,
        }
    }
    Ok(known)
}

async fn read(
    storage: &Arc<dyn Storage>,
    kind: Kind,
    names: Vec<(String, Version)>,
) -> Result<Vec<(String, Stored)>, StorageError> {
    let reads = names.into_iter().map(|(name, version)| async move {
        let stored = storage.read(kind, &name, Some(version)).await?;
        Ok(stored.map(|stored| (name, stored)))
    });
    let read: Vec<Result<Option<_>, StorageError>> =
        stream::iter(reads).buffer_unordered(READS).collect().await;
    read.into_iter().filter_map(Result::transpose).collect()
}
