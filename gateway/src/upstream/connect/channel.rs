//! HTTP/2 connections: each carries many requests of its worker at a time.
//!
//! What must stay true: nothing is asked on a connection whose peer said goodbye or may be dead, and
//! its place in the budget is free only once its socket is closed.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{self, SendRequest},
};
use sluice_config::model;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, Sleep},
};

use super::{
    super::endpoints::{Endpoint, Introduction, Way},
    wire::{Line, Wire},
};
use crate::{
    drain::Tasks,
    stream::{Stream, WriteStall},
};

/// What of one response an endpoint may send ahead of its reader: what a reader that stopped costs.
/// Enough for 5 MB/s over a path of 50 ms.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The least for all responses on a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest head of a response, as RFC 9113 §6.5.2 counts.
const HEAD: u32 = 64 * 1024;

/// What of one request waits in the codec for its turn on the wire.
const SEND_BUFFER: usize = 64 * 1024;

type Codec = client::Connection<Wire, Bytes>;

/// A shared connection to an endpoint. Dropping it closes the socket once its streams are over.
pub(in crate::upstream) struct Channel {
    sender: SendRequest<Bytes>,
    pub(in crate::upstream) line: Rc<Line>,
    pub(in crate::upstream) endpoint: Arc<Endpoint>,
    /// What it began with.
    pub(in crate::upstream) header: Option<Introduction>,
    pub(in crate::upstream) born: Instant,
    /// Requests it has taken.
    pub(in crate::upstream) served: Cell<u64>,
    /// Requests under way.
    pub(in crate::upstream) open: Rc<Cell<usize>>,
    /// When the last of them ended.
    pub(in crate::upstream) idle_since: Cell<Instant>,
    /// It refused a stream though there was room; it is not asked until one of the others ends.
    pub(in crate::upstream) refusing: Cell<bool>,
    /// It takes no more requests.
    retired: Cell<bool>,
    most: usize,
    /// Its task looks up when this is dropped. Declared after the sender: what it finds counts.
    _alive: oneshot::Sender<()>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Channel");
        fields.field("endpoint", &self.endpoint.key);
        fields.field("open", &self.open).finish_non_exhaustive()
    }
}

impl Channel {
    /// Speaks HTTP/2 over `stream` and waits until the peer does too, however long that takes.
    /// `permit` is dropped once the socket is closed.
    pub(in crate::upstream) async fn new(
        stream: Stream,
        (endpoint, header): (Arc<Endpoint>, Option<Introduction>),
        model: &model::Upstream,
        permit: impl Sized + 'static,
        tasks: &Tasks,
    ) -> Result<Self, h2::Error> {
        let most = model.limits.streams;
        let line = Rc::new(Line::default());
        let stall = WriteStall::new(stream, model.timeouts.write_stall);
        let wire = Wire::strict(stall, Rc::clone(&line));
        let (sender, mut codec) = builder(most).handshake(wire).await?;
        poll_fn(|cx| greeted(&mut codec, cx)).await?;
        let open = Rc::new(Cell::new(0));
        let pulse = model
            .pool
            .ping
            .get()
            .and_then(|interval| Pulse::new(&mut codec, interval, Rc::clone(&open)));
        let (alive, dropped) = oneshot::channel::<()>();
        tasks.spawn_local(drive(permit, codec, pulse, dropped));
        let now = Instant::now();
        Ok(Self {
            sender,
            line,
            endpoint,
            header,
            born: now,
            served: Cell::new(0),
            open,
            idle_since: Cell::new(now),
            refusing: Cell::new(false),
            retired: Cell::new(false),
            most,
            _alive: alive,
        })
    }

    /// Who may use it.
    pub(in crate::upstream) fn way(&self) -> Way {
        Way {
            endpoint: self.endpoint.id,
            header: self.header.clone(),
        }
    }

    /// Whether anybody may come who can use it.
    pub(in crate::upstream) fn is_needed(&self) -> bool {
        self.header.as_ref().is_none_or(Introduction::is_needed)
    }

    /// How many requests it can carry at a time.
    pub(in crate::upstream) fn capacity(&self) -> usize {
        self.most.min(self.sender.current_max_send_streams())
    }

