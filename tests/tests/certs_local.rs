//! Certificates of the development CA: for what is routed, the same after a restart, anew when they are
//! wanted anew.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use serde_json::{Value, json};
use sluice_certs::{
    Facts, Pair,
    authority::local::Local,
    testing::{Client as TlsClient, alert},
};
use sluice_tests::{
    asked::Asked,
    process::{Sluice, sluice, stderr, stdout},
    tls::{connect, secure},
};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

const CONFIG: &str = "[process]\nstate_directory = \"state\"\n[access_log]\noutput = \"off\"\n\
    [listeners.web]\naddress = \"{address}\"\nprotocol = \"https\"\n\
    certificates = { auto = \"local\" }\n\
    [certificates.own]\nhosts = [\"own.example\"]\nauto = \"local\"\n\
    [routes.r]\nhosts = [\"a.example\", \"*.b.example\", \"own.example\", \"*\"]\n\
    respond = { body = \"hello\" }\n";

async fn start(folder: &Arc<TempDir>) -> Asked {
    let asked = Asked::start_in(Arc::clone(folder), CONFIG, &[]);
    asked.answers().await;
    asked
}

/// Who trusts the root of the gateway in `folder`.
fn client(folder: &Path) -> TlsClient {
    let root = Local::root(&folder.join("state/local"));
    let root = fs::read_to_string(root).expect("a root");
    TlsClient::believing(&root, &["http/1.1"]).forgetful()
}

/// What a client is shown that asks for `name`.
async fn shown(client: &TlsClient, running: &Sluice, name: &str) -> Facts {
    let stream = connect(client, running.address(), name).await;
    let stream = stream.unwrap_or_else(|error| panic!("{name}: {error}"));
    stream.certificate().expect("a certificate")
}

#[tokio::test]
async fn whoever_trusts_the_root_reaches_every_routed_host() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let asked = start(&folder).await;
    let client = client(folder.path());
    for name in ["a.example", "x.b.example", "own.example", "localhost"] {
        let mut stream = secure(&client, asked.running.address(), name).await;
        assert_eq!(stream.get(name, "/").await.text(), "hello", "{name}");
    }
    // Who was given an address asks for nobody.
    for address in ["127.0.0.1", "::1"] {
        let facts = shown(&client, &asked.running, address).await;
        assert_eq!(facts.names, ["localhost", "127.0.0.1", "::1"], "{address}");
    }
    // What is not routed by name has none, though every host is routed.
    for name in ["other.example", "b.example", "x.y.b.example"] {
        let refused = connect(&client, asked.running.address(), name).await;
        let alert = alert(&refused.expect_err("nobody answers for it"));
        assert_eq!(alert.as_deref(), Some("unrecognized_name"), "{name}");
    }

    let all = asked.get("/certificates").await;
    let told = |key: &str| {
        let all = all.as_array().expect("a list").iter();
        all.map(|it| it[key].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        told("name"),
        ["*.b.example", "a.example", "localhost", "own"]
    );
    assert_eq!(told("source"), vec![json!({ "auto": "local" }); 4]);
    assert_eq!(told("state"), ["valid"; 4]);
    assert!(told("renewal").iter().all(Value::is_string), "{all}");
    let table = stdout(&asked.says(&["certs", "list"]).await);
    assert!(
        table.contains("local") && table.contains("(in 59d)"),
        "{table}"
    );
}

#[tokio::test]
async fn certificates_are_kept_over_restarts_and_renewed_when_somebody_wants_it() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut asked = start(&folder).await;
    let client = client(folder.path());
    let first = shown(&client, &asked.running, "a.example").await.serial;
    let other = shown(&client, &asked.running, "own.example").await.serial;
    asked.running.signal("TERM");
    asked.running.ends().await;
    let asked = start(&folder).await;
    assert_eq!(
        shown(&client, &asked.running, "a.example").await.serial,
        first
    );

    let renewed = asked.says(&["certs", "renew", "a.example"]).await;
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    let deadline = Instant::now() + Duration::from_secs(20);
    let second = loop {
        let serial = shown(&client, &asked.running, "a.example").await.serial;
        if serial != first {
            break serial;
        }
        assert!(Instant::now() < deadline, "still {serial}");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        shown(&client, &asked.running, "own.example").await.serial,
        other
    );
    assert_eq!(
        asked.get("/certificates/a.example").await["pairs"][0]["serial"],
        second
    );
}

#[tokio::test]
async fn what_was_made_is_exported_from_disk_and_its_keys_stay_there() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let asked = start(&folder).await;
    assert!(asked.says(&["log-level", "trace"]).await.status.success());
    let client = client(folder.path());
    for name in ["a.example", "*.b.example", "own", "localhost"] {
        let args = [
            "certs", "export", name, "--chain", "c.pem", "--key", "k.pem",
        ];
        let output = sluice(folder.path(), &args).await;
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
        let pair = Pair::from_pem(&read("c.pem"), &read("k.pem")).expect("a pair");
        let host = match name {
            "own" => "own.example",
            "*.b.example" => "x.b.example",
            name => name,
        };
        let facts = shown(&client, &asked.running, host).await;
        assert_eq!(pair.facts().fingerprint, facts.fingerprint, "{name}");
        let mode = fs::metadata(folder.path().join("k.pem")).expect("a key");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    let none = sluice(
        folder.path(),
        &["certs", "export", "x", "--chain", "c", "--key", "k"],
    );
    let none = none.await;
    assert!(
        stderr(&none).contains("no certificate named x"),
        "{}",
        stderr(&none)
    );

    assert!(
        asked
            .says(&["certs", "renew", "localhost"])
            .await
            .status
            .success()
    );
    assert!(asked.says(&["reload"]).await.status.success());
    let mut told = asked.running.says("renewed by the development CA").await;
    for path in [
        "/certificates",
        "/certificates/localhost",
        "/config",
        "/ready",
    ] {
        told.push_str(&asked.get(path).await.to_string());
    }
    let state = folder.path().join("state/local");
    let leaves = fs::read_dir(state.join("certificates")).expect("a folder");
    let leaves = leaves.map(|entry| entry.expect("an entry").path());
    for path in leaves.chain([state.join("authority.pem")]) {
        let text = fs::read_to_string(&path).expect("a file");
        let key = &text[text.find("-----BEGIN PRIVATE KEY").expect("a key")..];
        let lines = key
            .lines()
            .filter(|line| !line.starts_with("-----") && line.len() > 16);
        for line in lines {
            assert!(!told.contains(line), "a key was told:\n{told}");
        }
    }
    assert!(!told.contains("PRIVATE KEY"), "{told}");
}

#[tokio::test]
async fn where_nothing_can_be_kept_the_start_says_so() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    fs::write(folder.path().join("taken"), "").expect("a file");
    let config = CONFIG.replace("\"state\"", "\"taken\"");
    let mut asked = Asked::start_in(Arc::clone(&folder), &config, &[]);
    assert_eq!(asked.running.ends().await.code(), Some(3));
    let said = asked.running.output();
    for part in [
        "development_ca",
        "state_directory",
        "auto = \"local\"",
        "taken/local",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    // A check makes nothing.
    let check = sluice(folder.path(), &["check", "sluice.toml"]).await;
    assert!(check.status.success(), "{}", stderr(&check));
}
