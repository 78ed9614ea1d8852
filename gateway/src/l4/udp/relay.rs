//! Passes datagrams on: those of clients to the endpoints of their sessions, and what comes back.
//!
//! One task per socket does all of it, a bounded piece at a time. What must stay true: nothing waits for
//! one client or one endpoint; no datagram goes out that did not come in from the other side of its own
//! session; a session that ends is told of once.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UdpSocket,
    time::{Instant, Sleep, sleep},
};

use super::{
    Shared,
    avoid::Avoided,
    session::{Ground, Over, Session},
    set::DatagramSet,
    table::Table,
    wire::{Inbox, Outbox, Sent, answer},
};
use crate::{
    plan::{self, Local},
    telemetry::metrics::Loss,
};

/// Sessions with an answer that are looked at in a row.
const EVENTS: usize = 32;

/// Sessions that are looked at in a row for whether they are over.
const SWEPT: usize = 512;

/// How often a lasting refusal is logged; the counters have each.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// The sessions of one socket, and what is on its way.
pub(super) struct Relay {
    pub(super) local: Rc<Local>,
    pub(super) shared: Rc<Shared>,
    pub(super) listener: Arc<plan::Listener>,
    pub(super) table: Table,
    pub(super) grounds: Vec<Rc<Ground>>,
    pub(super) avoided: Avoided,
    pub(super) now: Instant,
    /// Where clients send to.
    pub(super) socket: UdpSocket,
    /// Its set, which lives as long as this.
    set: Arc<DatagramSet>,
    /// Tells which sessions have an answer. Each socket in it is known by the place of its session.
    ready: AsyncFd<OwnedFd>,
    events: Vec<epoll::Event>,
    outbox: Outbox,
    clock: Option<Pin<Box<Sleep>>>,
    /// How far the sweep that is under way has come.
    swept: Option<usize>,
    /// Since when nobody new is let in.
    stopped: Option<Instant>,
    told: Option<Instant>,
}

