//! etcd as a storage, over its HTTP and JSON gateway (v3).
//!
//! A lock is a key under a lease of 30 s; a commit is a transaction that holds only while that key is
//! there with our owner in it, so etcd itself decides. Versions are the revisions of the store.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Answer, BREAK, Kind, Lock, Storage, StorageError, Stored, Version, owner};
use crate::fetch::{Client, FetchError};

/// How many names one answer lists: ten thousand would be more than a control call may carry.
const PAGE: usize = 2_000;
const LOCKS: &str = "locks";

/// Who we are to etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// etcd as a storage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Etcd {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `http://host:2379` and the like, one after the other when one does not answer.
    endpoints: Vec<String>,
    /// The one that answered last.
    current: AtomicUsize,
    /// What all keys begin with.
    prefix: String,
    login: Option<Login>,
    token: Mutex<Option<String>>,
}

impl Etcd {
    /// The storage below `prefix` (`/sluice`) in the etcd with these endpoints (`http://10.0.0.5:2379`).
    pub fn new(client: Client, endpoints: &[String], prefix: &str, login: Option<Login>) -> Self {
        let trim = |endpoint: &String| endpoint.trim_end_matches('/').to_owned();
        let shared = Shared {
            endpoints: endpoints.iter().map(trim).collect(),
            current: AtomicUsize::new(0),
            prefix: prefix.trim_end_matches('/').to_owned(),
            login,
            token: Mutex::default(),
        };
        Self {
            client,
            shared: Arc::new(shared),
        }
    }

    fn key(&self, folder: &str, name: &str) -> String {
        format!("{}/{folder}/{name}", self.shared.prefix)
    }

    /// Calls etcd, logged in if need be.
    async fn call(&self, path: &str, body: &Value) -> Result<Value, StorageError> {
        let Some(login) = &self.shared.login else {
            return self.post(path, body, None).await;
        };
        let known = self.shared.token.lock().clone();
        if let Some(token) = known {
            match self.post(path, body, Some(&token)).await {
                // Tokens end.
                Err(StorageError::Refused { status: 401, .. }) => {}
                answer => return answer,
            }
        }
        let asked = json!({ "name": login.user, "password": login.password });
        let answer = self.post("auth/authenticate", &asked, None).await?;
        let token = answer.get("token").and_then(Value::as_str);
        let token = token.ok_or(StorageError::Nonsense)?.to_owned();
        *self.shared.token.lock() = Some(token.clone());
        self.post(path, body, Some(&token)).await
    }

