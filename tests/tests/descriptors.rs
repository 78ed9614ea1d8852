//! The process is out of file descriptors: it neither spins nor forgets how to accept.

use std::time::Duration;

use sluice_tests::{Client, process::Sluice};
use tokio::time::timeout;

const CONFIG: &str = "[process]\nstate_directory = \"state\"\nworkers = 1\n\
    [listeners.web]\naddress = \"{address}\"\n[access_log]\noutput = \"off\"\n\
    [routes.r]\nrespond = { body = \"ok\" }\n";

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

#[tokio::test]
async fn who_waits_for_a_descriptor_is_accepted_once_there_is_one() {
    let gateway = Sluice::run(CONFIG).await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.get("a", "/").await.text(), "ok");
    let limit = descriptors(gateway.id()) + 5;
    let lowered = std::process::Command::new("prlimit")
        .args([
            "--pid",
            &gateway.id().to_string(),
            &format!("--nofile={limit}"),
        ])
        .status();
    assert!(lowered.expect("prlimit runs").success());

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
