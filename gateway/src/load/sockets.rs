//! Socket sets: one per address, in each as many sockets as there are workers.
//!
//! All are bound here, before a worker serves. What is bound stays for the life of its address,
//! whatever else of its listener changes; names may swap addresses. Dropping a [`Bound`] that was
//! not handed out closes it, so a refused configuration leaves nothing behind.

mod file;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use sluice_config::{
    Problem, Snapshot,
    model::{self, Bind, Listener, ListenerSocket, UpstreamSocket},
    names::ListenerName,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    listener::Listening,
    stream::{Family, Options, Unset},
};

use file::SocketFile;

/// What tells one set from another: the configured address, and what cannot be changed once it is bound.
/// Port 0 is another port for each name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketKey {
    /// Connections and datagrams have ports of their own.
    datagrams: bool,
    address: Bind,
    ipv6_only: bool,
    name: Option<ListenerName>,
}

impl SocketKey {
    /// The key of the set that `listener` accepts on.
    pub fn of(listener: &Listener) -> Self {
        Self {
            datagrams: listener.protocol == model::Protocol::Udp,
            address: listener.address.clone(),
            ipv6_only: listener.socket.ipv6_only,
            name: (listener.address.port() == Some(0)).then(|| listener.name.clone()),
        }
    }
}

/// A set that was bound just now.
#[derive(Debug)]
pub struct Bound {
    /// Where, with the port that port 0 became.
    pub address: Bind,
    /// One per worker.
    pub sockets: Vec<Listening>,
    /// That of a unix socket, until it is handed out.
    file: Option<SocketFile>,
}

/// A set that is served.
#[derive(Debug)]
struct Served {
    address: Bind,
    settings: ListenerSocket,
    /// Gone with it: whoever comes then finds nobody, instead of waiting for nothing.
    file: Option<SocketFile>,
}

/// Every set of the process.
#[derive(Debug, Default)]
pub struct Sockets {
    bound: BTreeMap<SocketKey, Served>,
}

impl Sockets {
    /// Binds what `snapshot` needs and is not there, and finds out whether the settings of the rest can be
    /// changed. Nothing stays bound when something fails.
    pub fn bind(
        &self,
        snapshot: &Snapshot,
        workers: usize,
    ) -> Result<BTreeMap<SocketKey, Bound>, Vec<Problem>> {
        let mut fresh = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, listener) in &snapshot.listeners {
            let key = SocketKey::of(listener);
            if key.datagrams {
                continue;
            }
            if let Some(served) = self.bound.get(&key) {
                if served.settings != listener.socket {
                    problems.extend(unset(
                        &format!("listeners.{name}.socket"),
                        &(&listener.socket).into(),
                    ));
                }
                continue;
            }
            if fresh.contains_key(&key) {
                continue;
            }
            match set(listener, workers, self.holds_port(listener.address.port())) {
                Ok(bound) => {
                    fresh.insert(key, bound);
                }
                Err(error) => problems.push(problem(name, &listener.address, &error)),
            }
        }
        for (name, upstream) in &snapshot.upstreams {
            problems.extend(unset(
                &format!("upstreams.{name}.socket"),
                &(&upstream.socket).into(),
            ));
        }
        let outward = UpstreamSocket {
            mark: snapshot.egress.as_ref().and_then(|egress| egress.mark),
            ..UpstreamSocket::default()
        };
        if outward.mark.is_some() {
            problems.extend(unset("egress", &(&outward).into()));
        }
        if problems.is_empty() {
            Ok(fresh)
        } else {
            Err(problems)
        }
    }

    /// From now on these are the sets: those of before that `snapshot` still needs, and `fresh`.
    pub fn keep(&mut self, snapshot: &Snapshot, fresh: &mut BTreeMap<SocketKey, Bound>) {
        let mut before = std::mem::take(&mut self.bound);
        for listener in snapshot.listeners.values() {
            let key = SocketKey::of(listener);
            let settings = listener.socket.clone();
            let served = if let Some(bound) = fresh.get_mut(&key) {
                Served {
                    address: bound.address.clone(),
                    settings,
                    file: bound.file.take(),
                }
            } else if let Some(served) = before.remove(&key) {
                if let Some(file) = &served.file {
                    file.permit(settings.mode);
                }
                Served { settings, ..served }
            } else {
                continue;
            };
            self.bound.insert(key, served);
        }
    }

    /// Where a listener accepts; a unix socket has no address.
    pub fn address(&self, listener: &Listener) -> Option<SocketAddr> {
        self.bound.get(&SocketKey::of(listener))?.address.socket()
    }

    fn holds_port(&self, port: Option<u16>) -> bool {
        port.is_some()
            && self
                .bound
                .values()
                .any(|bound| bound.address.port() == port)
    }
}

