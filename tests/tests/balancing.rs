//! Which endpoint of an upstream gets a request.

use std::{collections::BTreeMap, time::Duration};

use sluice_tests::{Gateway, Origin, eventually::becomes, gateway, origin};

async fn named(names: &[&str]) -> Vec<Origin> {
    let mut all = Vec::new();
    for name in names {
        all.push(Origin::text(name).await);
    }
    all
}

async fn ask(gateway: &Gateway, times: usize) -> BTreeMap<String, usize> {
    let mut client = gateway.connect().await;
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        *answers
            .entry(client.get("a", "/").await.text())
            .or_default() += 1;
    }
    answers
}

#[tokio::test]
async fn round_robin_gives_every_endpoint_its_exact_share() {
    let origins = named(&["a", "b", "c"]).await;
    // One worker: rotors are per worker.
    let gateway = Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [{{ address = \"{}\", weight = 2 }}, \"{}\", {{ address = \"{}\", weight = 0 }}]\n",
            origins[0].address(), origins[1].address(), origins[2].address()
        ),
        1,
    )
    .await;
    let answers = ask(&gateway, 30).await;
    assert_eq!(
        answers,
        BTreeMap::from([("a".to_owned(), 20), ("b".to_owned(), 10)])
    );
}

#[tokio::test]
async fn random_gives_every_endpoint_about_its_share() {
    let origins = named(&["a", "b"]).await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nbalance = \"random\"\nendpoints = [{{ address = \"{}\", weight = 3 }}, \"{}\"]\n",
        origins[0].address(), origins[1].address()
    ))
    .await;
    let answers = ask(&gateway, 1000).await;
    assert!((670..=830).contains(&answers["a"]), "{answers:?}");
}

#[tokio::test]
async fn least_request_avoids_an_endpoint_that_is_busy() {
    let slow = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.hold().await;
        }
    })
    .await;
    let quick = Origin::text("quick").await;
    let gateway = Gateway::start(
        &format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nbalance = \"least-request\"\nendpoints = [\"{}\", \"{}\"]\n",
            slow.address(), quick.address()
        ),
        1,
    )
    .await;
    // Occupies the slow one; both are idle now, so either may be tried first.
    let mut waiting = Vec::new();
    while slow.requests().is_empty() {
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        becomes("somebody has the request", true, || {
            !slow.requests().is_empty() || quick.requests().len() > waiting.len()
        })
        .await;
        waiting.push(client);
    }
    let answers = ask(&gateway, 50).await;
    assert_eq!(answers, BTreeMap::from([("quick".to_owned(), 50)]));
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let origin = Origin::text("by name").await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"localhost:{}\"]\n",
        origin.address().port()
    ))
    .await;
    let reply = sluice_tests::eventually::within("the name is resolved", async {
        loop {
            let reply = gateway.get("a", "/").await;
            if reply.status == 200 {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(reply.text(), "by name");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_named_with_the_word_connect() {
    let (closed, _guard) = origin::closed_port();
    let gateway = gateway(&format!("[routes.r]\nto = \"{closed}\"\n")).await;
    let reply = gateway.get("a", "/").await;
    assert_eq!(reply.status, 502);
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "connect");
    assert_eq!(line["endpoint"], closed.to_string());
    assert_eq!(line["attempts"], 1, "an endpoint was tried");
}

#[tokio::test]
async fn an_origin_on_a_unix_socket_is_an_endpoint_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("origin.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let tasks = sluice_gateway::drain::Tasks::new();
    tasks.spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            if stream.read(&mut buffer).await.is_ok() {
                stream
                    .write_all(&origin::ok("unix"))
                    .await
                    .unwrap_or_default();
            }
        }
    });
    let gateway = gateway(&format!("[routes.r]\nto = \"unix:{}\"\n", path.display())).await;
    assert_eq!(gateway.get("a", "/").await.text(), "unix");
    tasks.abort();
}

#[tokio::test]
async fn a_ring_gives_a_client_the_same_endpoint_every_time() {
    let origins = named(&["a", "b", "c"]).await;
    let config = |origins: &[Origin]| {
        let endpoints: Vec<_> = origins.iter().map(|it| it.address().to_string()).collect();
        format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
             [routes.r]\nto = \"u\"\n[upstreams.u]\nbalance = \"ring-hash\"\nendpoints = {endpoints:?}\n"
        )
    };
    let gateway = gateway(&config(&origins)).await;
    let ask = async || {
        let mut owners = BTreeMap::new();
        for client in 1..=40 {
            for _ in 0..3 {
                let head = format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{client}\r\n\r\n"
                );
                // Over connections of their own, so that any worker may take it.
                let owner = gateway.ask(head).await.text();
                let before = owners.insert(client, owner.clone());
                assert!(before.is_none_or(|before| before == owner), "{client}");
            }
        }
        owners
    };
    let before = ask().await;
    let used: std::collections::BTreeSet<_> = before.values().collect();
    assert_eq!(used.len(), 3, "{before:?}");
    gateway.reload(&config(&origins[1..])).await;
    let after = ask().await;
    for (client, owner) in before.iter().filter(|(_, owner)| *owner != "a") {
        assert_eq!(&after[client], owner, "{client}");
    }
}
