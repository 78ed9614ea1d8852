//! Memory: above its bound the process refuses new work, and takes it again by itself.

use std::time::Duration;

use sluice_tests::{
    Client, PATIENCE,
    h2::{H2, Outcome},
    process::Sluice,
};
use tokio::time::{sleep, timeout};

/// Far more than a head may have by default, so that a few clients can hold much memory.
const HEAD: usize = 1 << 20;

fn config(memory: &str) -> String {
    format!(
        "[process]\nstate_directory = \"state\"\nworkers = 1\nmemory = \"{memory}\"\n\
         [listeners.web]\naddress = \"{{address}}\"\nlimits = {{ head = \"1MiB\" }}\n\
         [access_log]\noutput = {{ file = \"access.jsonl\" }}\n[routes.r]\nrespond = {{ body = \"ok\" }}\n"
    )
}

/// Resident bytes.
fn resident(id: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{id}/statm")).expect("it runs");
    let pages = statm.split(' ').nth(1).expect("a second number");
    pages.parse::<u64>().expect("a number") * 4096
}

/// What the gateway holds when it has nothing to do.
async fn at_rest() -> u64 {
    let gateway = Sluice::run(&config("off")).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.text(), "ok");
    resident(gateway.id())
}

/// Clients that sent most of a large head.
async fn hogs(gateway: &Sluice, count: usize) -> Vec<Client> {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}",
        "x".repeat(HEAD * 3 / 4)
    );
    let mut hogs = Vec::new();
    for _ in 0..count {
        let mut hog = gateway.connect().await;
        // Once memory is short nobody reads it.
        let _taken = hog.try_send_for(&head, Duration::from_millis(500)).await;
        hogs.push(hog);
    }
    hogs
}

#[tokio::test]
async fn above_the_bound_of_memory_new_work_is_refused_until_there_is_less() {
    let bound = at_rest().await + (12 << 20);
    let gateway = Sluice::run(&config(&format!("{bound}B"))).await;
    let mut kept = gateway.connect().await;
    let mut call = gateway.connect().await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");
    assert_eq!(call.get("a", "/").await.text(), "ok");

    let mut streams = H2::connect(gateway.address()).await;
    assert_eq!(streams.get(1, "/").await.status(), Some(200));

    let hogs = hogs(&gateway, 32).await;
    gateway.says("too much memory").await;
    let refused = kept.get("a", "/").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(kept.rest().await.is_empty(), "the connection is closed");
    call.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let refused = call.reply().await;
    assert_eq!(refused.header("grpc-status"), Some("14"));
    assert_eq!(
        refused.header("grpc-message"),
        Some("Service Unavailable (overloaded)")
    );
    assert_eq!(streams.get(3, "/").await.status(), Some(503));
    assert_eq!(
        streams.end().await,
        Outcome::Gone(Some(0)),
        "the client is told to go"
    );
    let mut fresh = gateway.connect().await;
    assert!(fresh.rest().await.is_empty(), "nobody new is let in");
    assert_eq!(
        gateway.log().wait(6).await[3]["verdict"].as_str(),
        Some("overloaded")
    );

    drop(hogs);
    gateway.says("enough memory again").await;
    let served = async {
        loop {
            let mut client = gateway.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            match client.try_reply("GET").await {
                Ok(reply) if reply.status == 200 => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, served).await.expect("it serves again");
}
