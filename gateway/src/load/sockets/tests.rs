//! Sets that are bound, kept and refused.

use std::sync::Arc;

use sluice_config::Objects;

use super::*;

fn snapshot(listeners: &[(&str, &str)]) -> Snapshot {
    let mut objects = Objects::default();
    for (name, address) in listeners {
        let name = ListenerName::new(name).expect("a name");
        let listener = Listener::new(name.clone(), address.parse().expect("an address"));
        objects.listeners.insert(name, Arc::new(listener));
    }
    Snapshot::seal(objects)
}

/// Where a socket accepts.
fn local(socket: &Listening) -> Option<Bind> {
    match socket {
        Listening::Tcp(socket) => socket.local_addr().ok().map(Bind::from),
        Listening::Unix(_) => None,
    }
}

#[test]
fn a_set_has_one_socket_per_worker_on_one_port() {
    let sockets = Sockets::default();
    let fresh = sockets
        .bind(&snapshot(&[("web", "127.0.0.1:0")]), 3)
        .expect("bound");
    let bound = fresh.values().next().expect("one set");

    assert_eq!(bound.sockets.len(), 3);
    assert!(
        bound
            .sockets
            .iter()
            .all(|s| local(s).expect("bound") == bound.address)
    );
    assert_ne!(bound.address.port(), Some(0));
}

#[test]
fn port_zero_is_stable_over_reloads_and_another_for_each_name() {
    let mut sockets = Sockets::default();
    let both = snapshot(&[("a", "127.0.0.1:0"), ("b", "127.0.0.1:0")]);
    let mut fresh = sockets.bind(&both, 1).expect("bound");
    sockets.keep(&both, &mut fresh);
    let of = |sockets: &Sockets, name: &str| {
        let name = ListenerName::new(name).expect("a name");
        sockets.address(both.listeners.get(&name).expect("there"))
    };

    assert_ne!(of(&sockets, "a"), of(&sockets, "b"));
    assert!(sockets.bind(&both, 1).expect("bound").is_empty());
}

#[test]
fn an_address_in_use_is_a_problem_and_leaves_nothing_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let free = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (taken_at, free_at) = (
        taken.local_addr().expect("it"),
        free.local_addr().expect("it"),
    );
    drop(free);

    let problems = Sockets::default()
        .bind(
            &snapshot(&[
                ("good", &free_at.to_string()),
                ("late", &taken_at.to_string()),
            ]),
            2,
        )
        .expect_err("refused");

    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].at, "listeners.late.address");
    assert_eq!(problems[0].code, "bind");
    TcpListener::bind(free_at).expect("free again");
}

#[test]
fn of_several_that_want_a_path_at_once_one_gets_it_and_keeps_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.sock");
    for round in 0..200 {
        // Somebody has died here.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let start = std::sync::Barrier::new(4);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                file::bind(&path, 0o600, 8)
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            all.into_iter()
                .map(|it| it.join().expect("no panic"))
                .collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        let refused = |it: &io::Result<_>| {
            it.as_ref()
                .is_err_and(|it| it.kind() == io::ErrorKind::AddrInUse)
        };
        assert!(lost.iter().all(refused), "round {round}: {lost:?}");
        let client = std::os::unix::net::UnixStream::connect(&path);
        client.expect("the one that has it is reached there");
        drop(won);
        assert!(!path.exists(), "round {round}");
    }
}
