//! A client by hand: it sends what it is told to and reads one answer at a time.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    PATIENCE,
    http1::{self, Framing, Message, Unfinished},
};

/// A connection to a gateway.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: S,
    /// Read and not yet taken.
    pending: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 100 to 599.
    pub status: u16,
    /// The final response.
    pub message: Message,
    /// Interim responses before it, by status.
    pub interim: Vec<u16>,
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        self.message.text()
    }
}

/// How reading ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// The connection was closed after these bytes.
    Closed(Vec<u8>),
    /// The connection was reset.
    Reset,
    /// What came is no HTTP.
    Broken(String),
    /// Nothing came, and the connection stayed open.
    Silence,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the gateway accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Connects with a small receive buffer, so that the kernel holds little of what we do not read.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        let stream = socket.connect(address).await.expect("the gateway accepts");
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a local address")
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let socket = self.stream;
        socket.set_zero_linger().expect("SO_LINGER");
        drop(socket);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Speaks over `stream`.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// What carries it.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends bytes as they are. That the other side may be gone already is no failure of a test:
    /// what it answered before is.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await;
    }

    /// Sends bytes; gives whether they were accepted.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let writing = self.stream.write_all(bytes.as_ref());
        timeout(PATIENCE, writing)
            .await
            .expect("the gateway reads")
            .is_ok()
    }

    /// Sends bytes unless the gateway takes none for this long; gives whether all were accepted.
    /// What was accepted before cannot be told afterwards.
    pub async fn try_send_for(&mut self, bytes: impl AsRef<[u8]>, time: Duration) -> bool {
        let writing = self.stream.write_all(bytes.as_ref());
        timeout(time, writing)
            .await
            .is_ok_and(|written| written.is_ok())
    }

    /// Sends a request without a body and gives the answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        self.reply().await
    }

    /// The next answer; anything else fails the test.
    pub async fn reply(&mut self) -> Reply {
        match self.try_reply("GET").await {
            Ok(reply) => reply,
            Err(why) => panic!("no answer: {why:?}"),
        }
    }

    /// The next answer, to a request with `method`.
    pub async fn try_reply(&mut self, method: &str) -> Result<Reply, NoReply> {
        let mut interim = Vec::new();
        loop {
            let one = timeout(PATIENCE, self.one(method)).await;
            let (status, message) = one.unwrap_or(Err(NoReply::Silence))?;
            if status >= 200 || status == 101 {
                return Ok(Reply {
                    status,
                    message,
                    interim,
                });
            }
            interim.push(status);
        }
    }

    /// The next answer to a GET, if anything happens within this time.
    pub async fn try_reply_for(&mut self, time: Duration) -> Option<Result<Reply, NoReply>> {
        timeout(time, self.try_reply("GET")).await.ok()
    }

    async fn one(&mut self, method: &str) -> Result<(u16, Message), NoReply> {
        loop {
            match response(&self.pending, method) {
                Ok((status, message, used)) => {
                    self.pending.drain(..used);
                    return Ok((status, message));
                }
                Err((Unfinished::Broken(why), _)) => return Err(NoReply::Broken(why)),
                Err((Unfinished::More, until_close)) => match self.fill().await {
                    Ok(0) if until_close => {
                        let bytes = std::mem::take(&mut self.pending);
                        let whole = http1::message(&bytes, Framing::Close);
                        let (message, _) = whole.expect("the head was there");
                        return Ok((status(&message), message));
                    }
                    Ok(0) => return Err(NoReply::Closed(std::mem::take(&mut self.pending))),
                    Ok(_) => {}
                    Err(_) => return Err(NoReply::Reset),
                },
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        self.stream.read_buf(&mut self.pending).await
    }

    /// Waits until at least `wanted` bytes are there, then takes all of them.
    pub async fn read_at_least(&mut self, wanted: usize) -> Vec<u8> {
        while self.pending.len() < wanted {
            let read = timeout(PATIENCE, self.fill()).await.expect("bytes in time");
            assert_ne!(
                read.expect("bytes"),
                0,
                "closed after {} bytes",
                self.pending.len()
            );
        }
        std::mem::take(&mut self.pending)
    }

    /// Everything until the gateway closes; a reset counts as a close.
    pub async fn rest(&mut self) -> Vec<u8> {
        let all = async { while self.fill().await.is_ok_and(|read| read > 0) {} };
        timeout(PATIENCE, all).await.expect("the gateway closes");
        std::mem::take(&mut self.pending)
    }

    /// Whether nothing arrives and the connection stays open for this long.
    pub async fn quiet_for(&mut self, time: Duration) -> bool {
        self.pending.is_empty() && timeout(time, self.fill()).await.is_err()
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        // A gateway that closed first has nothing to be told.
        self.stream.shutdown().await.unwrap_or_default();
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }
}

fn status(message: &Message) -> u16 {
    message.second().parse().unwrap_or_default()
}

/// One response off the front of `bytes`. The flag of the failure: the body lasts until the close.
fn response(bytes: &[u8], method: &str) -> Result<(u16, Message, usize), (Unfinished, bool)> {
    let (start, headers, _) = http1::head(bytes).map_err(|why| (why, false))?;
    let code: u16 = start
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| {
            (
                Unfinished::Broken(format!("no status line: {start:?}")),
                false,
            )
        })?;
    let bodiless = code < 200 || code == 204 || code == 304 || method == "HEAD";
    let framing = if bodiless {
        Framing::None
    } else {
        http1::framing(&headers, Framing::Close).map_err(|why| (why, false))?
    };
    if framing == Framing::Close {
        return Err((Unfinished::More, true));
    }
    let (message, used) = http1::message(bytes, framing).map_err(|why| (why, false))?;
    Ok((code, message, used))
}
