//! What lies in a storage, for those who look and keep nothing.

use std::collections::BTreeMap;

use super::{issuer::Wanted, keeper};
use crate::storage::{Kind, Storage, StorageError};

/// The certificate called `name` with its key, in PEM, as it lies in `storage`; none where there is none.
/// `wanted` is everything that is wanted by name; another name is one that a client asked for.
pub async fn stored(
    storage: &dyn Storage,
    wanted: &BTreeMap<String, Wanted>,
    name: &str,
) -> Result<Option<String>, StorageError> {
    let places = keeper::places(wanted);
    let place = places.get(name).cloned();
    let place = place.unwrap_or_else(|| keeper::place(&[name.to_owned()]));
    let found = storage.read(Kind::Certificate, &place, None).await?;
    Ok(found.map(|found| String::from_utf8_lossy(&found.bytes).into_owned()))
}
