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
