//! A client's stream, which notes what happens on it, and finds out what is spoken on it.
//!
//! What must stay true: no byte that was read to find out is lost, and of a client that speaks HTTP/2
//! every frame goes past the guard before the codec sees it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use sluice_config::model::ListenerTimeouts;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};

use crate::{
    downstream::Connection,
    error::{Malformed, ProxyError},
    frames::{Found, Heads, PREFACE},
    http::{
        exchange::{Visitor, unreadable},
        guard::{Breach, Guard},
        serve::phase::{At, Gone, Phase},
    },
    stream::{Stalled, Stream, WriteStall},
    telemetry::metrics::Event,
    turns::Ticket,
};

/// How long, and how many bytes, a refused client may go on sending before its connection is torn
/// down. Closing at once would reset the connection, and the answer would be lost on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// A client's stream, which notes what happens on it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: WriteStall<Stream>,
    phase: Rc<Phase>,
    /// A write is under way.
    writing: bool,
    /// Read already, and not by the codec.
    ahead: Bytes,
    /// Where HTTP/2 is spoken.
    guard: Option<Box<Watched>>,
}

/// A connection of HTTP/2, and whose it is.
#[derive(Debug)]
struct Watched {
    guard: Guard,
    heads: Heads,
    visitor: Rc<Visitor>,
    /// Its codec has done enough for one turn, and waits for the next.
    ticket: Option<Ticket>,
}

impl Watched {
    fn begin_turn(&mut self, cx: &Context<'_>) {
        if self.ticket.as_ref().is_none_or(|it| it.is_called(cx)) {
            self.ticket = None;
            self.guard.begin_turn();
        }
    }

    /// What becomes of a stream that the codec resets by itself, nobody else is told.
    fn sent(&mut self, bytes: &[u8], now: Instant) {
        let Visitor {
            connection,
            listener,
            local,
            ..
        } = &*self.visitor;
        let heads = &mut self.heads;
        self.guard.sent(bytes, now, |stream, broken| {
            heads.forget(stream);
            let Some(code) = broken else { return };
            listener.traffic.count(local.worker, Event::Broken);
            tracing::debug!(
                connection = connection.id,
                listener = connection.listener.as_str(),
                stream,
                code,
                "a stream was reset: its client broke the protocol"
            );
        });
    }

    /// Notes a header block that the codec refuses because of what was found in it. Trailers are their
    /// request's to account for.
    fn tell(&self, found: Found) {
        let connection = &self.visitor.connection;
        let flaw: &dyn std::error::Error = &found.flaw;
        tracing::debug!(
            connection = connection.id,
            listener = connection.listener.as_str(),
            stream = found.stream,
            flaw,
            "a header block is malformed"
        );
        if !found.trailers {
            let error = ProxyError::BadRequest(Malformed::Syntax);
            unreadable(&self.visitor, &error, Duration::ZERO);
        }
    }
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

impl Spoken {
    /// What a client has agreed to with TLS, if it has.
    pub(crate) fn agreed(connection: &Connection) -> Option<Self> {
        let session = connection.tls.as_ref()?;
        match session.protocol.as_deref()? {
            b"h2" => Some(Self::Http2),
            b"http/1.1" => Some(Self::Http1),
            _ => None,
        }
    }
}

/// The most that is read to find out: the head of most requests.
const FIRST: usize = 4 << 10;

impl Wire {
    /// A stream, and what its connection does.
    pub(crate) fn new(stream: Stream, timeouts: &ListenerTimeouts) -> (Self, Rc<Phase>) {
        let phase = Rc::new(Phase::new());
        let (ahead, stream) = stream.split_ahead();
        if !ahead.is_empty() {
            phase.arrived();
        }
        let wire = Self {
            stream: WriteStall::new(stream, timeouts.write_stall),
            phase: Rc::clone(&phase),
            writing: false,
            ahead,
            guard: None,
        };
        (wire, phase)
    }

