//! TCP Fast Open (RFC 7413): data with the first segment.

use std::{io, os::fd::AsFd};

use nix::{
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{setsockopt, sockopt::TcpFastOpenConnect},
};

sockopt_impl!(
    /// How many connections may wait whose first segment had data, before the client is known to exist.
    Queue,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    libc::c_int
);

/// Lets so many connections wait that sent data with their first segment; 0 for none.
pub fn listen(socket: &impl AsFd, queue: u32) -> io::Result<()> {
    let queue = libc::c_int::try_from(queue).unwrap_or(libc::c_int::MAX);
    Ok(setsockopt(socket, Queue, &queue)?)
}

/// Holds the first segment back until there is data for it, where the endpoint has agreed to that before.
/// Only for who speaks first: nothing is heard until something was said.
pub fn connect(socket: &impl AsFd) {
    // Where the system has it turned off, connections are made as ever.
    let _refused = setsockopt(socket, TcpFastOpenConnect, &true);
}
