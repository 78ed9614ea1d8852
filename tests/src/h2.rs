//! An HTTP/2 client by hand: it sends the frames it is given, whatever they are, and keeps account of
//! what comes back.
//!
//! It reads while it writes, so that a flood ends when the gateway ends it and not when both sides
//! wait for each other. Unless told otherwise it is polite: it acknowledges settings and pings, and
//! gives back every window it uses.

pub mod wire;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use fluke_hpack::Decoder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use crate::PATIENCE;
use wire::{flag, kind};

/// What the gateway sent so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Per stream.
    pub streams: BTreeMap<u32, Exchange>,
    /// The error code of the last GOAWAY, and the last stream it names.
    pub goaway: Option<(u32, u32)>,
    /// The connection ended, by whatever means.
    pub closed: bool,
    /// Every setting, in the order of arrival.
    pub settings: Vec<(u16, u32)>,
    /// Acknowledged pings.
    pub pongs: usize,
    /// Acknowledged settings.
    pub settings_acks: usize,
    /// All frames.
    pub frames: usize,
}

/// What came on one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The status of the final response, 0 before it.
    pub status: u16,
    /// Interim responses before it, by status.
    pub interim: Vec<u16>,
    /// The fields of the final response, pseudo-headers too.
    pub headers: Vec<(String, String)>,
    /// The body so far.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// The response is complete.
    pub ended: bool,
    /// It was reset with this code.
    pub reset: Option<u32>,
}

impl Exchange {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A complete response.
    Answer(Exchange),
    /// It was reset with this code before its response was complete.
    Reset(u32),
    /// The connection ended: with this code in a GOAWAY, if there was one.
    Gone(Option<u32>),
    /// None of these in time.
    Silence,
}

impl Outcome {
    /// The status, when there is a complete response.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(exchange) => Some(exchange.status),
            _ => None,
        }
    }
}

/// A connection.
pub struct H2 {
    stream: TcpStream,
    pending: Vec<u8>,
    decoder: Decoder<'static>,
    /// The beginning of a header block: its stream, whether the stream ends with it, and the block.
    block: Option<(u32, bool, Vec<u8>)>,
    owed: Vec<u8>,
    /// Whether settings and pings are acknowledged.
    pub acknowledges: bool,
    /// Whether windows are given back.
    pub replenishes: bool,
    /// What came.
    pub seen: Seen,
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl From<TcpStream> for H2 {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            decoder: Decoder::new(),
            block: None,
            owed: Vec::new(),
            acknowledges: true,
            replenishes: true,
            seen: Seen::default(),
        }
    }
}

impl H2 {
    /// Connects and says nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await;
        let stream = stream.expect("the gateway accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self::from(stream)
    }

