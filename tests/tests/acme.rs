//! Certificates over ACME from a real pebble: ordered, renewed, and what goes wrong on the way.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use sluice_certs::acme::{ExternalAccount, Phase};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    eventually::eventually,
    pebble::{Setup, free, is_newer},
    replica::{Replica, directory, issuer, pebble, terms},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Duration,
};

/// In base64url, as pebble has it, and its bytes.
const EXTERNAL: (&str, &[u8]) = (
    "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I",
    b"secret-secret-secret-secret-secr",
);

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

#[tokio::test]
async fn a_missing_certificate_is_ordered_and_kept() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let storage = directory(folder.path(), false);
    let wanted = [("web", &["a.example", "b.example"][..])];
    let wanted = terms(storage, vec![issuer(&pebble, "pebble")], &wanted);

    let first = Replica::start(wanted.clone(), &door);
    let serial = first.issued("web").await;

    let state = first.state("web").expect("a state");
    let facts = state.facts.expect("a certificate");
    assert!(
        facts.covers("a.example") && facts.covers("b.example"),
        "{facts:?}"
    );
    assert_eq!(state.phase, Phase::Issued);
    drop(first);
    let second = Replica::start(wanted, &door);
    second.keeper.loaded().await;
    assert_eq!(
        second.serial("web"),
        Some(serial),
        "a restart serves what was issued"
    );
}

#[tokio::test]
async fn an_address_gets_a_certificate_too() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let wanted = [("address", &["127.0.0.1"][..])];
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &wanted,
    );
    let replica = Replica::start(wanted, &door);
    replica.issued("address").await;
    let facts = replica
        .state("address")
        .and_then(|state| state.facts)
        .expect("a certificate");
    assert!(facts.covers("127.0.0.1"), "{facts:?}");
}

#[tokio::test]
async fn only_the_token_that_is_pending_is_answered() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    door.shut.store(true, Ordering::Relaxed);
    let replica = Replica::start(wanted, &door);
    eventually("the validating server comes", || {
        (door.came.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    let pending = replica.keeper.pending();

    assert_eq!(pending.find_http("a.example", "guessed").await, None);
    door.shut.store(false, Ordering::Relaxed);
    replica.issued("web").await;
    let seen = door.seen.lock().clone();
    let (host, path, _) = seen.first().expect("a request");
    assert!(seen.iter().all(|(_, _, answered)| *answered), "{seen:?}");
    let token = path.rsplit('/').next().expect("a token");
    let gone = pending.find_http(host, token).await;
    assert_eq!(gone, None, "what was answered is withdrawn");
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time() {
    let setup = Setup {
        lifetime: 12,
        ..Setup::default()
    };
    let Some((pebble, door, _tasks)) = pebble(setup).await else {
        return;
    };
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &door);
    let first = replica.issued("web").await;
    let ends = replica
        .state("web")
        .and_then(|state| state.facts)
        .expect("a certificate")
        .not_after;

    replica
        .serves("web", Duration::from_secs(14), |serial| serial != first)
        .await;
    assert!(
        SystemTime::now() < SystemTime::from(ends),
        "the first one had not expired"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_served_until_there_is_another() {
    let setup = Setup {
        lifetime: 6,
        ..Setup::default()
    };
    let Some((running, door, _tasks)) = pebble(setup).await else {
        return;
    };
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&running, "pebble")],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted.clone(), &door);
    let serial = replica.issued("web").await;
    drop(running);

    let expired = |replica: &Replica| {
        let facts = replica.state("web").and_then(|state| state.facts)?;
        (SystemTime::from(facts.not_after) < SystemTime::now()).then_some(())
    };
    eventually("it expires", || expired(&replica)).await;
    assert_eq!(replica.serial("web").as_deref(), Some(&*serial));
    drop(replica);
    let restarted = Replica::start(wanted, &door);
    restarted.keeper.loaded().await;
    assert_eq!(
        restarted.serial("web"),
        Some(serial),
        "also after a restart"
    );
}

#[tokio::test]
async fn half_of_all_nonces_may_be_refused() {
    let setup = Setup {
        refused_nonces: 50,
        ..Setup::default()
    };
    let Some((pebble, door, _tasks)) = pebble(setup).await else {
        return;
    };
    let folder = folder();
    let hosts: Vec<String> = (0..5)
        .map(|number| format!("host{number}.example"))
        .collect();
    let lists: Vec<[&str; 1]> = hosts.iter().map(|host| [host.as_str()]).collect();
    let wanted: Vec<(&str, &[&str])> = hosts
        .iter()
        .zip(&lists)
        .map(|(name, hosts)| (name.as_str(), &hosts[..]))
        .collect();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &wanted,
    );
    let replica = Replica::start(wanted, &door);
    for host in &hosts {
        replica.issued(host).await;
    }
    assert_eq!(replica.keeper.orders(), (5, 0));
}