impl Relay {
    /// Passes on what comes in by the socket of this worker in `set`.
    pub(super) fn new(
        set: Arc<DatagramSet>,
        listener: Arc<plan::Listener>,
        shared: Rc<Shared>,
        local: Rc<Local>,
    ) -> io::Result<Self> {
        let socket = set.socket(local.worker).ok_or(io::ErrorKind::NotFound)?;
        let socket = UdpSocket::from_std(socket.try_clone()?)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            local,
            shared,
            listener,
            table: Table::default(),
            grounds: Vec::new(),
            avoided: Avoided::default(),
            now: Instant::now(),
            socket,
            set,
            ready: watched(ready)?,
            events: Vec::with_capacity(EVENTS),
            outbox: Outbox::new(),
            clock: None,
            swept: None,
            stopped: None,
            told: None,
        })
    }

    /// Does what can be done now. Ready once nobody new is let in and no session is left.
    pub(super) fn poll(&mut self, inbox: &mut Inbox, cx: &mut Context<'_>) -> Poll<()> {
        self.now = Instant::now();
        if let Some(listener) = self.shared.changed() {
            self.listener = listener;
        }
        self.stopped = match self.stopped {
            _ if !self.shared.is_stopped() => None,
            None => Some(self.now),
            since => since,
        };
        let arrived = self.receive(inbox, cx);
        self.send(cx);
        let answered = self.answers(cx);
        self.send(cx);
        let swept = self.sweep(cx);
        if self.is_over() {
            return Poll::Ready(());
        }
        if arrived || answered || swept {
            // Behind whoever else has something to do.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Nobody new is let in, and no worker has a session left. Before, nobody would read what still comes
    /// in by the socket, and whoever goes on with the set would find it there.
    fn is_over(&self) -> bool {
        self.stopped.is_some() && self.set.is_idle() && self.outbox.is_empty()
    }

    /// Where the socket is bound.
    pub(super) fn ours(&self) -> SocketAddr {
        self.set.address()
    }

    /// Takes answers of endpoints, and says whether more may wait.
    fn answers(&mut self, cx: &mut Context<'_>) -> bool {
        // What could not go out yet is to be all that is held.
        if !self.outbox.is_empty() {
            return false;
        }
        let Poll::Ready(Ok(mut guard)) = self.ready.poll_read_ready(cx) else {
            return false;
        };
        self.events.clear();
        let at_once = Timespec::default();
        let room = spare_capacity(&mut self.events);
        if epoll::wait(guard.get_inner(), room, Some(&at_once)).is_err() {
            return true;
        }
        if self.events.is_empty() {
            // What comes from now on is told anew, to whoever asks again.
            guard.clear_ready();
            return self.ready.poll_read_ready(cx).is_ready();
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            if let Ok(place) = usize::try_from(event.data.u64()) {
                self.answer(place);
            }
        }
        self.events = events;
        true
    }

    /// Takes an answer of the endpoint of a session. If there is another one, it is told again.
    fn answer(&mut self, place: usize) {
        let Some(session) = self.table.get_mut(place) else {
            return;
        };
        let Some(room) = self.outbox.room() else {
            return;
        };
        match answer(&session.socket, room) {
            Ok(length) => {
                session.outward.add(length);
                session.moved = self.now;
                let peer = session.peer;
                self.outbox.push(length, peer.client, peer.local);
                let counted = &session.ground.listener.datagrams;
                counted.outward(self.local.worker, length);
                if session.is_answered() {
                    self.end(place, Over::Answered);
                }
            }
            Err(error) => match Errno::from_io_error(&error) {
                // The last one tells of a datagram before that was too large for the way.
                Some(Errno::AGAIN | Errno::INTR | Errno::MSGSIZE) => {}
                _ => self.fail(place, error),
            },
        }
    }

    /// Sends answers to clients. Where the system takes no more, the rest waits, and answers that come
    /// meanwhile wait where they are.
    fn send(&mut self, cx: &mut Context<'_>) {
        while !self.outbox.is_empty() {
            if self.socket.poll_send_ready(cx).is_pending() {
                return;
            }
            let mut refused = 0;
            let (socket, outbox) = (&self.socket, &mut self.outbox);
            // Blocked, it is watched until it takes more.
            let sent = socket.try_io(Interest::WRITABLE, || match outbox.send(socket) {
                Sent::All(count) => {
                    refused = count;
                    Ok(())
                }
                Sent::Blocked(count) => {
                    refused = count;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            });
            drop(sent);
            for _ in 0..refused {
                self.lose(Loss::Unsent);
            }
        }
    }

    /// Ends sessions that are over, and says whether there are more to look at.
    fn sweep(&mut self, cx: &mut Context<'_>) -> bool {
        let first = if let Some(place) = self.swept {
            place
        } else {
            if !self.is_due(cx) {
                return false;
            }
            self.grounds.retain(|ground| Rc::strong_count(ground) > 1);
            for ground in &self.grounds {
                ground.look(self.now);
            }
            0
        };
        let last = first.saturating_add(SWEPT).min(self.table.places());
        for place in first..last {
            let Some(session) = self.table.get_mut(place) else {
                continue;
            };
            session.account(&self.local);
            if let Some(over) = session.is_overdue(self.now, self.stopped) {
                self.end(place, over);
            }
        }
        self.swept = (last < self.table.places()).then_some(last);
        true
    }

    /// Whether it is time to look for sessions that are over.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.table.is_empty() {
            self.grounds.clear();
            if self.stopped.is_none() {
                self.clock = None;
                return false;
            }
        }
        let pause = self.pause();
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(pause)));
        if clock.as_mut().poll(cx).is_pending() {
            return false;
        }
        clock.as_mut().reset(self.now + pause);
        true
    }

    /// Between two looks: a part of the shortest time that counts, so that nobody lasts much longer.
    fn pause(&self) -> Duration {
        let idle = self.listener.model.udp.idle_timeout;
        let drains = self.grounds.iter().map(|ground| ground.limits.drain);
        let shortest = drains.fold(idle, Duration::min);
        (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// The endpoint of a session is not there.
    pub(super) fn fail(&mut self, place: usize, error: io::Error) {
        if let Some(session) = self.table.get(place) {
            self.avoided.add(session.aim.endpoint(), self.now);
        }
        self.end(place, Over::Failed(error));
    }

    fn end(&mut self, place: usize, over: Over) {
        if let Some(session) = self.table.remove(place) {
            self.set.ended();
            session.end(over, self.ours(), &self.local);
        }
    }

    /// Begins a session.
    pub(super) fn insert(&mut self, mut session: Session) {
        self.set.opened();
        session.begin(&self.local);
        self.table.insert(session);
    }

    /// Makes the session at `place` known to whoever tells of answers.
    pub(super) fn watch(&self, socket: &std::net::UdpSocket, place: usize) -> io::Result<()> {
        let place = epoll::EventData::new_u64(u64::try_from(place).unwrap_or(u64::MAX));
        epoll::add(self.ready.get_ref(), socket, place, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Counts a datagram that goes nowhere.
    pub(super) fn lose(&mut self, loss: Loss) {
        self.listener.datagrams.lost(self.local.worker, loss);
        if self.told.is_none_or(|told| told + TELL_AGAIN < self.now) {
            let (listener, reason) = (self.listener.model.name.as_str(), loss.word());
            tracing::warn!(listener, reason, "datagrams are dropped");
            self.told = Some(self.now);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for place in 0..self.table.places() {
            self.end(place, Over::Draining);
        }
        self.shared.finish();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("listener", &self.listener.model.name)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Has the runtime watch an epoll of ours.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for descriptors that may be closed under it; this one is owned"
)]
fn watched(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(epoll, Interest::READABLE)
}