/// Why a set cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unbound {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{}: {}", .0, .0.source)]
    Option(#[from] Unset),
}

pub(super) fn problem(name: &ListenerName, address: &Bind, error: &Unbound) -> Problem {
    let kind = match error {
        Unbound::Io(error) => error.kind(),
        Unbound::Option(unset) => return refused(&format!("listeners.{name}.socket"), unset),
    };
    let hint = match (kind, address) {
        (io::ErrorKind::AddrInUse, Bind::Socket(_)) => {
            Some("another process listens there; stop it, or choose another port")
        }
        (io::ErrorKind::AddrInUse, Bind::Unix(_)) => {
            Some("another process listens there; stop it, or choose another path")
        }
        (io::ErrorKind::PermissionDenied, Bind::Socket(_)) => Some(
            "ports below 1024 need root, CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start",
        ),
        (io::ErrorKind::PermissionDenied, Bind::Unix(_)) => {
            Some("its directory has to be one that the gateway may write to")
        }
        (io::ErrorKind::NotFound, Bind::Unix(_)) => Some("its directory has to be there before"),
        (io::ErrorKind::AddrNotAvailable, _) => {
            Some("no interface of this machine has this address")
        }
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

fn refused(at: &str, unset: &Unset) -> Problem {
    let denied = unset.source.kind() == io::ErrorKind::PermissionDenied;
    let hint = denied.then(|| format!("{} needs CAP_NET_ADMIN", unset.option));
    Problem {
        code: "socket",
        at: format!("{at}.{}", unset.option),
        what: format!("{unset}: {}", unset.source),
        hint,
        witness: None,
        place: None,
    }
}

/// What of `options` this process may not set, found out on a socket that is for nothing else.
fn unset(at: &str, options: &Options) -> Option<Problem> {
    if *options == Options::default() {
        return None;
    }
    // Without a socket there is nothing to find out; whoever needs one says so.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).ok()?;
    let unset = Options::default().change(*options, &socket, Family::V4);
    unset.err().map(|unset| refused(at, &unset))
}

/// Binds one set.
fn set(listener: &Listener, workers: usize, shared_port: bool) -> Result<Bound, Unbound> {
    let address = match &listener.address {
        Bind::Unix(path) => return unix(path, &listener.socket, workers),
        Bind::Socket(address) => *address,
    };
    match set_at(address, &listener.socket, workers, shared_port) {
        // Only for the listener that nobody wrote: whoever writes `[::]` wants IPv6.
        Err(_) if listener.implied && address.is_ipv6() => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            set_at(address, &listener.socket, workers, shared_port)
        }
        result => result,
    }
}

fn set_at(
    address: SocketAddr,
    settings: &ListenerSocket,
    workers: usize,
    shared_port: bool,
) -> Result<Bound, Unbound> {
    if address.port() != 0 && !shared_port {
        // With SO_REUSEPORT alone a second gateway of the same user would silently take half of
        // the connections. This one is closed before the set is bound.
        drop(socket(address, settings, false)?);
    }
    let mut sockets = Vec::with_capacity(workers);
    let mut actual = address;
    for _ in 0..workers.max(1) {
        let socket = socket(actual, settings, true)?;
        socket.listen(backlog(settings))?;
        let listener = TcpListener::from(socket);
        actual = listener.local_addr()?;
        sockets.push(Listening::Tcp(listener));
    }
    Ok(Bound {
        address: actual.into(),
        sockets,
        file: None,
    })
}

/// One socket for all workers, since the file of a second one would take the place of the first.
fn unix(path: &Path, settings: &ListenerSocket, workers: usize) -> Result<Bound, Unbound> {
    let (socket, file) = file::bind(path, settings.mode, backlog(settings))?;
    let sockets = (0..workers.max(1)).map(|_| socket.try_clone().map(Listening::Unix));
    Ok(Bound {
        address: Bind::Unix(path.to_owned()),
        sockets: sockets.collect::<io::Result<_>>()?,
        file: Some(file),
    })
}

fn backlog(settings: &ListenerSocket) -> i32 {
    i32::try_from(settings.backlog).unwrap_or(i32::MAX)
}

fn socket(
    address: SocketAddr,
    settings: &ListenerSocket,
    reuse_port: bool,
) -> Result<Socket, Unbound> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for the connections of the previous process to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    let mut family = Family::V4;
    if address.is_ipv6() {
        family = Family::V6;
        socket.set_only_v6(settings.ipv6_only)?;
    }
    Options::default().change(settings.into(), &socket, family)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
