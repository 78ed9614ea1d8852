//! Certificates over ACME from a real pebble: ordered, renewed, and what goes wrong on the way.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use sluice_certs::acme::{ExternalAccount, Phase};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Pebble,
    eventually::eventually,
    pebble::{Setup, free, is_newer},
    replica::{Door, Replica, Stage, directory, issuer, terms},
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

#[tokio::test]
async fn a_missing_certificate_is_ordered_and_kept() {
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let wanted = stage.wants(&[("web", &["a.example", "b.example"])]);

    let first = stage.start(wanted.clone());
    let serial = first.issued("web").await;

    let facts = first.facts("web").expect("a certificate");
    assert!(
        facts.covers("a.example") && facts.covers("b.example"),
        "{facts:?}"
    );
    let phase = first.state("web").map(|web| web.phase);
    assert_eq!(phase, Some(Phase::Issued));
    drop(first);
    let second = stage.start(wanted);
    second.keeper.loaded().await;
    assert_eq!(
        second.serial("web"),
        Some(serial),
        "a restart serves what was issued"
    );
}

#[tokio::test]
async fn an_address_gets_a_certificate_too() {
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let replica = stage.start(stage.wants(&[("address", &["127.0.0.1"])]));
    replica.issued("address").await;
    let facts = replica.facts("address").expect("a certificate");
    assert!(facts.covers("127.0.0.1"), "{facts:?}");
}

#[tokio::test]
async fn only_the_token_that_is_pending_is_answered() {
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    stage.door.shut.store(true, Ordering::Relaxed);
    let replica = stage.start(stage.plain());
    eventually("the validating server comes", || {
        (stage.door.came.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    let pending = replica.keeper.pending();

    assert_eq!(pending.find_http("a.example", "guessed").await, None);
    stage.door.shut.store(false, Ordering::Relaxed);
    replica.issued("web").await;
    let seen = stage.door.seen.lock().clone();
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
    let Some(stage) = Stage::set(setup).await else {
        return;
    };
    let replica = stage.start(stage.plain());
    let first = replica.issued("web").await;
    let ends = replica.facts("web").expect("a certificate").not_after;

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
    let Some(mut stage) = Stage::set(setup).await else {
        return;
    };
    let wanted = stage.plain();
    let replica = stage.start(wanted.clone());
    let serial = replica.issued("web").await;
    stage.end_pebble();

    let expired = |replica: &Replica| {
        let facts = replica.facts("web")?;
        (SystemTime::from(facts.not_after) < SystemTime::now()).then_some(())
    };
    eventually("it expires", || expired(&replica)).await;
    assert_eq!(replica.serial("web").as_deref(), Some(&*serial));
    drop(replica);
    let restarted = stage.start(wanted);
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
    let Some(stage) = Stage::set(setup).await else {
        return;
    };
    let hosts: Vec<String> = (0..5)
        .map(|number| format!("host{number}.example"))
        .collect();
    let lists: Vec<[&str; 1]> = hosts.iter().map(|host| [host.as_str()]).collect();
    let wanted = hosts.iter().zip(&lists);
    let wanted: Vec<(&str, &[&str])> = wanted
        .map(|(name, hosts)| (name.as_str(), &hosts[..]))
        .collect();
    let replica = stage.start(stage.wants(&wanted));
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
    let Some(stage) = Stage::set(setup).await else {
        return;
    };
    let with = stage.issuer("with", |issuer| {
        issuer.external_account = Some(ExternalAccount {
            key_id: "kid-1".to_owned(),
            key: EXTERNAL.1.to_vec(),
        });
    });
    let replica = stage.start(stage.terms("with", vec![with]));
    replica.issued("web").await;

    let without = stage.issuer("without", |_| {});
    let replica = stage.start(stage.terms("without", vec![without]));
    let words = replica.words("web").await;
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
    let Some(stage) = Stage::set(setup).await else {
        return;
    };
    let brief = stage.issuer("pebble", |issuer| issuer.profile = Some("brief".to_owned()));
    let replica = stage.start(stage.terms("", vec![brief]));
    replica.issued("web").await;
    let facts = replica.facts("web").expect("a certificate");
    let life = facts.not_after - facts.not_before;
    assert!(life.whole_seconds() <= 3_600, "{life}");
}

#[tokio::test]
async fn the_issuers_wish_to_renew_is_heeded() {
    if !is_newer() {
        eprintln!("SKIPPED: this pebble has no wishes (tests/setup builds a newer one with Go)");
        return;
    }
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let wanted = stage.plain();
    let first = stage.start(wanted.clone());
    let serial = first.issued("web").await;
    drop(first);
    let stored = std::fs::read_dir(stage.folder().join("certificates")).expect("a folder");
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
        stage
            .pebble()
            .wish(certificate, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
            .await
    );

    let second = stage.start(wanted);
    second
        .serves("web", Duration::from_secs(20), |now| now != serial)
        .await;
}

#[tokio::test]
async fn another_issuer_is_asked_when_the_first_one_fails() {
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let limited = answering("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nContent-Length: 84\r\nConnection: close\r\n\r\n{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many certificates\"}  ").await;
    let first = stage.issuer("first", |issuer| {
        issuer.directory = format!("http://{limited}/dir");
        issuer.fallback = vec!["second".to_owned()];
    });
    let second = stage.issuer("second", |_| {});
    let replica = stage.start(stage.terms("", vec![first, second]));
    replica.issued("web").await;
    assert_eq!(replica.keeper.orders(), (1, 1));
}

#[tokio::test]
async fn failures_are_told_in_the_issuers_own_words_and_waited_after() {
    let Some(stage) = Stage::set(Setup::default()).await else {
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
    let at = |name: &str, address: SocketAddr| {
        stage.issuer(name, |issuer| {
            issuer.directory = format!("http://{address}/dir");
        })
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
        let folder = address.port().to_string();
        let replica = stage.start(stage.terms(&folder, vec![at("broken", address)]));
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
    let wanted = stage.terms("down", vec![at("down", nobody)]);
    let replica = stage.start(wanted.clone());
    let words = replica.words("web").await;
    assert!(words.contains("connecting to"), "{words}");
    drop(replica);
    let restarted = stage.start(wanted);
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
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let wanted = terms(
        directory(folder.path(), false),
        vec![issuer(&pebble, "pebble")],
        &[("web", &["a.example"])],
    );
    let replica = Replica::start(wanted, &Door::default());
    let words = replica.words("web").await;
    assert!(
        words.contains("a.example") && words.contains("connection"),
        "{words}"
    );
}

#[tokio::test]
async fn what_stays_wanted_keeps_its_certificate_over_a_change() {
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let storage = directory(stage.folder(), false);
    let pebbles = || vec![stage.issuer("pebble", |_| {})];
    let replica = stage.start(terms(
        Arc::clone(&storage),
        pebbles(),
        &[("a", &["a.example"])],
    ));
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
    let Some(stage) = Stage::set(Setup::default()).await else {
        return;
    };
    let blocked = stage.folder().join("blocked");
    std::fs::write(&blocked, "a file where a folder is to be").expect("a file");
    let pebbles = vec![stage.issuer("pebble", |_| {})];
    let replica = stage.start(stage.terms("blocked", pebbles));
    // It is looked for every two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(replica.keeper.orders(), (0, 0));
    assert_eq!(stage.door.came.load(Ordering::Relaxed), 0);
    std::fs::remove_file(&blocked).expect("it goes");
    replica.issued("web").await;
}
