//! Certificates that are ordered when a client asks for a host.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sluice_certs::{
    acme::{Denied, Issuer, OnDemand},
    fetch::Client,
};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Pebble,
    pebble::Setup,
    replica::{Replica, directory, issuer, pebble, terms},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

fn offering(pebble: &Pebble, on_demand: OnDemand) -> Vec<Issuer> {
    let mut offering = issuer(pebble, "pebble");
    offering.on_demand = Some(on_demand);
    vec![offering]
}

fn list(hosts: &[&str]) -> OnDemand {
    OnDemand {
        allow: hosts.iter().map(ToString::to_string).collect(),
        ..OnDemand::default()
    }
}

/// Says yes to hosts of `allowed`; gives who asked for what.
async fn opinion(allowed: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&asked);
    Tasks::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let status = if path.ends_with(allowed) {
                "200 OK"
            } else {
                "404 Not Found"
            };
            noted.lock().push(path);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream
                .write_all(answer.as_bytes())
                .await
                .unwrap_or_default();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_host_of_the_list_gets_a_certificate_when_it_is_asked_for() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let wanted = terms(
        directory(folder.path(), false),
        offering(&pebble, list(&["*.shop.example"])),
        &[],
    );
    let replica = Replica::start(wanted.clone(), &door);

    // Many ask at once; it is ordered once.
    let asking = (0..20).map(|_| replica.keeper.demand("pebble", "A.shop.example."));
    for answer in futures(asking).await {
        assert!(answer.expect("pairs").covers("a.shop.example"));
    }
    assert_eq!(replica.keeper.orders(), (1, 0));
    for (host, denied) in [
        ("a.other.example", Denied::NotAllowed),
        ("127.0.0.1", Denied::NotAllowed),
        ("localhost", Denied::NotAllowed),
        ("*.shop.example", Denied::NotAllowed),
    ] {
        assert_eq!(
            replica.keeper.demand("pebble", host).await.err(),
            Some(denied),
            "{host}"
        );
    }
    drop(replica);

    let restarted = Replica::start(wanted, &door);
    let held = restarted.keeper.demand("pebble", "a.shop.example").await;
    assert!(held.is_ok(), "{held:?}");
    assert_eq!(restarted.keeper.orders(), (0, 0), "it lay in the storage");
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                done.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[tokio::test]
async fn who_is_asked_decides() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let (address, asked) = opinion("=good.example").await;
    let folder = TempDir::new().expect("a folder");
    let on_demand = OnDemand {
        ask: Some((format!("http://{address}/allowed"), Client::plain())),
        ..list(&["good.example", "bad.example"])
    };
    let wanted = terms(
        directory(folder.path(), false),
        offering(&pebble, on_demand),
        &[],
    );
    let replica = Replica::start(wanted, &door);
    assert!(
        replica
            .keeper
            .demand("pebble", "good.example")
            .await
            .is_ok()
    );
    for _ in 0..3 {
        let bad = replica.keeper.demand("pebble", "bad.example").await;
        assert_eq!(bad.err(), Some(Denied::NotAllowed));
    }
    let unlisted = replica.keeper.demand("pebble", "good.example.org").await;
    assert_eq!(
        unlisted.err(),
        Some(Denied::NotAllowed),
        "the list comes first"
    );
    let asked = asked.lock().clone();
    assert_eq!(
        asked,
        [
            "/allowed?domain=good.example",
            "/allowed?domain=bad.example"
        ],
        "a no is remembered"
    );
}

#[tokio::test]
async fn no_more_are_ordered_than_the_rate_allows() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let on_demand = OnDemand {
        rate: Some((2, Duration::from_hours(1))),
        ..list(&["*.example"])
    };
    let wanted = terms(
        directory(folder.path(), false),
        offering(&pebble, on_demand),
        &[],
    );
    let replica = Replica::start(wanted, &door);
    for host in ["a.example", "b.example"] {
        assert!(
            replica.keeper.demand("pebble", host).await.is_ok(),
            "{host}"
        );
    }
    assert_eq!(
        replica.keeper.demand("pebble", "c.example").await.err(),
        Some(Denied::Rate)
    );
    assert!(
        replica.keeper.demand("pebble", "a.example").await.is_ok(),
        "what is there is served"
    );
}

#[tokio::test]
async fn a_handshake_waits_only_so_long_and_only_so_many_do() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    door.shut.store(true, std::sync::atomic::Ordering::Relaxed);
    let folder = TempDir::new().expect("a folder");
    let wanted = terms(
        directory(folder.path(), false),
        offering(&pebble, list(&["*.example"])),
        &[],
    );
    let replica = Replica::start(wanted, &door);
    let began = Instant::now();
    let asking = (0..120).map(|_| replica.keeper.demand("pebble", "slow.example"));
    let answers = futures(asking).await;
    let count = |denied: &Denied| {
        answers
            .iter()
            .filter(|answer| answer.as_ref().err() == Some(denied))
            .count()
    };
    assert_eq!(count(&Denied::Crowd), 20, "at most 100 wait");
    assert_eq!(
        count(&Denied::Crowd) + count(&Denied::Late),
        120,
        "{answers:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
}