    /// Connects, with the preface and settings as they are by default.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &[]).await
    }

    /// Connects, with the preface and these settings.
    pub async fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(address).await;
        client.open(settings).await;
        client
    }

    /// As [`H2::with`], with a small receive buffer, so that the kernel holds little of what we do
    /// not read.
    pub async fn narrow(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        let stream = socket.connect(address).await.expect("the gateway accepts");
        let mut client = Self::from(stream);
        client.open(settings).await;
        client
    }

    async fn open(&mut self, settings: &[(u16, u32)]) {
        let opening = [wire::PREFACE, &wire::settings(settings)].concat();
        self.send(opening).await;
    }

    /// Sends bytes as they are; gives whether the gateway took them all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = bytes.as_ref();
        while !rest.is_empty() && !self.seen.closed {
            let (mut reading, mut writing) = self.stream.split();
            let sent = tokio::select! {
                biased;
                sent = writing.write(rest) => sent.unwrap_or_default(),
                read = reading.read_buf(&mut self.pending) => {
                    self.arrived(read.unwrap_or_default());
                    continue;
                }
                () = tokio::time::sleep_until(deadline) => panic!("the gateway reads no more"),
            };
            // Whatever it said before it closed is still to be read.
            if sent == 0 {
                return false;
            }
            rest = &rest[sent..];
        }
        rest.is_empty()
    }

    /// Sends bytes and reads nothing meanwhile; false when they were not taken in this time.
    pub async fn send_blindly(&mut self, bytes: impl AsRef<[u8]>, time: Duration) -> bool {
        let writing = self.stream.write_all(bytes.as_ref());
        let written = tokio::time::timeout(time, writing).await;
        written.is_ok_and(|written| written.is_ok())
    }

    /// A request without a body, and what became of it.
    pub async fn get(&mut self, stream: u32, path: &str) -> Outcome {
        self.send(wire::request(stream, &wire::get(path))).await;
        self.outcome(stream).await
    }

    /// What becomes of a stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let decided = |seen: &Seen| {
            let over = seen.streams.get(&stream);
            let over = over.is_some_and(|it| it.ended || it.reset.is_some());
            over || seen.closed
        };
        self.until(PATIENCE, decided).await;
        let exchange = self.seen.streams.get(&stream).cloned().unwrap_or_default();
        match (exchange.reset, &self.seen) {
            // After a complete response, "no error" only says that nobody wants the request's rest.
            _ if exchange.ended => Outcome::Answer(exchange),
            (Some(code), _) => Outcome::Reset(code),
            (None, seen) if seen.closed => Outcome::Gone(seen.goaway.map(|(code, _)| code)),
            (None, _) => Outcome::Silence,
        }
    }

    /// Waits for the end of the connection; gives the code of its GOAWAY, if there was one.
    pub async fn end(&mut self) -> Outcome {
        if self.until(PATIENCE, |seen| seen.closed).await {
            Outcome::Gone(self.seen.goaway.map(|(code, _)| code))
        } else {
            Outcome::Silence
        }
    }

    /// Whether the connection still answers a ping. Nothing that was sent before is under way then.
    pub async fn lives(&mut self) -> bool {
        let before = self.seen.pongs;
        self.send(wire::ping(*b"areyouup")).await;
        self.until(PATIENCE, |seen| seen.pongs > before || seen.closed)
            .await;
        self.seen.pongs > before && !self.seen.closed
    }

    /// Reads until `enough`, or for this long; gives whether it was.
    pub async fn until(&mut self, time: Duration, enough: impl Fn(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + time;
        while !enough(&self.seen) {
            if self.seen.closed {
                return false;
            }
            if !self.owed.is_empty() {
                let owed = std::mem::take(&mut self.owed);
                self.send(owed).await;
                continue;
            }
            let read = self.stream.read_buf(&mut self.pending);
            let Ok(read) = timeout_at(deadline, read).await else {
                return false;
            };
            self.arrived(read.unwrap_or_default());
        }
        true
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap_or_default();
    }

    fn arrived(&mut self, count: usize) {
        self.seen.closed = count == 0;
        while let Some(length) = self.pending.get(..3) {
            let length =
                usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if self.pending.len() < 9 + length {
                return;
            }
            let frame: Vec<u8> = self.pending.drain(..9 + length).collect();
            let stream = u32::from_be_bytes([frame[5] & 0x7f, frame[6], frame[7], frame[8]]);
            self.frame(frame[3], frame[4], stream, &frame[9..]);
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.seen.frames += 1;
        let ends = flags & flag::END_STREAM != 0;
        match kind {
            kind::DATA => {
                let exchange = self.seen.streams.entry(stream).or_default();
                exchange.body.extend_from_slice(payload);
                exchange.ended |= ends;
                let used = u32::try_from(payload.len()).expect("a frame");
                if self.replenishes && used > 0 {
                    self.owed.extend(wire::window(0, used));
                    if !ends {
                        self.owed.extend(wire::window(stream, used));
                    }
                }
            }
            kind::HEADERS => {
                self.block = Some((stream, ends, payload.to_vec()));
                self.fields(flags);
            }
            kind::CONTINUATION => {
                let (_, _, block) = self.block.as_mut().expect("a header block has begun");
                block.extend_from_slice(payload);
                self.fields(flags);
            }
            kind::RST_STREAM => {
                let exchange = self.seen.streams.entry(stream).or_default();
                exchange.reset = Some(number(payload));
            }
            kind::SETTINGS if flags & flag::ACK != 0 => self.seen.settings_acks += 1,
            kind::SETTINGS => {
                for entry in payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([entry[0], entry[1]]);
                    self.seen.settings.push((name, number(&entry[2..])));
                }
                if self.acknowledges {
                    self.owed.extend(wire::settings_ack());
                }
            }
            kind::PING if flags & flag::ACK != 0 => self.seen.pongs += 1,
            kind::PING if self.acknowledges => {
                self.owed
                    .extend(wire::frame(kind::PING, flag::ACK, 0, payload));
            }
            kind::GOAWAY => self.seen.goaway = Some((number(&payload[4..]), number(payload))),
            _ => {}
        }
    }

    /// Decodes the header block if this was the last piece of it.
    fn fields(&mut self, flags: u8) {
        if flags & flag::END_HEADERS == 0 {
            return;
        }
        let Some((stream, ends, block)) = self.block.take() else {
            return;
        };
        let fields = self.decoder.decode(&block);
        let fields = fields.expect("a header block of the gateway is well formed");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fields: Vec<_> = fields
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let exchange = self.seen.streams.entry(stream).or_default();
        exchange.ended |= ends;
        let status = fields.first().filter(|(name, _)| name == ":status");
        match status.and_then(|(_, value)| value.parse().ok()) {
            Some(status @ 100..=199) => exchange.interim.push(status),
            Some(status) => {
                exchange.status = status;
                exchange.headers = fields;
            }
            None => exchange.trailers = fields,
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    let four = bytes.first_chunk().copied().unwrap_or_default();
    u32::from_be_bytes(four)
}
