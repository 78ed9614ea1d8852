//! Socket sets: one per address, in each as many sockets as there are workers.
//!
//! All are bound here, before a worker serves. What is bound stays for the life of its address,
//! whatever else of its listener changes; names may swap addresses. Dropping a [`Bound`] that was
//! not handed out closes it, so a refused configuration leaves nothing behind.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use sluice_config::{
    Problem, Snapshot,
    model::{Bind, Listener},
    names::ListenerName,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What tells one set from another: the configured address. Port 0 is another port for each name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketKey {
    address: Bind,
    name: Option<ListenerName>,
}

impl SocketKey {
    /// The key of the set that `listener` accepts on.
    pub fn of(listener: &Listener) -> Self {
        Self {
            address: listener.address.clone(),
            name: (listener.address.port() == Some(0)).then(|| listener.name.clone()),
        }
    }
}

/// A set that was bound just now.
#[derive(Debug)]
pub struct Bound {
    /// Where, with the port that port 0 became.
    pub address: SocketAddr,
    /// One per worker; non-blocking.
    pub sockets: Vec<TcpListener>,
}

/// Every set of the process.
#[derive(Debug, Default)]
pub struct Sockets {
    bound: BTreeMap<SocketKey, SocketAddr>,
}

impl Sockets {
    /// Binds what `snapshot` needs and is not there. Nothing stays bound when something fails.
    pub fn bind(
        &self,
        snapshot: &Snapshot,
        workers: usize,
    ) -> Result<BTreeMap<SocketKey, Bound>, Vec<Problem>> {
        let mut fresh = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, listener) in &snapshot.listeners {
            let key = SocketKey::of(listener);
            if self.bound.contains_key(&key) || fresh.contains_key(&key) {
                continue;
            }
            let shared = listener.address.port();
            let shared = shared.is_some_and(|port| self.holds_port(port));
            match set(listener, workers, shared) {
                Ok(bound) => {
                    fresh.insert(key, bound);
                }
                Err(error) => problems.push(problem(name, &listener.address, &error)),
            }
        }
        if problems.is_empty() {
            Ok(fresh)
        } else {
            Err(problems)
        }
    }

    /// From now on these are the sets: those of before that `snapshot` still needs, and `fresh`.
    pub fn keep(&mut self, snapshot: &Snapshot, fresh: &BTreeMap<SocketKey, Bound>) {
        for (key, bound) in fresh {
            self.bound.insert(key.clone(), bound.address);
        }
        let needed: Vec<_> = snapshot
            .listeners
            .values()
            .map(|l| SocketKey::of(l))
            .collect();
        self.bound.retain(|key, _| needed.contains(key));
    }

    /// Where a listener accepts.
    pub fn address(&self, listener: &Listener) -> Option<SocketAddr> {
        self.bound.get(&SocketKey::of(listener)).copied()
    }

    fn holds_port(&self, port: u16) -> bool {
        self.bound.values().any(|bound| bound.port() == port)
    }
}

fn problem(name: &ListenerName, address: &Bind, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            Some("another process listens there; stop it, or choose another port")
        }
        io::ErrorKind::PermissionDenied => Some(
            "ports below 1024 need root, CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start",
        ),
        io::ErrorKind::AddrNotAvailable => Some("no interface of this machine has this address"),
        _ => None,
    };
    Problem {
        code: "bind",
        at: format!("listeners.{name}.address"),
        what: format!("{address} cannot be bound: {error}"),
        hint: hint.map(str::to_owned),
        witness: None,
        place: None,
    }
}

/// Binds one set.
fn set(listener: &Listener, workers: usize, shared_port: bool) -> io::Result<Bound> {
    let Bind::Socket(address) = listener.address else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    match set_at(address, workers, shared_port) {
        // Only for the listener that nobody wrote: whoever writes `[::]` wants IPv6.
        Err(_) if listener.implied && address.is_ipv6() => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            set_at(address, workers, shared_port)
        }
        result => result,
    }
}

fn set_at(address: SocketAddr, workers: usize, shared_port: bool) -> io::Result<Bound> {
    if address.port() != 0 && !shared_port {
        // With SO_REUSEPORT alone a second gateway of the same user would silently take half of
        // the connections. This one is closed before the set is bound.
        drop(socket(address, false)?);
    }
    let mut sockets = Vec::with_capacity(workers);
    let mut actual = address;
    for _ in 0..workers.max(1) {
        let socket = socket(actual, true)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        actual = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok(Bound {
        address: actual,
        sockets,
    })
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for the connections of the previous process to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
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
                .all(|s| s.local_addr().expect("bound") == bound.address)
        );
        assert_ne!(bound.address.port(), 0);
    }

    #[test]
    fn port_zero_is_stable_over_reloads_and_another_for_each_name() {
        let mut sockets = Sockets::default();
        let both = snapshot(&[("a", "127.0.0.1:0"), ("b", "127.0.0.1:0")]);
        let fresh = sockets.bind(&both, 1).expect("bound");
        sockets.keep(&both, &fresh);
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
}
