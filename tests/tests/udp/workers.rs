//! Which workers have sessions, as the kernel tells it: each worker has one epoll for all of its own.

use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::Socket;

use super::*;

/// The descriptors of this process, the gateway's among them, that are connected to `endpoint`.
fn connected(endpoint: SocketAddr) -> BTreeSet<i32> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let numbers = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let connected = numbers.filter(|number| {
        let copy: Result<OwnedFd, _> = pidfd_getfd(&own, *number, PidfdGetfdFlags::empty());
        let peer = copy.map(|copy| Socket::from(copy).peer_addr());
        matches!(peer, Ok(Ok(peer)) if peer.as_socket() == Some(endpoint))
    });
    connected.collect()
}

/// How many of `sockets` each epoll of this process watches that watches any.
fn watched(sockets: &BTreeSet<i32>) -> Vec<usize> {
    let all = std::fs::read_dir("/proc/self/fdinfo").expect("descriptors");
    let counts = all.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
        let targets = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
        let numbers = targets.filter_map(|rest| rest.split_whitespace().next()?.parse().ok());
        let count = numbers.filter(|number| sockets.contains(number)).count();
        (count > 0).then_some(count)
    });
    counts.collect()
}

#[tokio::test]
async fn clients_are_spread_over_workers_and_stay_with_theirs() {
    let origin = Endpoint::echo().await;
    let gateway = Gateway::start(
        &config("udp = { idle_timeout = \"1m\" }", &[origin.address]),
        4,
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        let client = Client::to(place(&gateway)).await;
        assert_eq!(client.ask("hello").await, "hello");
        clients.push(client);
    }
    let shares = watched(&connected(origin.address));
    assert_eq!(shares.iter().sum::<usize>(), 64, "{shares:?}");
    assert_eq!(shares.len(), 4, "every worker has some: {shares:?}");
    assert!(shares.iter().all(|share| *share < 40), "{shares:?}");
    for client in &clients {
        assert_eq!(client.ask("again").await, "again");
    }
    assert_eq!(
        reading(&gateway).opened,
        64,
        "nobody has begun anew elsewhere"
    );
}