    /// Asks one endpoint after the other until one answers.
    async fn post(
        &self,
        path: &str,
        body: &Value,
        token: Option<&str>,
    ) -> Result<Value, StorageError> {
        let count = self.shared.endpoints.len();
        let first = self.shared.current.load(Ordering::Relaxed);
        let mut failure = StorageError::Timeout;
        for turn in 0..count {
            let place = first.wrapping_add(turn).checked_rem(count).unwrap_or(0);
            let Some(endpoint) = self.shared.endpoints.get(place) else {
                break;
            };
            let url = format!("{endpoint}/v3/{path}");
            match self.post_to(&url, body, token).await {
                Ok(answer) => {
                    self.shared.current.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                // A member without a leader says so with 503: another may have one.
                Err(
                    error @ (StorageError::Etcd(_) | StorageError::Refused { status: 503, .. }),
                ) => {
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    async fn post_to(
        &self,
        url: &str,
        body: &Value,
        token: Option<&str>,
    ) -> Result<Value, StorageError> {
        let address = || StorageError::Etcd(FetchError::Address(Uri::default()));
        let mut request = Request::post(url).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let body = Bytes::from(body.to_string());
        let request = request.body(body).map_err(|_| address())?;
        let answer = self
            .client
            .send(request)
            .await
            .map_err(StorageError::Etcd)?;
        if answer.status() != StatusCode::OK {
            let said = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
            let words = ["message", "error"]
                .iter()
                .find_map(|word| said.get(word)?.as_str());
            return Err(StorageError::Refused {
                status: answer.status().as_u16(),
                words: words.unwrap_or_default().chars().take(300).collect(),
            });
        }
        serde_json::from_slice(answer.body()).map_err(|_| StorageError::Nonsense)
    }

    async fn list_all(&self, kind: Kind) -> Result<BTreeMap<String, Version>, StorageError> {
        let folder = self.key(kind.folder(), "");
        // `0` is what comes after `/`: the end of everything below the folder.
        let end = format!("{}0", folder.trim_end_matches('/'));
        let mut from = folder.clone();
        let mut found = BTreeMap::new();
        loop {
            let asked = json!({
                "key": encode(&from),
                "range_end": encode(&end),
                "keys_only": true,
                "limit": PAGE,
            });
            let answer = self.call("kv/range", &asked).await?;
            let mut last = None;
            for entry in answer
                .get("kvs")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let key = text(entry, "key")?;
                let version = number(entry, "mod_revision").ok_or(StorageError::Nonsense)?;
                if let Some(name) = key.strip_prefix(&folder) {
                    found.insert(name.to_owned(), version);
                }
                last = Some(key);
            }
            match (answer.get("more").and_then(Value::as_bool), last) {
                (Some(true), Some(last)) => from = format!("{last}\0"),
                _ => return Ok(found),
            }
        }
    }

    async fn read_one(&self, kind: Kind, name: &str) -> Result<Option<Stored>, StorageError> {
        let asked = json!({ "key": encode(&self.key(kind.folder(), name)) });
        let answer = self.call("kv/range", &asked).await?;
        let Some(entry) = answer.get("kvs").and_then(|kvs| kvs.get(0)) else {
            return Ok(None);
        };
        // An empty value is left out.
        let value = entry
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let bytes = BASE64_STANDARD
            .decode(value)
            .map_err(|_| StorageError::Nonsense)?;
        Ok(Some(Stored {
            version: number(entry, "mod_revision").ok_or(StorageError::Nonsense)?,
            bytes: bytes.into(),
        }))
    }

    async fn commit(
        &self,
        key: String,
        bytes: Bytes,
        lock: &Lock,
    ) -> Result<Version, StorageError> {
        let asked = json!({
            "compare": [{
                "key": encode(&self.key(LOCKS, &lock.name)),
                "target": "VALUE",
                "result": "EQUAL",
                "value": encode(&lock.owner),
            }],
            "success": [{ "request_put": { "key": encode(&key), "value": BASE64_STANDARD.encode(&bytes) } }],
        });
        let answer = self.call("kv/txn", &asked).await?;
        if answer.get("succeeded").and_then(Value::as_bool) != Some(true) {
            return Err(StorageError::LockLost);
        }
        let header = answer.get("header").ok_or(StorageError::Nonsense)?;
        number(header, "revision").ok_or(StorageError::Nonsense)
    }

    async fn take(&self, name: &str) -> Result<Option<Lock>, StorageError> {
        let key = self.key(LOCKS, name);
        // A look costs less than a lease.
        let asked = json!({ "key": encode(&key), "keys_only": true });
        let taken = self.call("kv/range", &asked).await?;
        if taken.get("kvs").and_then(|kvs| kvs.get(0)).is_some() {
            return Ok(None);
        }
        let granted = self
            .call("lease/grant", &json!({ "TTL": BREAK.as_secs() }))
            .await?;
        let lease = granted
            .get("ID")
            .and_then(Value::as_str)
            .ok_or(StorageError::Nonsense)?;
        let lock = Lock {
            name: name.to_owned(),
            owner: owner(),
            lease: lease.parse().map_err(|_| StorageError::Nonsense)?,
        };
        let asked = json!({
            "compare": [{ "key": encode(&key), "target": "CREATE", "result": "EQUAL", "create_revision": 0 }],
            "success": [{ "request_put": { "key": encode(&key), "value": encode(&lock.owner), "lease": lease } }],
        });
        let answer = self.call("kv/txn", &asked).await?;
        if answer.get("succeeded").and_then(Value::as_bool) == Some(true) {
            return Ok(Some(lock));
        }
        self.give_back(&lock).await?;
        Ok(None)
    }

    /// The lease ends, and with it the lock's key.
    async fn give_back(&self, lock: &Lock) -> Result<(), StorageError> {
        let asked = json!({ "ID": lock.lease.to_string() });
        match self.call("lease/revoke", &asked).await {
            // It has ended already.
            Err(StorageError::Refused { status: 404, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn keep(&self, lock: &Lock) -> Result<(), StorageError> {
        let asked = json!({ "ID": lock.lease.to_string() });
        let answer = self.call("lease/keepalive", &asked).await?;
        let left = answer
            .get("result")
            .and_then(|result| number(result, "TTL"));
        // A lease that has ended is answered without a time.
        left.filter(|left| *left > 0)
            .map(|_| ())
            .ok_or(StorageError::LockLost)
    }
}

impl Storage for Etcd {
    fn list(&self, kind: Kind) -> Answer<'_, BTreeMap<String, Version>> {
        Box::pin(self.list_all(kind))
    }

    fn read<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        _at: Option<Version>,
    ) -> Answer<'a, Option<Stored>> {
        Box::pin(self.read_one(kind, name))
    }

    fn write<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        bytes: Bytes,
        lock: &'a Lock,
    ) -> Answer<'a, Version> {
        Box::pin(self.commit(self.key(kind.folder(), name), bytes, lock))
    }

    fn remove<'a>(&'a self, kind: Kind, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let asked = json!({ "key": encode(&self.key(kind.folder(), name)) });
            self.call("kv/deleterange", &asked).await.map(|_| ())
        })
    }

    fn lock<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lock>> {
        Box::pin(self.take(name))
    }

    fn refresh<'a>(&'a self, lock: &'a Lock) -> Answer<'a, ()> {
        Box::pin(self.keep(lock))
    }

    fn unlock(&self, lock: Lock) -> Answer<'_, ()> {
        Box::pin(async move { self.give_back(&lock).await })
    }

    fn is_shared(&self) -> bool {
        true
    }
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn text(entry: &Value, field: &str) -> Result<String, StorageError> {
    let value = entry.get(field).and_then(Value::as_str);
    let bytes = value.and_then(|value| BASE64_STANDARD.decode(value).ok());
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(StorageError::Nonsense)
}

/// Numbers of 64 bits are strings in this JSON.
fn number(entry: &Value, field: &str) -> Option<u64> {
    let value = entry.get(field)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
