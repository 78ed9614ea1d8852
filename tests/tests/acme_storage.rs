//! What every storage promises, on a directory and on etcd; and what is left after `kill -9`.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use rand::Rng;
use serde_json::json;
use sluice_certs::{
    fetch::Client,
    storage::{Directory, Kind, Lock, Login, Storage, StorageError},
};
use sluice_tests::{etcd::Etcd, eventually::within};
use tempfile::TempDir;

const KILLS: usize = 100;
/// Where the child of the killing test writes.
const FOLDER: &str = "SLUICE_TEST_STORAGE";
/// Large enough for a write to be cut in two.
const SIZE: usize = 64 << 10;

async fn take(storage: &dyn Storage, name: &str) -> Option<Lock> {
    storage.lock(name).await.expect("an answer")
}

async fn keeps_its_promises(storage: Arc<dyn Storage>, other: Arc<dyn Storage>) {
    let name = "*.example.com";
    let lock = take(&*storage, name).await.expect("the lock");
    assert_eq!(take(&*other, name).await, None, "one at a time");
    assert!(
        take(&*other, "b.example").await.is_some(),
        "another name is another's"
    );
    storage.refresh(&lock).await.expect("refreshed");

    assert_eq!(
        storage
            .read(Kind::Certificate, name, None)
            .await
            .expect("an answer"),
        None
    );
    let mut before = 0;
    for text in ["first", "second", ""] {
        let written = storage
            .write(Kind::Certificate, name, Bytes::from(text), &lock)
            .await;
        let version = written.expect("written");
        assert!(version > before, "versions grow");
        before = version;
        let read = other
            .read(Kind::Certificate, name, Some(1))
            .await
            .expect("an answer")
            .expect("an object");
        assert_eq!((read.version, &*read.bytes), (version, text.as_bytes()));
    }
    let listed = other.list(Kind::Certificate).await.expect("a list");
    assert_eq!(listed, BTreeMap::from([(name.to_owned(), before)]));
    assert_eq!(
        other.list(Kind::Account).await.expect("a list"),
        BTreeMap::new(),
        "kinds are apart"
    );

    let foreign = take(&*other, "c.example").await.expect("the lock");
    storage.unlock(lock.clone()).await.expect("given back");
    for lost in [&lock] {
        let written = storage
            .write(Kind::Certificate, name, Bytes::from("late"), lost)
            .await;
        assert!(
            matches!(written, Err(StorageError::LockLost)),
            "{written:?}"
        );
        assert!(matches!(
            storage.refresh(lost).await,
            Err(StorageError::LockLost)
        ));
    }
    storage
        .unlock(lock)
        .await
        .expect("giving it back twice does no harm");
    assert!(take(&*other, name).await.is_some(), "it is free again");
    other.unlock(foreign).await.expect("given back");

    storage
        .remove(Kind::Certificate, name)
        .await
        .expect("removed");
    storage
        .remove(Kind::Certificate, name)
        .await
        .expect("nothing to remove");
    assert_eq!(
        other
            .read(Kind::Certificate, name, Some(before))
            .await
            .expect("an answer"),
        None
    );
}

#[tokio::test]
async fn a_directory_keeps_its_promises() {
    let folder = TempDir::new().expect("a folder");
    let open = || Arc::new(Directory::new(folder.path(), true));
    keeps_its_promises(open(), open()).await;
}

#[tokio::test]
async fn etcd_keeps_its_promises() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let open = || Arc::new(etcd.storage("/sluice"));
    keeps_its_promises(open(), open()).await;
}

#[tokio::test]
async fn etcd_lists_more_than_one_answer_holds() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let storage = etcd.storage("/sluice");
    let lock = take(&storage, "x").await.expect("the lock");
    for number in 0..2_050 {
        let name = format!("{number}.example");
        storage
            .write(Kind::Record, &name, Bytes::from("{}"), &lock)
            .await
            .expect("written");
    }
    assert_eq!(
        storage.list(Kind::Record).await.expect("a list").len(),
        2_050
    );
}

