//! A network inside the process: names instead of addresses, pipes instead of sockets.
//!
//! For tests with a paused clock, which real sockets do not allow.

use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// What each direction of a pipe holds before its writer has to wait.
const PIPE: usize = 64 * 1024;

/// How many connections may wait to be accepted.
const BACKLOG: usize = 1024;

/// Names that can be connected to. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<HashMap<Box<str>, mpsc::Sender<DuplexStream>>>>);

/// The accepting side of a name. Dropping it refuses further connections.
#[derive(Debug)]
pub struct MemoryListener(mpsc::Receiver<DuplexStream>);

impl MemoryNetwork {
    /// A network without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts connections to `name`, `host:port` as written in an endpoint's address.
    pub fn listen(&self, name: &str) -> MemoryListener {
        self.listen_with_backlog(name, BACKLOG)
    }

    /// As [`Self::listen`]; further connections wait once `backlog` (at least 1) are not accepted.
    pub fn listen_with_backlog(&self, name: &str, backlog: usize) -> MemoryListener {
        let (sender, receiver) = mpsc::channel(backlog.max(1));
        self.0.lock().insert(Box::from(name), sender);
        MemoryListener(receiver)
    }

    /// Connects to `name`; refused when nobody listens.
    pub async fn connect(&self, name: &str) -> io::Result<DuplexStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = self.0.lock().get(name).cloned().ok_or_else(refused)?;
        let (near, far) = duplex(PIPE);
        listener.send(far).await.map_err(|_| refused())?;
        Ok(near)
    }
}

impl MemoryListener {
    /// The next connection; nothing once the network is gone or the name is taken by another.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}
