//! Step 1: accepts a socket, within limits, and gives it to a tracked task.
//!
//! One loop per worker and address. A failing `accept` is survived: counted, and paused after when
//! the process is out of something. A connection over a limit is closed at once. A worker that has
//! far more connections than the others passes the fresh socket on before a byte is read.

mod crew;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::{
    connection::{self, proxy_protocol},
    downstream::Connection,
    drain::Tasks,
    plan::{self, Local, Seat},
    stream::Stream,
    telemetry::metrics::{Counter, Event},
};

use socket::{Accepted, Watched};

pub use crew::{Berth, Crew, Fresh};
pub use socket::{Listening, Loose, NEAR};

/// How long to wait after `accept` failed for want of something; twice as long each further time.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// So many connections are taken in a row before those that are there have their turn.
const IN_A_ROW: usize = 16;

/// How often a lasting failure is logged; the counter has each.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// What the accept loops of one worker share.
#[derive(Debug)]
pub struct Door {
    local: Rc<Local>,
    crew: Arc<Crew>,
    next_id: Cell<u64>,
    /// When a pause for want of descriptors was last logged.
    told: Cell<Option<Instant>>,
}

/// One socket that is accepted on, and the listener that its connections belong to.
#[derive(Debug)]
pub struct Accepting {
    socket: Rc<Watched>,
    listener: Rc<RefCell<Arc<plan::Listener>>>,
    tasks: Tasks,
}

impl Accepting {
    /// Accepts on `socket` until told to stop.
    pub fn start(
        socket: Listening,
        listener: Arc<plan::Listener>,
        door: Rc<Door>,
    ) -> io::Result<Self> {
        let socket = Rc::new(socket.watch()?);
        let listener = Rc::new(RefCell::new(listener));
        let tasks = Tasks::new();
        let (current, stop) = (Rc::clone(&listener), tasks.clone());
        let watched = Rc::clone(&socket);
        tasks.spawn_local(async move { accept(watched, &current, &stop, &door).await });
        Ok(Self {
            socket,
            listener,
            tasks,
        })
    }

    /// From now on connections belong to `listener`, and the socket has its settings.
    pub fn belong_to(&self, listener: Arc<plan::Listener>) {
        let next = Arc::clone(&listener);
        let before = self.listener.replace(listener);
        let settings = (&before.model.socket, &next.model.socket);
        if let Err(error) = self.socket.change(settings.0, settings.1) {
            // It was tried before on another socket.
            let (error, listener): (&dyn std::error::Error, _) = (&error, &next.model.name);
            tracing::error!(error, %listener, "a socket keeps its settings");
        }
    }

    /// Stops: whoever is in the kernel's queue already is served, then the socket is closed.
    pub async fn stop(self) {
        let Self { socket, tasks, .. } = self;
        // The task has it alone, to close it.
        drop(socket);
        tasks.finish(LONGEST_PAUSE).await;
    }
}

async fn accept(
    socket: Rc<Watched>,
    listener: &RefCell<Arc<plan::Listener>>,
    stop: &Tasks,
    door: &Door,
) {
    let mut pause = PAUSE;
    let mut told: Option<Instant> = None;
    let mut taken = 0_usize;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.drained() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE;
                if let Some(stream) = door.descriptor(stream, stop).await {
                    door.admit(stream, peer, &Arc::clone(&listener.borrow()));
                }
                taken = taken.wrapping_add(1);
                if taken.is_multiple_of(IN_A_ROW) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                door.local.counters.count(Counter::AcceptErrors);
                if is_of_one_connection(&error) {
                    continue;
                }
                if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
                    tracing::warn!(%error, "accept failed");
                    told = Some(Instant::now());
                }
                tokio::select! {
                    () = stop.drained() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
            }
        }
    }
    // By the system call itself: the runtime may not have seen yet that somebody is waiting.
    let socket = Rc::into_inner(socket).and_then(|socket| socket.release().ok());
    let Some(socket) = socket else {
        return;
    };
    while let Ok((stream, peer)) = socket.accept() {
        if let Ok(stream) = stream.watch() {
            door.admit(stream, peer, &Arc::clone(&listener.borrow()));
        }
    }
}

/// Whether only the connection that would have been accepted is lost (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

impl Door {
    /// Where connections come in on `local`'s worker.
    pub fn new(local: Rc<Local>, crew: Arc<Crew>) -> Self {
        let next_id = Cell::new(u64::try_from(local.worker).unwrap_or_default());
        Self {
            local,
            crew,
            next_id,
            told: Cell::new(None),
        }
    }