    /// Reads until it is clear what is spoken. What ended, or broke, is for HTTP/1 to account for. Who has
    /// `agreed` to something is held to it: two who understand one connection differently are one too
    /// many (RFC 9113 §3.2).
    pub(crate) fn poll_spoken(
        &mut self,
        agreed: Option<Spoken>,
        cx: &mut Context<'_>,
    ) -> Poll<Spoken> {
        loop {
            if let Some(spoken) = self.spoken(agreed) {
                return Poll::Ready(spoken);
            }
            let mut scratch = [0; FIRST];
            let mut buffer = ReadBuf::new(&mut scratch);
            let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let read = buffer.filled();
            if outcome.is_err() || read.is_empty() {
                return Poll::Ready(Spoken::Http1);
            }
            self.phase.arrived();
            self.ahead = if self.ahead.is_empty() {
                Bytes::copy_from_slice(read)
            } else {
                let mut joined = BytesMut::from(&*self.ahead);
                joined.extend_from_slice(read);
                joined.freeze()
            };
        }
    }

    /// What is spoken, by what was read.
    fn spoken(&self, agreed: Option<Spoken>) -> Option<Spoken> {
        if self.ahead.is_empty() {
            return None;
        }
        if agreed.is_some() {
            return agreed;
        }
        if self.ahead.starts_with(PREFACE) {
            return Some(Spoken::Http2);
        }
        (!PREFACE.starts_with(&self.ahead)).then_some(Spoken::Http1)
    }

    /// From here on HTTP/2 is spoken.
    pub(crate) fn multiplex(&mut self, guard: Guard, visitor: Rc<Visitor>) {
        let heads = Heads::behind(PREFACE.len());
        self.guard = Some(Box::new(Watched {
            guard,
            heads,
            visitor,
            ticket: None,
        }));
        self.phase.multiplex();
    }

    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guard.as_deref().map(|watched| &watched.guard)
    }

    /// Its codec has its turn, if it need not wait for it.
    fn begin_turn(&mut self, cx: &Context<'_>) {
        if let Some(watched) = &mut self.guard {
            watched.begin_turn(cx);
        }
    }

    /// Reads what came, or what was read ahead of it.
    fn poll_came(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        self.read_ahead(buffer);
        Poll::Ready(Ok(()))
    }

    /// Keeps so many bytes at the end of `buffer` for another turn.
    fn keep(&mut self, later: usize, buffer: &mut ReadBuf<'_>) {
        let end = buffer.filled().len().saturating_sub(later);
        let later = buffer.filled().get(end..).unwrap_or_default();
        if !later.is_empty() {
            self.ahead = Bytes::from([later, &*self.ahead].concat());
            buffer.set_filled(end);
        }
    }