#[tokio::test]
async fn etcd_is_asked_elsewhere_when_one_member_is_away() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let [nobody] = sluice_tests::pebble::free::<1>().await;
    let endpoints = [format!("http://{nobody}"), etcd.endpoint.clone()];
    let storage = sluice_certs::storage::Etcd::new(Client::plain(), &endpoints, "/sluice", None);
    assert!(storage.list(Kind::Record).await.is_ok());
    drop(etcd);
    assert!(matches!(
        storage.list(Kind::Record).await,
        Err(StorageError::Etcd(_))
    ));
}

#[tokio::test]
async fn etcd_is_logged_in_to() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let client = Client::plain();
    for (path, said) in [
        (
            "auth/user/add",
            json!({ "name": "root", "password": "secret" }),
        ),
        ("auth/role/add", json!({ "name": "root" })),
        ("auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("auth/enable", json!({})),
    ] {
        let request = Request::post(format!("{}/v3/{path}", etcd.endpoint));
        let request = request
            .body(Bytes::from(said.to_string()))
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    }
    let login = |password: &str| Login {
        user: "root".to_owned(),
        password: password.to_owned(),
    };
    let stranger = etcd.storage("/sluice").list(Kind::Record).await;
    assert!(
        matches!(stranger, Err(StorageError::Refused { .. })),
        "{stranger:?}"
    );
    let wrong = etcd
        .storage_as("/sluice", Some(login("wrong")))
        .list(Kind::Record)
        .await;
    assert!(
        matches!(wrong, Err(StorageError::Refused { .. })),
        "{wrong:?}"
    );
    let storage = etcd.storage_as("/sluice", Some(login("secret")));
    assert!(storage.list(Kind::Record).await.is_ok());
    assert!(take(&storage, "x").await.is_some());
}

/// Each object says its number, so that half of one is not mistaken for another.
fn object(number: u64) -> Bytes {
    let line = format!("{number:020}\n");
    Bytes::from(line.repeat(SIZE / line.len()))
}

/// The number of an object, if it is whole.
fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let first = text.lines().next()?.parse().ok()?;
    (object(first) == bytes).then_some(first)
}

#[tokio::test]
#[ignore = "the child of the test below, which kills it"]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let storage = Directory::new(folder, true);
    loop {
        // A lock of its own each time: that of the one killed before is still there.
        let lock = take(&storage, &format!("lock-{:032x}", rand::random::<u128>()))
            .await
            .expect("a lock");
        let last = storage
            .read(Kind::Certificate, "a.example", None)
            .await
            .expect("an answer");
        let next = last.map_or(0, |stored| {
            number(&stored.bytes).expect("a whole object") + 1
        });
        storage
            .write(Kind::Certificate, "a.example", object(next), &lock)
            .await
            .expect("written");
        storage.unlock(lock).await.expect("given back");
    }
}

/// The number of what is stored, which is whole.
async fn stored_number(storage: &Directory) -> Option<u64> {
    let stored = storage.read(Kind::Certificate, "a.example", None).await;
    let stored = stored.expect("an answer");
    stored.map(|stored| number(&stored.bytes).expect("a whole object"))
}

#[tokio::test]
async fn what_is_stored_is_whole_after_every_kill() {
    let folder = TempDir::new().expect("a folder");
    let storage = Directory::new(folder.path(), true);
    let mut last = None;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "writes_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        // Every other one is at its second object at least, however slow this machine is.
        if kill % 2 == 1 {
            let before = stored_number(&storage).await;
            within("it writes", async {
                while stored_number(&storage).await == before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
        let life = rand::rng().random_range(5..60);
        tokio::time::sleep(Duration::from_millis(life)).await;
        child.kill().expect("kill -9");
        child.wait().expect("it ends");

        let now = stored_number(&storage).await;
        assert!(now >= last, "kill {kill}: after {last:?} there is {now:?}");
        last = now;
    }
    assert!(
        last > Some(KILLS as u64 / 4),
        "it wrote between the kills: {last:?}"
    );
    let left = std::fs::read_dir(folder.path().join("certificates")).expect("a folder");
    let is_object = |path: &Path| path.extension().is_some_and(|ending| ending == "pem");
    let objects = left
        .filter(|file| is_object(&file.as_ref().expect("a file").path()))
        .count();
    assert!(objects <= 2, "old versions are removed: {objects}");
}
