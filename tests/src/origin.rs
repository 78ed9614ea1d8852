//! Origins by hand: every byte they saw is kept, every byte they send is the test's own.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::{
    eventually::eventually,
    http1::{self, Message, Unfinished},
};

/// An origin: it accepts connections and gives each to its behaviour.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    seen: Seen,
    written: Arc<AtomicU64>,
    open: Arc<Open>,
    tasks: Tasks,
}

/// How many connections are open, and how many were at once.
#[derive(Debug, Default)]
struct Open {
    now: AtomicU64,
    most: AtomicU64,
}

/// What arrived, per connection in the order of acceptance.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

impl Origin {
    /// Starts an origin that behaves as told, once per connection.
    pub async fn start<F, Fut>(behave: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        Self::on(listener, behave)
    }

    /// As [`Origin::start`], on a socket that was bound before.
    pub fn on<F, Fut>(listener: TcpListener, behave: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("an address");
        let seen = Seen::default();
        let written = Arc::new(AtomicU64::new(0));
        let open = Arc::new(Open::default());
        let gauge = Arc::clone(&open);
        let tasks = Tasks::new();
        let (record, count, own) = (Arc::clone(&seen), Arc::clone(&written), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap_or_default();
                let number = {
                    let mut seen = record.lock();
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
                gauge.most.fetch_max(now, Ordering::Relaxed);
                own.spawn(behave(Peer {
                    stream,
                    number,
                    pending: Vec::new(),
                    seen: Arc::clone(&record),
                    written: Arc::clone(&count),
                    open: Arc::clone(&gauge),
                }));
            }
        });
        Self {
            address,
            seen,
            written,
            open,
            tasks,
        }
    }

    /// Answers every request with 200 and this text.
    pub async fn text(body: &str) -> Self {
        Self::raw(ok(body)).await
    }

    /// Answers every request with these bytes and keeps the connection.
    pub async fn raw(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = Arc::from(answer.into());
        Self::start(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move {
                while peer.request().await.is_some() {
                    peer.send(&answer).await;
                }
            }
        })
        .await
    }

    /// Answers every request with the request itself, head and body as they arrived.
    pub async fn echo() -> Self {
        Self::start(|mut peer| async move {
            while let Some(request) = peer.request().await {
                peer.send(ok(&String::from_utf8_lossy(&request.raw))).await;
            }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every byte it saw, per connection.
    pub fn saw(&self) -> Vec<Vec<u8>> {
        self.seen.lock().clone()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.seen.lock().len()
    }

    /// How many connections are open.
    pub fn open_now(&self) -> u64 {
        self.open.now.load(Ordering::Relaxed)
    }

    /// How many connections were open at the same time.
    pub fn most_at_once(&self) -> u64 {
        self.open.most.load(Ordering::Relaxed)
    }

    /// Every complete request it saw, connection by connection.
    pub fn requests(&self) -> Vec<Message> {
        self.saw()
            .iter()
            .flat_map(|bytes| http1::requests(bytes).0)
            .collect()
    }

    /// Waits until it saw this many complete requests.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} requests at the origin"), || {
            Some(self.requests()).filter(|requests| requests.len() >= count)
        })
        .await
    }

    /// How many bytes the kernel took from it.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops at once: its connections are closed and its port refuses.
    pub async fn stop(self) {
        self.tasks.finish(Duration::ZERO).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// A connection that an origin accepted.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// 0 for the first connection of the origin.
    pub number: usize,
    pending: Vec<u8>,
    seen: Seen,
    written: Arc<AtomicU64>,
    open: Arc<Open>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.open.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    /// Reads one complete request. `None`: the gateway closed, or it sent what is no request with
    /// one framing.
    pub async fn request(&mut self) -> Option<Message> {
        loop {
            match http1::request(&self.pending) {
                Ok((message, used)) => {
                    self.pending.drain(..used);
                    return Some(message);
                }
                Err(Unfinished::Broken(_)) => {
                    self.hold().await;
                    return None;
                }
                Err(Unfinished::More) => {
                    if self.read().await == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// Reads the head of a request and leaves its body.
    pub async fn head(&mut self) -> Option<http1::Head> {
        loop {
            if let Ok(head) = http1::head(&self.pending) {
                self.pending.drain(..head.2);
                return Some(head);
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    /// Reads once; gives how many bytes came, 0 at the end.
    pub async fn read(&mut self) -> usize {
        let before = self.pending.len();
        let read = self.stream.read_buf(&mut self.pending).await.unwrap_or(0);
        if let Some(record) = self.seen.lock().get_mut(self.number) {
            record.extend_from_slice(&self.pending[before..]);
        }
        read
    }

    /// Reads and forgets until the gateway closes.
    pub async fn hold(&mut self) {
        while self.read().await > 0 {
            self.pending.clear();
        }
    }

    /// Takes everything that came, once it is at least that many bytes or the gateway closed.
    pub async fn take(&mut self, least: usize) -> Vec<u8> {
        while self.pending.len() < least && self.read().await > 0 {}
        std::mem::take(&mut self.pending)
    }

    /// Sends back what comes until the gateway closes its sending side, then closes ours.
    pub async fn echo(&mut self) {
        loop {
            let bytes = std::mem::take(&mut self.pending);
            if !self.send(bytes).await || self.read().await == 0 {
                break;
            }
        }
        self.finish().await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap_or_default();
    }

    /// Sends bytes; gives whether the gateway still took them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            match self.stream.write(rest).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => {
                    self.written.fetch_add(count as u64, Ordering::Relaxed);
                    rest = &rest[count..];
                }
            }
        }
        true
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap_or_default();
    }

    /// Keeps little in the kernel on the way to the gateway.
    pub fn narrow(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_send_buffer_size(4096).unwrap_or_default();
    }
}

/// A 200 with this text.
pub fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An address of this machine where nobody listens: the socket is bound but refuses, for as long as
/// the guard lives.
pub fn closed_port() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    (socket.local_addr().expect("an address"), socket)
}