    /// Reads what the codec of HTTP/2 may see of what came.
    fn poll_frames(
        &mut self,
        watched: &mut Watched,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Watched {
            guard,
            heads,
            visitor,
            ticket,
        } = watched;
        let read = heads.poll_read(cx, buffer, |cx, buffer| {
            if ticket.is_none() && guard.ends_turn() {
                *ticket = Some(visitor.local.turns.queue(cx));
            }
            if ticket.is_some() {
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            ready!(self.poll_came(cx, buffer))?;
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            match guard.received(fresh, Instant::now()) {
                Ok(later) => {
                    self.keep(later, buffer);
                    Poll::Ready(Ok(()))
                }
                Err(breach) => {
                    self.phase.end_with(match breach {
                        Breach::NoSettings => Gone::Malformed,
                        Breach::Continuation | Breach::Resets | Breach::Useless => Gone::Flood,
                    });
                    Poll::Ready(Err(io::Error::other(breach)))
                }
            }
        });
        for found in watched.heads.found() {
            watched.tell(found);
        }
        read
    }

    fn read_ahead(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(length);
        if self.ahead.is_empty() {
            // Not to be kept for as long as the connection lives.
            self.ahead = Bytes::new();
        }
    }

    /// Says `farewell` unless half an answer is out, and closes. `refused` clients may still be
    /// sending what nobody read.
    pub(crate) async fn close(mut self, farewell: &[u8], refused: bool) {
        if !farewell.is_empty() && !self.writing && self.stream.write_all(farewell).await.is_err() {
            return;
        }
        let lingers = (refused || self.phase.is_unread()) && !self.phase.is_half_closed();
        if self.stream.shutdown().await.is_ok() && lingers {
            self.linger().await;
        }
    }

    /// The stream below, and what was read of it, for another protocol; none while something of ours
    /// is still to be written. `read` is what the codec had read before.
    pub(crate) fn into_stream(self, read: Bytes) -> Option<(WriteStall<Stream>, Bytes)> {
        let ahead = if self.ahead.is_empty() {
            read
        } else {
            Bytes::from([&*read, &*self.ahead].concat())
        };
        (!self.writing).then_some((self.stream, ahead))
    }

    /// Reads what the client still sends and throws it away.
    async fn linger(&mut self) {
        let mut scratch = vec![0; 4096];
        let mut left = LINGER_BYTES;
        let read = async {
            while let Ok(count @ 1..) = self.stream.read(&mut scratch).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        // The time being over is one of two good ends.
        let _in_time = tokio::time::timeout(LINGER, read).await;
    }

    /// The client sends nothing more. While a request is under way that alone is no reason to stop,
    /// so the codec is not told: the rest of the body may still be on its way through us. If it is
    /// not, the clock ends the wait.
    fn ended(&self) -> Poll<io::Result<()>> {
        if matches!(self.phase.at(), At::Idle | At::Head) {
            return Poll::Ready(Ok(()));
        }
        self.phase.half_close();
        Poll::Pending
    }

    fn written<T>(&mut self, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.writing = progress.is_pending();
        match &progress {
            Poll::Ready(Ok(_)) => self.phase.moved(),
            Poll::Ready(Err(error)) => {
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stalled>)
                {
                    self.phase.end_with(Gone::Stalled);
                }
            }
            Poll::Pending => {}
        }
        progress
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase.is_half_closed() {
            return this.ended();
        }
        if let Some(mut watched) = this.guard.take() {
            // The end is the end: who speaks HTTP/2 has no other way to leave.
            let read = this.poll_frames(&mut watched, cx, buffer);
            this.guard = Some(watched);
            return read;
        }
        let before = buffer.filled().len();
        ready!(this.poll_came(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return this.ended();
        }
        this.phase.arrived();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let (Some(watched), Poll::Ready(Ok(count))) = (&mut this.guard, &progress) {
            watched.sent(bytes.get(..*count).unwrap_or_default(), Instant::now());
        }
        this.written(progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        if let (Some(watched), Poll::Ready(Ok(count))) = (&mut this.guard, &progress) {
            let (mut left, now) = (*count, Instant::now());
            for slice in slices {
                let sent = slice.get(..left.min(slice.len())).unwrap_or_default();
                watched.sent(sent, now);
                left = left.saturating_sub(sent.len());
            }
        }
        this.written(progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A stream that its codec reads and writes, and that is still at hand when the codec is gone.
#[derive(Debug, Clone)]
pub(super) struct Shared(Rc<RefCell<Wire>>);

impl Shared {
    pub(super) fn new(wire: Wire) -> Self {
        Self(Rc::new(RefCell::new(wire)))
    }

    /// The codec has its turn: see [`Guard::ends_turn`].
    pub(super) fn begin_turn(&self, cx: &Context<'_>) {
        self.0.borrow_mut().begin_turn(cx);
    }

    pub(super) fn head_since(&self) -> Option<Instant> {
        self.0.borrow().guard()?.head_since()
    }

    /// The stream again, once the codec is gone.
    pub(super) fn into_inner(self) -> Option<Wire> {
        Rc::into_inner(self.0).map(RefCell::into_inner)
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}
