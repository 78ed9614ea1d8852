//! The stream of a CONNECT request once it was granted.
//!
//! The codec splits it: what is read comes from a handle, what is written goes through a task of the
//! codec's own ([`Pump`]). What must stay true: a stream that is dropped before both sides are done is
//! reset, and one that the client reset is never taken for one that ended.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::{self, Reset};

/// What a stream and the task that sends what is written to it tell each other. Both run on one
/// thread; streams could be moved, though, so this can be, too.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// The stream is gone.
    stopped: AtomicBool,
    /// The codec's task is done.
    done: AtomicBool,
    /// The stream wants the task to look whether it is.
    asked: AtomicBool,
    task: AtomicWaker,
    stream: AtomicWaker,
}

impl Pump {
    /// Runs the codec's task until it is done or the stream is gone. Dropped before it is done, it has
    /// the codec reset the stream.
    pub(super) async fn run(&self, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.stopped.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            let polled = task.as_mut().poll(cx);
            self.done.store(polled.is_ready(), Ordering::Relaxed);
            if self.asked.swap(false, Ordering::Relaxed) || polled.is_ready() {
                self.stream.wake();
            }
            polled
        })
        .await;
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// The stream of a CONNECT request that was granted.
pub(super) struct Tunnel {
    io: TokioIo<Upgraded>,
    pump: Arc<Pump>,
    /// What was read seems to be at its end; the task was asked.
    asked: bool,
    /// Nothing more will be written.
    closing: bool,
}

impl Tunnel {
    pub(super) fn new(upgraded: Upgraded, pump: Arc<Pump>) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            pump,
            asked: false,
            closing: false,
        }
    }

    /// Whether the client reset the stream, as far as the task knows: it ends before we do.
    fn is_reset(&self) -> bool {
        !self.closing && self.pump.is_done()
    }

    /// The codec gives most resets as an end. Its task knows better, once it was asked; after our own
    /// end nobody does.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.pump.stream.register(cx.waker());
        if self.closing {
            return Poll::Ready(Ok(()));
        }
        if !self.asked {
            self.asked = true;
            self.pump.asked.store(true, Ordering::Relaxed);
            self.pump.task.wake();
        }
        if self.pump.is_done() {
            return Poll::Ready(Err(Reset.into()));
        }
        if self.pump.asked.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl stream::Tunnel for Tunnel {}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.pump.stopped.store(true, Ordering::Relaxed);
        self.pump.task.wake();
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.asked {
            return this.poll_end(cx);
        }
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut this.io).poll_read(cx, buffer));
        if outcome.is_err() {
            return Poll::Ready(Err(Reset.into()));
        }
        if buffer.filled().len() == before {
            return this.poll_end(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.get_mut().io).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|_| Reset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Nothing can be waited for: what is written is on its way, with a clock at the next write.
        this.pump.stream.register(cx.waker());
        Poll::Ready(if this.is_reset() {
            Err(Reset.into())
        } else {
            Ok(())
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_reset() {
            return Poll::Ready(Err(Reset.into()));
        }
        this.closing = true;
        let closed = ready!(Pin::new(&mut this.io).poll_shutdown(cx));
        Poll::Ready(closed.map_err(|_| Reset.into()))
    }
}
