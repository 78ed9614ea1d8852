//! Our account with an issuer: made once for all replicas, kept in the storage.

use std::sync::Arc;

use bytes::Bytes;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::{
    issuer::Issuer,
    order::{OrderError, insist},
    transport::Transport,
};
use crate::storage::{Kind, Lock, Storage, key, short_hash};

/// An account as it lies in the storage.
#[derive(Serialize, Deserialize)]
struct Kept {
    credentials: AccountCredentials,
    contact: Vec<String>,
}

/// The account with `issuer`, made if there is none. `None`: another replica is making it.
pub(super) async fn open(
    issuer: &Issuer,
    storage: &Arc<dyn Storage>,
) -> Result<Option<Account>, OrderError> {
    if let Some(account) = stored(issuer, storage).await? {
        return Ok(Some(account));
    }
    let place = place(issuer);
    let Some(lock) = storage.lock(&place).await? else {
        return Ok(None);
    };
    let made = make(issuer, storage, &lock).await;
    storage.unlock(lock).await?;
    made.map(Some)
}

/// Forgets an account that the issuer does not know (any more).
pub(super) async fn forget(issuer: &Issuer, storage: &Arc<dyn Storage>) -> Result<(), OrderError> {
    tracing::warn!(
        issuer = issuer.name,
        "the issuer does not know our account: a new one is made"
    );
    Ok(storage.remove(Kind::Account, &place(issuer)).await?)
}

async fn stored(
    issuer: &Issuer,
    storage: &Arc<dyn Storage>,
) -> Result<Option<Account>, OrderError> {
    let place = place(issuer);
    let Some(stored) = storage.read(Kind::Account, &place, None).await? else {
        return Ok(None);
    };
    let Ok(kept) = serde_json::from_slice::<Kept>(&stored.bytes) else {
        tracing::error!(
            issuer = issuer.name,
            "the stored account is unreadable: a new one is made"
        );
        return Ok(None);
    };
    let builder = Account::builder_with_http(Box::new(Transport(issuer.client.clone())));
    let account = builder.from_credentials(kept.credentials).await?;
    if kept.contact != issuer.contact {
        let contact: Vec<&str> = issuer.contact.iter().map(String::as_str).collect();
        insist!(account.update_contacts(&contact))?;
        note_contact(issuer, storage).await?;
    }
    Ok(Some(account))
}

/// Writes down whom the issuer knows to tell by now.
async fn note_contact(issuer: &Issuer, storage: &Arc<dyn Storage>) -> Result<(), OrderError> {
    let place = place(issuer);
    // Another replica at the same is as good.
    let Some(lock) = storage.lock(&place).await? else {
        return Ok(());
    };
    let noted = async {
        let Some(stored) = storage.read(Kind::Account, &place, None).await? else {
            return Ok(());
        };
        if let Ok(kept) = serde_json::from_slice::<Kept>(&stored.bytes) {
            write(issuer, kept.credentials, storage, &lock).await?;
        }
        Ok(())
    };
    let noted = noted.await;
    storage.unlock(lock).await?;
    noted
}

async fn make(
    issuer: &Issuer,
    storage: &Arc<dyn Storage>,
    lock: &Lock,
) -> Result<Account, OrderError> {
    // Another may have made it before we had the lock.
    if let Some(account) = stored(issuer, storage).await? {
        return Ok(account);
    }
    let contact: Vec<&str> = issuer.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = issuer.external_account.as_ref();
    let external = external.map(|it| ExternalAccountKey::new(it.key_id.clone(), &it.key));
    let (account, credentials) = insist!({
        let builder = Account::builder_with_http(Box::new(Transport(issuer.client.clone())));
        builder.create(&wanted, issuer.directory.clone(), external.as_ref())
    })?;
    write(issuer, credentials, storage, lock).await?;
    tracing::info!(
        issuer = issuer.name,
        account = account.id(),
        "registered with the issuer"
    );
    Ok(account)
}

async fn write(
    issuer: &Issuer,
    credentials: AccountCredentials,
    storage: &Arc<dyn Storage>,
    lock: &Lock,
) -> Result<(), OrderError> {
    let kept = Kept {
        credentials,
        contact: issuer.contact.clone(),
    };
    let bytes = serde_json::to_vec(&kept).map_err(|_| OrderError::Unwritable)?;
    storage
        .write(Kind::Account, &place(issuer), Bytes::from(bytes), lock)
        .await?;
    Ok(())
}

/// Another directory, or another account there to belong to, is another account.
fn place(issuer: &Issuer) -> String {
    let external = issuer.external_account.as_ref();
    let external = external.map_or("", |external| external.key_id.as_str());
    let hash = short_hash(&format!("{} {external}", issuer.directory));
    key(&format!("{}-{hash}", issuer.name)).into_owned()
}
