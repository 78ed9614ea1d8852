//! Joins two byte streams: what comes in on one goes out on the other, in both directions.
//!
//! What must stay true: every byte arrives once and in order; a side that closes its sending half
//! closes only that half of the other; nothing is read that has no room to go to; a stream on which
//! nothing moves holds neither buffer nor pipe; and none moves so much in a row that others wait.
//!
//! Little is copied through a small buffer, which is the cheapest then. As soon as a read fills it, much
//! is under way: between two sockets the kernel moves it through a pipe from then on, else a larger
//! buffer does. A direction that only trickles goes back to the small one.

mod buffers;
mod clock;

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::Instant,
};

use self::{
    buffers::{SMALL, give_back, take},
    clock::Clock,
};

use crate::{
    pressure::Pressure,
    stream::{Pipe, Reset, Stalled, Stream, WriteStall},
};

pub(crate) use clock::Bounds;

/// Less at a time than this is little again.
const TRICKLE: usize = 4 << 10;

/// What one direction moves before others of its worker have their turn.
const TURN: usize = 1 << 20;

/// One of the two streams, and what was read of it before.
#[derive(Debug)]
pub(crate) struct End<'s> {
    pub(crate) stream: &'s mut WriteStall<Stream>,
    pub(crate) ahead: Bytes,
}

/// Bytes that went out so far; readable also when the copy is dropped.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// From the downstream to the upstream.
    pub(crate) inward: Cell<u64>,
    /// From the upstream to the downstream.
    pub(crate) outward: Cell<u64>,
    /// When the first of them did.
    pub(crate) answered: Cell<Option<Instant>>,
    /// All of them did, and the downstream was told so.
    pub(crate) whole: Cell<bool>,
}

/// Why two streams are no longer joined.
#[derive(Debug)]
pub(crate) enum Parted {
    /// Both sides said that they are done.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// It took too long altogether.
    Expired,
    /// The caller wanted it.
    Told,
    /// The downstream broke off.
    Downstream(io::Error),
    /// The upstream broke off.
    Upstream(io::Error),
}

/// Copies until both sides are done, one breaks off, the time is over, or `told` completes. `account` is
/// called now and then while something moves, for whoever wants to know what was carried so far.
pub(crate) async fn join(
    (downstream, upstream): (End<'_>, End<'_>),
    bounds: Bounds,
    (carried, account): (&Carried, impl Fn()),
    pressure: &Pressure,
    told: impl Future<Output = ()>,
) -> Parted {
    let mut clock = Clock::new(bounds);
    // Polled only when it is woken, not for every byte: others watch the same signals.
    let mut told: FuturesUnordered<_> = [told.boxed_local()].into_iter().collect();
    let mut inward = Direction::new(downstream.ahead, &carried.inward, pressure);
    let mut outward = Direction::new(upstream.ahead, &carried.outward, pressure);
    let (down, up) = (downstream.stream, upstream.stream);
    poll_fn(|cx| {
        if let Err(fault) = outward.poll(up, down, cx) {
            return Poll::Ready(fault.parted(Parted::Upstream, Parted::Downstream));
        }
        if carried.answered.get().is_none() && carried.outward.get() > 0 {
            carried.answered.set(Some(Instant::now()));
        }
        if let Err(fault) = inward.poll(down, up, cx) {
            return Poll::Ready(fault.parted(Parted::Downstream, Parted::Upstream));
        }
        carried
            .whole
            .set(outward.is_over() && outward.lost.is_none());
        if inward.is_over() && outward.is_over() {
            let lost = outward.lost.take().map(Parted::Downstream);
            let lost = lost.or_else(|| inward.lost.take().map(Parted::Upstream));
            return Poll::Ready(lost.unwrap_or(Parted::Closed));
        }
        if let Poll::Ready(Some(())) = told.poll_next_unpin(cx) {
            return Poll::Ready(Parted::Told);
        }
        let moved = inward.moved.take() | outward.moved.take();
        clock.poll(moved, &account, cx)
    })
    .await
}

/// One direction of two joined streams.
struct Direction<'t> {
    /// What was read before the streams were joined.
    ahead: Bytes,
    load: Load,
    flow: Flow,
    state: State,
    /// Why what still comes has nowhere to go to.
    lost: Option<io::Error>,
    moved: Cell<bool>,
    count: &'t Cell<u64>,
    pressure: &'t Pressure,
}

/// What waits to go out.
enum Load {
    Nothing,
    Buffer {
        buffer: Box<[u8]>,
        start: usize,
        end: usize,
    },
    Pipe(Pipe),
}

/// How much came at a time lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Little,
    Much,
    /// And the kernel does not move it by itself after all.
    MuchCopied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader is at its end; the writer has to be told.
    Closing,
    Over,
}

/// How a direction broke.
#[derive(Debug)]
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl Fault {
    fn parted(
        self,
        reader: impl Fn(io::Error) -> Parted,
        writer: impl Fn(io::Error) -> Parted,
    ) -> Parted {
        match self {
            Self::Read(error) => reader(error),
            Self::Write(error) => writer(error),
        }
    }
}

