//! The process is out of file descriptors: it neither spins nor forgets how to accept.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sluice_tests::{
    Client, Origin,
    eventually::eventually,
    origin::ok,
    process::{Sluice, free_ports},
};
use tokio::time::timeout;

fn config(reserve: usize, body: &str) -> String {
    format!(
        "[process]\nstate_directory = \"state\"\nworkers = 1\ndescriptor_reserve = {reserve}\n\
         [listeners.web]\naddress = \"{{address}}\"\n[access_log]\noutput = \"off\"\n\
         [routes.r]\nrespond = {{ body = \"{body}\" }}\n"
    )
}

/// Clock ticks of CPU that the process has used.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system")
}

fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd"))
        .expect("it runs")
        .count()
}

/// Lets the process have at most this many open files.
fn lower(id: u32, limit: usize) {
    let lowered = std::process::Command::new("prlimit")
        .args([
            "--pid",
            &id.to_string(),
            &format!("--nofile={limit}:{limit}"),
        ])
        .status();
    assert!(lowered.expect("prlimit runs").success());
}

/// The limits of open files, the lower one first.
fn limits(id: u32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).expect("it runs");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let numbers = line.expect("a line").split_whitespace().take(2);
    numbers.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_gateway_takes_all_the_descriptors_that_it_may() {
    let gateway = Sluice::run(&config(64, "ok")).await;
    let limits = limits(gateway.id());
    assert_eq!(limits[0], limits[1]);
}

#[tokio::test]
async fn a_reserve_of_descriptors_is_left_for_control_work() {
    const RESERVE: usize = 16;
    let gateway = Sluice::run(&config(RESERVE, "ok")).await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");
    let before = descriptors(gateway.id());
    let limit = before.max(RESERVE) + RESERVE + 4;
    lower(gateway.id(), limit);
    // Much longer than the gateway looks away.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..30 {
        clients.push(gateway.connect().await);
    }
    gateway.says("accepting pauses").await;
    let mut last = clients.pop().expect("the last one waits");
    let waits = timeout(Duration::from_secs(1), last.get("a", "/")).await;
    assert!(waits.is_err(), "there was no descriptor for it");
    let open = descriptors(gateway.id());
    // One connection is held, and looked at under a second number.
    assert!(
        open <= limit - RESERVE + 2,
        "{open} of {limit}, before {before}"
    );

    // Control work goes on: a file is read, another written.
    gateway.write_config(&config(RESERVE, "changed"));
    gateway.signal("HUP");
    eventually_says(&mut kept, "changed").await;

    drop(clients);
    let answer = timeout(Duration::from_secs(10), last.reply()).await;
    assert_eq!(answer.expect("it is accepted now").text(), "changed");
}

async fn eventually_says(client: &mut Client, body: &str) {
    let says = async {
        while client.get("a", "/").await.text() != body {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(sluice_tests::PATIENCE, says)
        .await
        .expect("the new configuration runs");
}

#[tokio::test]
async fn who_waits_for_a_descriptor_is_accepted_once_there_is_one() {
    let gateway = Sluice::run(&config(0, "ok")).await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");
    let limit = descriptors(gateway.id()) + 5;
    lower(gateway.id(), limit);

    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.connect().await);
    }
    gateway.says("accept failed").await;
    let before = ticks(gateway.id());
    let mut last = clients.pop().expect("the last one waits");
    let waits = timeout(Duration::from_secs(1), last.get("a", "/")).await;
    assert!(waits.is_err(), "there was no descriptor for it");
    let used = ticks(gateway.id()) - before;
    assert!(used < 30, "{used} ticks in a second: it spins");
    assert_eq!(
        kept.get("a", "/").await.text(),
        "ok",
        "others are served meanwhile"
    );

    drop(clients);
    let answer = timeout(Duration::from_secs(10), last.reply()).await;
    assert_eq!(answer.expect("it is accepted now").text(), "ok");
}

#[tokio::test]
async fn the_reserve_is_not_for_connections_to_endpoints_either() {
    const RESERVE: usize = 16;
    const CLIENTS: usize = 12;
    // So many connections to endpoints there is room for.
    const LEFT: usize = 4;
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.second() == "/hold" {
                peer.hold().await;
            }
            peer.send(ok("origin")).await;
        }
    })
    .await;
    let config = format!(
        "[process]\nstate_directory = \"state\"\nworkers = 1\ndescriptor_reserve = {RESERVE}\n\
         [listeners.web]\naddress = \"{{address}}\"\n[access_log]\noutput = {{ file = \"access.jsonl\" }}\n\
         [routes.r]\nto = \"{}\"\n[[routes.r.rules]]\nmatch = {{ path = \"/here\" }}\nrespond = {{ body = \"here\" }}\n",
        origin.address()
    );
    let admin = free_ports(2);
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let gateway = Sluice::start_with(
        Arc::new(tempfile::tempdir().expect("a folder")),
        address(admin + 1),
        &config,
        &["--admin", &format!("127.0.0.1:{admin}")],
    );
    gateway.accepts().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = gateway.connect().await;
        assert_eq!(client.get("a", "/here").await.text(), "here");
        clients.push(client);
    }
    let open = descriptors(gateway.id());
    assert!(open > RESERVE, "peers would have half of all otherwise");
    lower(gateway.id(), open + LEFT + RESERVE);
    // Much longer than the gateway looks away.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (mut held, mut refused) = (Vec::new(), Vec::new());
    while let Some(mut client) = clients.pop() {
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = tokio::select! {
            answer = client.reply() => answer,
            _ = origin.wait_for_requests(held.len() + 1) => {
                held.push(client);
                continue;
            }
        };
        assert_eq!(answer.status, 503, "nobody waits");
        assert_eq!(client.get("a", "/here").await.text(), "here");
        refused.push(client);
    }
    // What the gateway opened or closed on its own account meanwhile is one or two.
    assert!((LEFT - 2..LEFT + 2).contains(&held.len()), "{}", held.len());
    assert_eq!(
        origin.connections(),
        held.len(),
        "nobody was troubled in vain"
    );
    let line = gateway.log().wait_for("verdict", "no_descriptor").await;
    assert_eq!(line["status"], 503);
    assert_eq!(
        line["retry"],
        serde_json::Value::Null,
        "there was no attempt"
    );

    // Control work has descriptors.
    let mut asked = Client::connect(address(admin)).await;
    asked
        .send("GET /routes HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert_eq!(asked.reply().await.status, 200);
    drop(asked);

    // What a client gives back, a connection may take; then it is kept, and serves the next one.
    let mut last = refused.pop().expect("the last one");
    drop((held, refused));
    eventually("the clients are gone", || {
        (descriptors(gateway.id()) < open).then_some(())
    })
    .await;
    for _ in 0..2 {
        assert_eq!(last.get("a", "/").await.text(), "origin");
    }
}
