//! What signals mean: HUP reloads, USR1 reopens the access log, TERM and INT drain, QUIT drains at
//! once, a further one forces. USR2 is kept for handing over to another binary; until then it is
//! refused rather than deadly.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Read the configuration again.
    Reload,
    /// Open the access log anew.
    Reopen,
    /// Hand over to another binary.
    HandOver,
    /// Finish what is in flight, then end.
    Drain,
    /// End now.
    End,
}

/// The signals that we know.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    /// From now on signals come here.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: unix::signal(SignalKind::hangup())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            terminate: unix::signal(SignalKind::terminate())?,
            user1: unix::signal(SignalKind::user_defined1())?,
            user2: unix::signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Drain,
            _ = self.interrupt.recv() => Signal::Drain,
            _ = self.quit.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user1.recv() => Signal::Reopen,
            _ = self.user2.recv() => Signal::HandOver,
        }
    }

    /// Completes with the next one that ends the process.
    pub(super) async fn force(&mut self) {
        while !matches!(self.next().await, Signal::Drain | Signal::End) {}
    }
}