    /// Whether another request fits. Says nothing of whether the connection lives.
    pub(in crate::upstream) fn has_room(&self) -> bool {
        self.open.get() < self.capacity() && !self.refusing.get()
    }

    /// Whether the peer takes new requests, as far as is known.
    pub(in crate::upstream) fn is_ready(&self) -> bool {
        // There is nothing to wait for: the answer is there at once, and a failure stays.
        let mut cx = Context::from_waker(Waker::noop());
        let ready = self.sender.clone().poll_ready(&mut cx);
        !self.retired.get() && matches!(ready, Poll::Ready(Ok(())))
    }

    /// Lets what is under way finish, and takes nothing more.
    pub(in crate::upstream) fn retire(&self) {
        self.retired.set(true);
    }

    /// It refused a request.
    pub(in crate::upstream) fn refused(&self) {
        if self.open.get() > 1 {
            self.refusing.set(true);
        } else {
            // Nothing else is under way, so there is nothing to wait for.
            self.retire();
        }
    }

    /// What takes one request.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.served.set(self.served.get().saturating_add(1));
        self.sender.clone()
    }
}

fn builder(streams: usize) -> client::Builder {
    // One reader that stopped must not hold up the others, so there is room for all of them.
    let together = u32::try_from(streams).unwrap_or(u32::MAX);
    let together = together.saturating_mul(STREAM_WINDOW);
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(together.clamp(CONNECTION_WINDOW, i32::MAX.unsigned_abs()))
        .max_header_list_size(HEAD)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        // Nothing goes out before the peer has said how much it takes.
        .initial_max_send_streams(0);
    builder
}

/// Whether the peer's settings are here.
fn greeted(codec: &mut Codec, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
    match Pin::new(&mut *codec).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Error::from(h2::Reason::CONNECT_ERROR))),
        Poll::Pending if codec.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}

/// Runs a connection to its end.
async fn drive(
    permit: impl Sized + 'static,
    codec: Codec,
    pulse: Option<Pulse>,
    dropped: oneshot::Receiver<()>,
) {
    // Declared first, dropped last.
    let _permit = permit;
    let (mut codec, mut pulse, mut dropped) = (codec, pulse, Some(dropped));
    let outcome = poll_fn(|cx| {
        if let Some(waiting) = &mut dropped
            && Pin::new(waiting).poll(cx).is_ready()
        {
            dropped = None;
        }
        if let Some(pulse) = &mut pulse
            && pulse.poll(cx).is_ready()
        {
            return Poll::Ready(Err(h2::Error::from(h2::Reason::SETTINGS_TIMEOUT)));
        }
        Pin::new(&mut codec).poll(cx)
    })
    .await;
    if let Err(error) = outcome {
        let error: &dyn std::error::Error = &error;
        tracing::debug!(error, "a connection to an endpoint broke");
    }
}

/// Finds out whether the peer is still there, while it has requests to answer.
struct Pulse {
    pings: PingPong,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    open: Rc<Cell<usize>>,
    waiting: bool,
}

impl Pulse {
    fn new(codec: &mut Codec, interval: Duration, open: Rc<Cell<usize>>) -> Option<Self> {
        Some(Self {
            pings: codec.ping_pong()?,
            interval,
            timer: Box::pin(tokio::time::sleep(interval)),
            open,
            waiting: false,
        })
    }

    /// Ready when the peer is not there any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting && self.pings.poll_pong(cx).is_ready() {
            self.waiting = false;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = self.open.get() > 0 && self.pings.send_ping(Ping::opaque()).is_ok();
            self.timer.as_mut().reset(Instant::now() + self.interval);
            if self.waiting && self.pings.poll_pong(cx).is_ready() {
                self.waiting = false;
            }
        }
        Poll::Pending
    }
}

/// The error of a connection as one of the system.
pub(super) fn io_error(error: h2::Error) -> Result<io::Error, h2::Error> {
    if error.is_io() {
        let fallback = || io::Error::from(io::ErrorKind::ConnectionReset);
        Ok(error.into_io().unwrap_or_else(fallback))
    } else {
        Err(error)
    }
}