#[tokio::test]
async fn an_external_account_is_used_where_it_is_asked_for() {
    let setup = Setup {
        external: Some(("kid-1", EXTERNAL.0)),
        ..Setup::default()
    };
    let Some((pebble, door, _tasks)) = pebble(setup).await else {
        return;
    };
    let folder = folder();
    let mut with = issuer(&pebble, "with");
    with.external_account = Some(ExternalAccount {
        key_id: "kid-1".to_owned(),
        key: EXTERNAL.1.to_vec(),
    });
    let wanted = [("web", &["a.example"][..])];
    let replica = Replica::start(
        terms(directory(folder.path(), false), vec![with], &wanted),
        &door,
    );
    replica.issued("web").await;

    let folder = TempDir::new().expect("a folder");
    let without = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "without")],
        &wanted,
    );
    let replica = Replica::start(without, &door);
    let words = replica
        .becomes("web", |state| Some(state.problem.clone()?.1.problem))
        .await;
    assert!(words.contains("externalAccountRequired"), "{words}");
}

#[tokio::test]
async fn a_profile_is_ordered_under() {
    let setup = Setup {
        profile: Some(("brief", 3_600)),
        ..Setup::default()
    };
    if !is_newer() {
        eprintln!("SKIPPED: this pebble has no profiles (tests/setup builds a newer one with Go)");
        return;
    }
    let Some((pebble, door, _tasks)) = pebble(setup).await else {
        return;
    };
    let folder = folder();
    let mut brief = issuer(&pebble, "pebble");
    brief.profile = Some("brief".to_owned());
    let wanted = terms(
        directory(folder.path(), false),
        vec![brief],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &door);
    replica.issued("web").await;
    let facts = replica
        .state("web")
        .and_then(|state| state.facts)
        .expect("a certificate");
    let life = facts.not_after - facts.not_before;
    assert!(life.whole_seconds() <= 3_600, "{life}");
}

#[tokio::test]
async fn the_issuers_wish_to_renew_is_heeded() {
    if !is_newer() {
        eprintln!("SKIPPED: this pebble has no wishes (tests/setup builds a newer one with Go)");
        return;
    }
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    let first = Replica::start(wanted.clone(), &door);
    let serial = first.issued("web").await;
    drop(first);
    let stored = std::fs::read_dir(folder.path().join("certificates")).expect("a folder");
    let stored = stored
        .map(|file| file.expect("a file").path())
        .next()
        .expect("a certificate");
    let stored = std::fs::read_to_string(stored).expect("a certificate");
    let (start, end) = (
        stored.find("-----BEGIN CERT"),
        stored.find("-----END CERTIFICATE-----\n"),
    );
    let certificate = &stored[start.expect("a start")..end.expect("an end") + 26];
    assert!(
        pebble
            .wish(certificate, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
            .await
    );

    let second = Replica::start(wanted, &door);
    second
        .serves("web", Duration::from_secs(20), |now| now != serial)
        .await;
}

#[tokio::test]
async fn another_issuer_is_asked_when_the_first_one_fails() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let limited = answering("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nContent-Length: 84\r\nConnection: close\r\n\r\n{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many certificates\"}  ").await;
    let mut first = issuer(&pebble, "first");
    first.directory = format!("http://{limited}/dir");
    first.fallback = vec!["second".to_owned()];
    let issuers = vec![first, issuer(&pebble, "second")];
    let wanted = terms(
        directory(folder.path(), false),
        issuers,
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &door);
    replica.issued("web").await;
    assert_eq!(replica.keeper.orders(), (1, 1));
}