    /// A fresh connection on a descriptor that is not of the reserve: waits until there is one. Only
    /// the accept loop waits, so that at most one connection of each is held.
    async fn descriptor(&self, stream: Accepted, stop: &Tasks) -> Option<Accepted> {
        let pressure = &self.local.pressure;
        if !pressure.reserves(&stream) {
            return Some(stream);
        }
        self.local.counters.count(Counter::AcceptPauses);
        if self.told.get().is_none_or(|at| at.elapsed() > TELL_AGAIN) {
            tracing::warn!(
                "accepting pauses: the descriptors that are left are kept for control work"
            );
            self.told.set(Some(Instant::now()));
        }
        let mut stream = stream.release().ok()?;
        let mut pause = PAUSE;
        while pressure.reserves(&stream) {
            tokio::select! {
                // Whoever was accepted is served.
                () = stop.drained() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
            if let Ok(same) = stream.try_clone() {
                stream = same;
            }
        }
        stream.watch().ok()
    }

    /// Lets a connection in, here or at a less loaded worker, unless a limit is reached.
    fn admit(&self, stream: Accepted, peer: SocketAddr, listener: &Arc<plan::Listener>) {
        self.local.counters.count(Counter::ConnectionsAccepted);
        // A dual-stack socket shows IPv4 peers as mapped addresses.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let limits = &listener.model.limits;
        let seat = if proxy_protocol::is_heard(&listener.model, peer.ip()) {
            // Whose connection it is comes with the header.
            listener.census.admit_somebody(limits)
        } else {
            listener.census.admit(peer.ip(), limits)
        };
        let Some(seat) = seat.filter(|_| !self.local.pressure.is_overloaded()) else {
            self.local.counters.count(Counter::ConnectionsRefused);
            listener.traffic.count(self.local.worker, Event::Refused);
            return;
        };
        let listener = Arc::clone(listener);
        let Some(post) = self.crew.relief(self.local.worker) else {
            let berth = self.crew.enter(self.local.worker);
            return self.serve(stream, peer, listener, (seat, berth));
        };
        let Ok(stream) = stream.release() else {
            return;
        };
        let fresh = Fresh {
            stream,
            peer,
            listener,
            seat,
            berth: self.crew.enter(post),
        };
        match self.crew.hand_over(post, fresh) {
            None => self.local.counters.count(Counter::ConnectionsHandedOver),
            Some(fresh) => self.receive(Fresh {
                berth: self.crew.enter(self.local.worker),
                ..fresh
            }),
        }
    }

    /// Serves a connection that another worker accepted.
    pub fn receive(&self, fresh: Fresh) {
        let Fresh {
            stream,
            peer,
            listener,
            seat,
            berth,
        } = fresh;
        if let Ok(stream) = stream.watch() {
            self.serve(stream, peer, listener, (seat, berth));
        }
    }

    fn serve(
        &self,
        stream: Accepted,
        peer: SocketAddr,
        listener: Arc<plan::Listener>,
        held: (Seat, Berth),
    ) {
        let Ok((stream, local)) = stream.into_stream() else {
            return;
        };
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.run(stream, peer, local, listener, held);
    }

    /// Lets a connection in that needs no socket.
    pub fn admit_memory(
        &self,
        stream: tokio::io::DuplexStream,
        peer: SocketAddr,
        listener: Arc<plan::Listener>,
    ) {
        self.local.counters.count(Counter::ConnectionsAccepted);
        let limits = &listener.model.limits;
        let Some(seat) = listener.census.admit(peer.ip(), limits) else {
            self.local.counters.count(Counter::ConnectionsRefused);
            listener.traffic.count(self.local.worker, Event::Refused);
            return;
        };
        let local = listener.model.address.nominal();
        let berth = self.crew.enter(self.local.worker);
        self.run(Stream::Memory(stream), peer, local, listener, (seat, berth));
    }

    fn run(
        &self,
        stream: Stream,
        peer: SocketAddr,
        local: SocketAddr,
        listener: Arc<plan::Listener>,
        held: (Seat, Berth),
    ) {
        listener.traffic.count(self.local.worker, Event::Connection);
        let name = listener.model.name.clone();
        let mut connection = Connection::new(self.id(), name, peer, local);
        connection.unix = matches!(stream, Stream::Unix(_));
        let tasks = listener.tasks.clone();
        let local = Rc::clone(&self.local);
        if proxy_protocol::is_heard(&listener.model, peer.ip()) {
            let served = introduced(stream, connection, listener, local, held);
            return tasks.spawn_local(Box::pin(served));
        }
        let served = connection::serve(stream, connection, listener, local);
        // Not an `async` block, which would have room for the connection twice.
        tasks.spawn_local(served.map(move |()| drop(held)));
    }

    /// For a connection or session. Unique in the process: each worker counts in steps of their number.
    pub fn id(&self) -> u64 {
        let id = self.next_id.get();
        let step = u64::try_from(self.crew.len()).unwrap_or(1);
        self.next_id.set(id.wrapping_add(step));
        id
    }
}

/// Serves a connection once a proxy in front has said whose it is.
async fn introduced(
    stream: Stream,
    mut connection: Connection,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
    (seat, berth): (Seat, Berth),
) {
    let model = &listener.model;
    let reading = proxy_protocol::accept(stream, &mut connection, model, &local.counters);
    let Some(stream) = Box::pin(reading).await else {
        return;
    };
    let Some(seat) = seat.take(connection.peer.ip(), &model.limits) else {
        local.counters.count(Counter::ConnectionsRefused);
        listener.traffic.count(local.worker, Event::Refused);
        return;
    };
    connection::serve(stream, connection, listener, local).await;
    drop((seat, berth));
}
