//! The sockets that datagrams to one address come in by: one per worker, bound together.
//!
//! The system keeps what one client sends to one of our addresses on one socket, as long as the set has
//! as many. So it never changes size, and it lives until the last session that came in by it is over.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::sys::socket::{setsockopt, sockopt};
use parking_lot::Mutex;
use sluice_config::model::ListenerSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::stream::{Family, Options, Unset};

/// Bytes of datagrams that may wait in a socket before a worker takes them; the system caps it at
/// `net.core.rmem_max`.
const WAITING: usize = 1 << 20;

/// The sockets of one address.
#[derive(Debug)]
pub struct DatagramSet {
    address: SocketAddr,
    sockets: Vec<UdpSocket>,
    /// Sessions of all workers.
    sessions: AtomicUsize,
    options: Mutex<Options>,
}

impl DatagramSet {
    /// Binds a socket per worker. `ours` says that another set of this process has the port already,
    /// at another address.
    pub fn bind(
        address: SocketAddr,
        ipv6_only: bool,
        workers: usize,
        ours: bool,
    ) -> io::Result<Self> {
        if address.port() != 0 && !ours {
            // With SO_REUSEPORT alone a second gateway of the same user would silently take half of
            // the clients. This one is closed before the set is bound.
            drop(socket(address, ipv6_only, false)?);
        }
        let mut sockets = Vec::with_capacity(workers);
        let mut actual = address;
        for _ in 0..workers.max(1) {
            let socket = socket(actual, ipv6_only, true)?;
            actual = socket.local_addr()?;
            sockets.push(socket);
        }
        Ok(Self {
            address: actual,
            sockets,
            sessions: AtomicUsize::new(0),
            options: Mutex::default(),
        })
    }

    /// Has its sockets as `settings` say.
    pub fn settle(&self, settings: &ListenerSocket) -> Result<(), Unset> {
        let mut known = self.options.lock();
        let next = Options::from(settings).of_datagrams();
        let family = Family::of(self.address);
        for socket in &self.sockets {
            known.change(next, socket, family)?;
        }
        *known = next;
        Ok(())
    }

    /// Where, with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// That of a worker.
    pub(super) fn socket(&self, worker: usize) -> Option<&UdpSocket> {
        self.sockets.get(worker)
    }

    pub(super) fn opened(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no worker has a session.
    pub(super) fn is_idle(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) == 0
    }
}

fn socket(address: SocketAddr, ipv6_only: bool, reuse_port: bool) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_recv_buffer_size(WAITING)?;
    if address.is_ipv6() {
        socket.set_only_v6(ipv6_only)?;
    }
    if address.ip().is_unspecified() {
        // Before it is bound: every datagram tells where it was sent to, and is answered from there.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