#[tokio::test]
async fn failures_are_told_in_the_issuers_own_words_and_waited_after() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let problem =
        r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#;
    let refusing = |status: &str, more: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    for (answer, words, least) in [
        (
            refusing("429 Too Many Requests", "Retry-After: 7300\r\n", problem),
            "too many certificates",
            7_300,
        ),
        (
            refusing("500 Internal Server Error", "", "<html>"),
            "500: Internal Server Error",
            20,
        ),
        (
            refusing("503 Service Unavailable", "Retry-After: 99\r\n", ""),
            "503: Service Unavailable",
            99,
        ),
        (refusing("200 OK", "", "{\"newNonce\":"), "JSON", 20),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"newNonce\":".to_owned(),
            "exchange",
            20,
        ),
        (String::new(), "exchange", 20),
    ] {
        let address = answering(&answer).await;
        let folder = TempDir::new().expect("a folder");
        let mut broken = issuer(&pebble, "broken");
        broken.directory = format!("http://{address}/dir");
        let wanted = terms(
            directory(folder.path(), false),
            vec![broken],
            &[("web", &["a.example"])],
        );
        let replica = Replica::start(wanted, &door);
        let (tries, until) = replica
            .becomes("web", |state| match state.phase {
                Phase::Waiting { until } => Some((state.problem.clone()?.1, until)),
                _ => None,
            })
            .await;
        assert!(tries.problem.contains(words), "{answer:?}: {tries:?}");
        assert!(until - tries.at >= least, "{answer:?}: {tries:?}");
    }
    let [nobody] = free::<1>().await;
    let mut down = issuer(&pebble, "down");
    down.directory = format!("https://{nobody}/dir");
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![down],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted.clone(), &door);
    let words = replica
        .becomes("web", |state| Some(state.problem.clone()?.1.problem))
        .await;
    assert!(words.contains("connecting to"), "{words}");
    drop(replica);
    let restarted = Replica::start(wanted, &door);
    let phase = restarted
        .becomes("web", |state| {
            state.problem.is_some().then(|| state.phase.clone())
        })
        .await;
    assert!(
        matches!(phase, Phase::Waiting { .. }),
        "a restart waits too: {phase:?}"
    );
}

#[tokio::test]
async fn a_challenge_that_fails_is_told_in_the_issuers_own_words() {
    let setup = Setup {
        http: 9,
        ..Setup::default()
    };
    let Some(pebble) = sluice_tests::Pebble::start(&setup).await else {
        return;
    };
    let folder = folder();
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &sluice_tests::replica::Door::default());
    let words = replica
        .becomes("web", |state| Some(state.problem.clone()?.1.problem))
        .await;
    assert!(
        words.contains("a.example") && words.contains("connection"),
        "{words}"
    );
}

#[tokio::test]
async fn what_stays_wanted_keeps_its_certificate_over_a_change() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let storage = directory(folder.path(), false);
    let pebbles = || vec![issuer(&pebble, "pebble")];
    let replica = Replica::start(
        terms(Arc::clone(&storage), pebbles(), &[("a", &["a.example"])]),
        &door,
    );
    let serial = replica.issued("a").await;

    replica.keeper.set(terms(
        Arc::clone(&storage),
        pebbles(),
        &[("a", &["a.example"]), ("b", &["b.example"])],
    ));
    replica.issued("b").await;
    assert_eq!(replica.serial("a"), Some(serial));
    assert_eq!(replica.keeper.orders(), (2, 0));

    assert!(replica.keeper.renew("a"));
    assert!(!replica.keeper.renew("unknown"));
    eventually("a renewal that was asked for", || {
        (replica.keeper.orders().0 == 3).then_some(())
    })
    .await;
    replica
        .keeper
        .set(terms(storage, pebbles(), &[("b", &["b.example"])]));
    eventually("what is not wanted is not kept", || {
        replica.state("a").is_none().then_some(())
    })
    .await;
}

/// A server that answers every connection alike, whatever it is asked.
async fn answering(answer: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = answer.to_owned();
    Tasks::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1_024];
            if stream.read(&mut head).await.is_ok() {
                stream
                    .write_all(answer.as_bytes())
                    .await
                    .unwrap_or_default();
            }
        }
    });
    address
}

#[tokio::test]
async fn nothing_is_ordered_while_the_storage_is_away() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = folder();
    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder is to be").expect("a file");
    let wanted = terms(
        directory(&blocked, false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &door);
    // It is looked for every two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(replica.keeper.orders(), (0, 0));
    assert_eq!(door.came.load(Ordering::Relaxed), 0);
    std::fs::remove_file(&blocked).expect("it goes");
    replica.issued("web").await;
}
