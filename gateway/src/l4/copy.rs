//! Joins two byte streams: what comes in on one goes out on the other, in both directions.
//!
//! What must stay true: every byte arrives once and in order; a side that closes its sending half
//! closes only that half of the other; nothing is read that has no room to go to; and a stream on
//! which nothing moves holds no buffer.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::stream::{Reset, Stalled};

/// What one direction holds at most, besides what the sockets hold.
const BUFFER: usize = 16 << 10;

/// Buffers that a worker keeps for the next stream on which something moves.
const SPARE: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// One of the two streams, and what was read of it before.
#[derive(Debug)]
pub(crate) struct End<S> {
    pub(crate) stream: S,
    pub(crate) ahead: Bytes,
}

/// How long two streams may stay joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Nothing moves in either direction.
    pub(crate) idle: Option<Duration>,
    /// Altogether.
    pub(crate) whole: Option<Duration>,
}

/// Bytes that went out so far; readable also when the copy is dropped.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// From the downstream to the upstream.
    pub(crate) inward: Cell<u64>,
    /// From the upstream to the downstream.
    pub(crate) outward: Cell<u64>,
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

/// Copies until both sides are done, one breaks off, the time is over, or `told` completes.
pub(crate) async fn join<D, U>(
    mut downstream: End<D>,
    mut upstream: End<U>,
    bounds: Bounds,
    carried: &Carried,
    told: impl Future<Output = ()>,
) -> Parted
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut clock = Clock::new(bounds);
    // Polled only when it is woken, not for every byte: others watch the same signals.
    let mut told: FuturesUnordered<_> = [told.boxed_local()].into_iter().collect();
    let mut inward = Direction::new(std::mem::take(&mut downstream.ahead), &carried.inward);
    let mut outward = Direction::new(std::mem::take(&mut upstream.ahead), &carried.outward);
    let (mut down, mut up) = (downstream.stream, upstream.stream);
    poll_fn(|cx| {
        if let Err(fault) = outward.poll(&mut up, &mut down, cx) {
            return Poll::Ready(fault.parted(Parted::Upstream, Parted::Downstream));
        }
        if let Err(fault) = inward.poll(&mut down, &mut up, cx) {
            return Poll::Ready(fault.parted(Parted::Downstream, Parted::Upstream));
        }
        if inward.is_over() && outward.is_over() {
            let lost = outward.lost.take().map(Parted::Downstream);
            let lost = lost.or_else(|| inward.lost.take().map(Parted::Upstream));
            return Poll::Ready(lost.unwrap_or(Parted::Closed));
        }
        if let Poll::Ready(Some(())) = told.poll_next_unpin(cx) {
            return Poll::Ready(Parted::Told);
        }
        let moved = inward.moved.take() | outward.moved.take();
        clock.poll(moved, cx)
    })
    .await
}

/// One direction of two joined streams.
struct Direction<'t> {
    /// What was read before the streams were joined.
    ahead: Bytes,
    buffer: Option<Box<[u8]>>,
    /// What of `buffer` waits to go out.
    start: usize,
    end: usize,
    state: State,
    /// Why what still comes has nowhere to go to.
    lost: Option<io::Error>,
    moved: Cell<bool>,
    count: &'t Cell<u64>,
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
    fn new(ahead: Bytes, count: &'t Cell<u64>) -> Self {
        Self {
            ahead,
            buffer: None,
            start: 0,
            end: 0,
            state: State::Open,
            lost: None,
            moved: Cell::new(false),
            count,
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Moves what can be moved now.
    fn poll<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
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

    fn step<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
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
            match self.read(reader, cx) {
                Poll::Ready(outcome) => outcome.map_err(Fault::Read)?,
                Poll::Pending => {
                    // Also when nothing waits: a stream of many tells so that its peer reset it.
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Fault::Write)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes all that waits.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.ahead.is_empty() {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.ahead))?;
            self.went_out(written)?;
            self.ahead.advance(written);
        }
        while let Some(waiting) = self
            .buffer
            .as_ref()
            .and_then(|it| it.get(self.start..self.end))
            && !waiting.is_empty()
        {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, waiting))?;
            self.went_out(written)?;
            self.start = self.start.saturating_add(written);
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    /// Reads once, into an empty buffer.
    fn read<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = take();
        let mut room = ReadBuf::new(&mut buffer);
        let outcome = Pin::new(reader).poll_read(cx, &mut room);
        let read = room.filled().len();
        if read == 0 {
            give_back(buffer);
            if let Poll::Ready(Ok(())) = outcome {
                self.state = State::Closing;
            }
            return outcome;
        }
        self.moved.set(true);
        (self.start, self.end) = (0, read);
        self.buffer = Some(buffer);
        outcome
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
        (self.start, self.end) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
    }
}

/// Runs the two bounds. The timer for idle streams is not moved for every byte: it may ring early.
struct Clock {
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    whole: Option<Pin<Box<Sleep>>>,
    moved: Instant,
}

impl Clock {
    fn new(bounds: Bounds) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        Self {
            idle: bounds.idle.map(|time| (time, sleep(time))),
            whole: bounds.whole.map(sleep),
            moved: Instant::now(),
        }
    }

    fn poll(&mut self, moved: bool, cx: &mut Context<'_>) -> Poll<Parted> {
        if let Some(whole) = &mut self.whole
            && whole.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Parted::Expired);
        }
        let Some((limit, timer)) = &mut self.idle else {
            return Poll::Pending;
        };
        if moved {
            self.moved = Instant::now();
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let until = self.moved + *limit;
            if Instant::now() >= until {
                return Poll::Ready(Parted::Idle);
            }
            timer.as_mut().reset(until);
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

fn take() -> Box<[u8]> {
    let kept = POOL.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < SPARE {
            pool.push(buffer);
        }
    });
}
