//! Many datagrams per system call: what comes from clients, what goes on to endpoints, and what goes back.
//!
//! What must stay true: there is room for the largest datagram in every place, so that none is ever cut
//! off; what is held is bounded, and memory that no datagram has needed is never touched; a datagram
//! goes back from the address that its client spoke to.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    cmsg_space,
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
        recvmmsg, sendmsg,
    },
};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

/// Datagrams that are taken from a socket at once.
const BATCH: usize = 32;

/// The largest datagram there can be, and a little more (RFC 768: a length of 16 bits).
const ROOM: usize = 1 << 16;

/// Datagrams from clients.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
    arrived: Vec<Arrival>,
}

/// One datagram, whose bytes are where the inbox says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// As the socket knows it.
    pub(super) client: SocketAddr,
    /// Which of our addresses it was sent to, where the socket has more than one.
    pub(super) local: Option<IpAddr>,
    length: usize,
}

impl Arrival {
    /// Whether both are between the same two addresses.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.client, self.local) == (other.client, other.local)
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        let space = cmsg_space!(in6_pktinfo);
        Self {
            // Zeroes come from the system page by page: what is never written to costs nothing.
            buffer: vec![0; BATCH.saturating_mul(ROOM)],
            headers: MultiHeaders::preallocate(BATCH, Some(space)),
            arrived: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what waits in `socket`, and says whether that was all. Never waits.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<bool> {
        self.arrived.clear();
        let mut places = self.buffer.chunks_exact_mut(ROOM);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let all = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None)?;
        self.arrived.extend(all.map(|message| arrival(&message)));
        Ok(self.arrived.len() < BATCH)
    }

    /// What was taken last, each with its bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arrival, &[u8])> {
        let places = self.buffer.chunks_exact(ROOM);
        let all = self.arrived.iter().zip(places);
        all.map(|(arrival, place)| (arrival, place.get(..arrival.length).unwrap_or_default()))
    }
}

fn arrival(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Arrival {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut controls = message.cmsgs().into_iter().flatten();
    Arrival {
        client: message.address.as_ref().and_then(address).unwrap_or(nobody),
        local: controls.find_map(|control| local(&control)),
        length: message.bytes,
    }
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|it| SocketAddrV4::from(*it).into());
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|it| SocketAddrV6::from(*it).into())
    })
}

/// The address of ours that a datagram was sent to; for one to a group, the one that answers.
fn local(control: &ControlMessageOwned) -> Option<IpAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Datagrams to clients that wait to go out together.
#[derive(Debug)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    waiting: Vec<Departure>,
    /// How many of those that wait have gone out.
    gone: usize,
}

#[derive(Debug, Clone, Copy)]
struct Departure {
    to: SocketAddr,
    from: Option<IpAddr>,
    length: usize,
}

/// What became of the datagrams in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// They have gone out, but for so many that the system refused.
    All(u64),
    /// The socket takes no more for now.
    Blocked(u64),
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BATCH.saturating_mul(ROOM)],
            waiting: Vec::with_capacity(BATCH),
            gone: 0,
        }
    }

    /// Room for one more datagram, unless it is full.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        self.buffer.chunks_exact_mut(ROOM).nth(self.waiting.len())
    }

    /// What was put into the room last, `length` bytes, is to go out.
    pub(super) fn push(&mut self, length: usize, to: SocketAddr, from: Option<IpAddr>) {
        self.waiting.push(Departure { to, from, length });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits.
    pub(super) fn send(&mut self, socket: &(impl AsFd + AsRawFd)) -> Sent {
        let mut refused = 0_u64;
        while self.gone < self.waiting.len() {
            let gone = match self.depart(socket) {
                Ok(gone) => gone,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Sent::Blocked(refused);
                }
                Err(_) => {
                    // What stands behind the one that was refused is tried by itself.
                    refused = refused.saturating_add(1);
                    1
                }
            };
            self.gone = self.gone.saturating_add(gone);
        }
        self.waiting.clear();
        self.gone = 0;
        Sent::All(refused)
    }

    /// Sends what is next, and as much of the rest as goes with it. Gives how many that were.
    fn depart(&self, socket: &(impl AsFd + AsRawFd)) -> io::Result<usize> {
        let places = self.buffer.chunks_exact(ROOM);
        let all = self.waiting.iter().zip(places).skip(self.gone);
        let mut all = all.map(|(it, place)| (it, place.get(..it.length).unwrap_or_default()));
        let Some((first, bytes)) = all.next() else {
            return Ok(0);
        };
        // Nobody has to say where they leave from on a socket with one address.
        let plain = |it: &(&Departure, &[u8])| it.0.from.is_none();
        let rest: Vec<_> = match first.from {
            None => all.take_while(plain).collect(),
            Some(_) => Vec::new(),
        };
        if rest.is_empty() {
            return depart(socket, first, bytes).map(|()| 1);
        }
        let run = || [(first, bytes)].into_iter().chain(rest.iter().copied());
        let to: Vec<_> = run().map(|(it, _)| SocketAddrAny::from(it.to)).collect();
        let parts: Vec<_> = run().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
        let mut controls: Vec<_> = run().map(|_| SendAncillaryBuffer::default()).collect();
        let messages = to.iter().zip(&parts).zip(&mut controls);
        let messages = messages.map(|((to, parts), none)| MMsgHdr::new_with_addr(to, parts, none));
        let mut messages: Vec<_> = messages.collect();
        Ok(sendmmsg(socket, &mut messages, SendFlags::DONTWAIT)?)
    }
}

/// Sends several datagrams to the endpoint that `socket` is connected to; gives how many went out, which is
/// at least one.
pub(super) fn pass_on(socket: &UdpSocket, run: &[&[u8]]) -> io::Result<usize> {
    let parts: Vec<_> = run.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
    let mut controls: Vec<_> = run.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let messages = parts.iter().zip(&mut controls);
    let messages = messages.map(|(parts, none)| MMsgHdr::new(parts, none));
    let mut messages: Vec<_> = messages.collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::DONTWAIT)?)
}

fn depart(socket: &impl AsRawFd, departure: &Departure, bytes: &[u8]) -> io::Result<()> {
    let (fd, bytes) = (socket.as_raw_fd(), [IoSlice::new(bytes)]);
    let to = SockaddrStorage::from(departure.to);
    let send = |controls: &[ControlMessage<'_>]| {
        sendmsg(fd, &bytes, controls, MsgFlags::MSG_DONTWAIT, Some(&to))
    };
    match (departure.from, departure.to) {
        (None, _) => send(&[]),
        (Some(IpAddr::V4(from)), SocketAddr::V4(_)) => {
            let own = in_addr {
                s_addr: u32::from_ne_bytes(from.octets()),
            };
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: own,
                ipi_addr: own,
            };
            send(&[ControlMessage::Ipv4PacketInfo(&info)])
        }
        // A socket for both families speaks of IPv4 in addresses of IPv6.
        (Some(from), _) => {
            let own = match from {
                IpAddr::V4(from) => from.to_ipv6_mapped(),
                IpAddr::V6(from) => from,
            };
            let own = in6_addr {
                s6_addr: own.octets(),
            };
            let info = in6_pktinfo {
                ipi6_addr: own,
                ipi6_ifindex: 0,
            };
            send(&[ControlMessage::Ipv6PacketInfo(&info)])
        }
    }
    .map(drop)
    .map_err(io::Error::from)
}

/// What an endpoint answered: its length, in `room`. Never waits.
pub(super) fn answer(socket: &UdpSocket, room: &mut [u8]) -> io::Result<usize> {
    socket.recv(room)
}