impl<'t> Direction<'t> {
    fn new(ahead: Bytes, count: &'t Cell<u64>, pressure: &'t Pressure) -> Self {
        Self {
            ahead,
            load: Load::Nothing,
            flow: Flow::Little,
            state: State::Open,
            lost: None,
            moved: Cell::new(false),
            count,
            pressure,
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Moves what can be moved now.
    fn poll(
        &mut self,
        reader: &mut WriteStall<Stream>,
        writer: &mut WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        if self.is_over() {
            return Ok(());
        }
        match self.step(reader, writer, cx) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            // A peer that reads no more may still have something to say: its other half goes on.
            Poll::Ready(Err(Fault::Write(error))) if !is_stalled(&error) => {
                self.state = State::Over;
                self.lost = Some(error);
                self.release();
                Ok(())
            }
            Poll::Ready(Err(fault)) => Err(fault),
        }
    }

    fn step(
        &mut self,
        reader: &mut WriteStall<Stream>,
        writer: &mut WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let mut left = TURN;
        loop {
            ready!(self.write(writer, cx)).map_err(Fault::Write)?;
            if self.state == State::Closing {
                // A socket has all bytes: whether it still hears that they were all does not matter. A
                // stream of many may have to wait with the last ones, and lose them.
                match ready!(Pin::new(&mut *writer).poll_shutdown(cx)) {
                    Err(error) if is_stalled(&error) || is_reset(&error) => {
                        return Poll::Ready(Err(Fault::Write(error)));
                    }
                    Ok(()) | Err(_) => self.state = State::Over,
                }
                return Poll::Ready(Ok(()));
            }
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.read(reader, writer, cx) {
                Poll::Ready(read) => {
                    left = left.saturating_sub(read.map_err(Fault::Read)?);
                }
                Poll::Pending => {
                    // Also when nothing waits: a stream of many tells so that its peer reset it.
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Fault::Write)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes all that waits.
    fn write(
        &mut self,
        writer: &mut WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.ahead.is_empty() {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.ahead))?;
            self.went_out(written)?;
            self.ahead.advance(written);
        }
        loop {
            let written = match &mut self.load {
                Load::Buffer { buffer, start, end } if *start < *end => {
                    let waiting = buffer.get(*start..*end).unwrap_or_default();
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, waiting))?;
                    *start = start.saturating_add(written);
                    written
                }
                Load::Pipe(pipe) if pipe.held() > 0 => ready!(writer.poll_drain(pipe, cx))?,
                Load::Nothing | Load::Buffer { .. } | Load::Pipe(_) => break,
            };
            self.went_out(written)?;
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    /// Reads once, when nothing waits; gives how much came.
    fn read(
        &mut self,
        reader: &mut WriteStall<Stream>,
        writer: &WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = match self.splice(reader, writer, cx) {
            Some(read) => ready!(read)?,
            None => ready!(self.copy(reader, cx))?,
        };
        if read == 0 {
            self.state = State::Closing;
            return Poll::Ready(Ok(0));
        }
        self.moved.set(true);
        if read >= SMALL && self.flow == Flow::Little {
            self.flow = Flow::Much;
        } else if read < TRICKLE {
            self.flow = Flow::Little;
        }
        Poll::Ready(Ok(read))
    }

    /// Has the kernel move what comes in, where it can and where that is worth it.
    fn splice(
        &mut self,
        reader: &WriteStall<Stream>,
        writer: &WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<io::Result<usize>>> {
        if self.flow != Flow::Much {
            return None;
        }
        let sockets = reader.get_ref().socket().zip(writer.get_ref().socket());
        let pipe = sockets.and_then(|(from, _)| Some((from, Pipe::take(self.pressure)?)));
        let Some((from, mut pipe)) = pipe else {
            self.flow = Flow::MuchCopied;
            return None;
        };
        match pipe.poll_fill(from, cx) {
            Poll::Ready(Ok(filled)) if filled > 0 => {
                self.load = Load::Pipe(pipe);
                Some(Poll::Ready(Ok(filled)))
            }
            Poll::Ready(Err(error)) if is_refused(&error) => {
                pipe.give_back();
                self.flow = Flow::MuchCopied;
                None
            }
            other => {
                pipe.give_back();
                Some(other)
            }
        }
    }

    /// Reads into a buffer.
    fn copy(
        &mut self,
        reader: &mut WriteStall<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = take(self.flow != Flow::Little);
        let mut room = ReadBuf::new(&mut buffer);
        let outcome = Pin::new(reader).poll_read(cx, &mut room);
        let read = room.filled().len();
        if read == 0 {
            give_back(buffer);
        } else {
            let (start, end) = (0, read);
            self.load = Load::Buffer { buffer, start, end };
        }
        outcome.map_ok(|()| read)
    }

    fn went_out(&self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved.set(true);
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        self.count.set(self.count.get().saturating_add(written));
        Ok(())
    }

    fn release(&mut self) {
        match std::mem::replace(&mut self.load, Load::Nothing) {
            Load::Nothing => {}
            Load::Buffer { buffer, .. } => give_back(buffer),
            Load::Pipe(pipe) => pipe.give_back(),
        }
    }
}

pub(crate) fn is_stalled(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stalled>)
}

fn is_reset(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Reset>)
}

/// Whether the kernel moves nothing between these two by itself. Nothing was moved then.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests;
