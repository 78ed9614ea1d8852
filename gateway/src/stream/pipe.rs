//! Pipes of the kernel, through which bytes go from socket to socket without a copy in this process
//! (splice(2)).
//!
//! What must stay true: a pipe is only given to another stream once it is empty; it is only filled
//! when it is empty, so that "try again" always speaks of the socket; and a worker has a bounded
//! number of them.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

use crate::pressure::Pressure;

/// What a pipe holds at most: four times what the kernel gives by itself, so that a packet per page
/// still makes large pieces.
const ROOM: usize = 256 << 10;

/// Pipes of one worker, two descriptors each. Flows beyond are copied.
const MOST: usize = 256;

/// Pipes that a worker keeps for the next flow.
const SPARE: usize = 32;

thread_local! {
    static KEPT: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static PIPES: Cell<usize> = const { Cell::new(0) };
}

/// A socket of the system, whose bytes the kernel can move by itself.
#[derive(Debug, Clone, Copy)]
pub enum Socket<'s> {
    /// TCP.
    Tcp(&'s TcpStream),
    /// A unix socket.
    Unix(&'s UnixStream),
}

/// A pipe. Dropped with bytes in it, they are lost.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
    _counted: Counted,
}

impl Pipe {
    /// An empty one; none where there are too many, or its descriptors would be of the reserve.
    pub fn take(pressure: &Pressure) -> Option<Self> {
        if let Some(kept) = KEPT.with_borrow_mut(Vec::pop) {
            return Some(kept);
        }
        let counted = Counted::new()?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        if pressure.reserves(&reader) || pressure.reserves(&writer) {
            return None;
        }
        // The system may grant less (pipe(7), "/proc files"): then it is filled more often.
        let _granted = fcntl_setpipe_size(&writer, ROOM);
        Some(Self {
            reader,
            writer,
            held: 0,
            _counted: counted,
        })
    }

    /// For the next flow, unless bytes are in it that belong to this one.
    pub fn give_back(self) {
        if self.held > 0 {
            return;
        }
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < SPARE {
                kept.push(self);
            }
        });
    }

    /// Bytes that wait in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves into an empty pipe what came in by `from`; 0 at its end.
    pub fn poll_fill(&mut self, from: Socket<'_>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0);
        let filled = from.poll_io(cx, Interest::READABLE, |socket| {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(socket, None, &self.writer, None, ROOM, flags)?)
        });
        let filled = ready!(filled)?;
        self.held = filled;
        Poll::Ready(Ok(filled))
    }

    /// Moves out by `to` what it takes.
    pub fn poll_drain(&mut self, to: Socket<'_>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let drained = to.poll_io(cx, Interest::WRITABLE, |socket| {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(&self.reader, None, socket, None, self.held, flags)?)
        });
        let drained = ready!(drained)?;
        self.held = self.held.saturating_sub(drained);
        Poll::Ready(Ok(drained))
    }
}

/// A pipe that exists, whoever has it.
#[derive(Debug)]
struct Counted(());

impl Counted {
    fn new() -> Option<Self> {
        let pipes = PIPES.get();
        (pipes < MOST).then(|| {
            PIPES.set(pipes.saturating_add(1));
            Self(())
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        PIPES.set(PIPES.get().saturating_sub(1));
    }
}

impl Socket<'_> {
    /// Does `act` as soon as the socket is ready for it.
    fn poll_io(
        self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            let done = match self {
                Self::Tcp(socket) => socket.try_io(interest, || act(socket.as_fd())),
                Self::Unix(socket) => socket.try_io(interest, || act(socket.as_fd())),
            };
            match done {
                Err(error) if again(&error) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_ready(self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Self::Tcp(socket), true) => socket.poll_read_ready(cx),
            (Self::Tcp(socket), false) => socket.poll_write_ready(cx),
            (Self::Unix(socket), true) => socket.poll_read_ready(cx),
            (Self::Unix(socket), false) => socket.poll_write_ready(cx),
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
