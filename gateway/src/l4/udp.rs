//! Datagrams: clients speak with endpoints in sessions, of which nobody is told when they begin or end.
//!
//! A session is what a client's address and one of ours have in common, for as long as something moves.
//! It has a socket of its own, connected to its endpoint, so that only this endpoint's answers come in
//! there, and a place in a bounded table. Nobody is ever sent a datagram of the gateway's own.

mod avoid;
mod inward;
mod open;
mod relay;
mod session;
mod set;
mod table;
mod wire;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    sync::{Arc, Weak},
    task::Waker,
};

use crate::plan::{self, Local};

use relay::Relay;
use wire::Inbox;

pub use set::DatagramSet;

/// Gives every session a number of its own.
pub type Ids = Rc<dyn Fn() -> u64>;

/// One socket of a set, and the listener that its datagrams belong to.
#[derive(Debug)]
pub struct Receiving {
    shared: Rc<Shared>,
    set: Weak<DatagramSet>,
}

/// What a [`Receiving`] and its task have in common.
struct Shared {
    /// To whom sessions belong from now on.
    next: RefCell<Option<Arc<plan::Listener>>>,
    ids: Ids,
    stopped: Cell<bool>,
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Receiving {
    /// Receives by the worker's socket of `set` until told to stop.
    pub fn start(
        set: &Arc<DatagramSet>,
        listener: Arc<plan::Listener>,
        local: Rc<Local>,
        ids: Ids,
    ) -> io::Result<Self> {
        // Waited for when the gateway stops, like connections.
        let tasks = listener.tasks.clone();
        let shared = Rc::new(Shared {
            next: RefCell::default(),
            ids,
            stopped: Cell::new(false),
            over: Cell::new(false),
            waker: RefCell::default(),
        });
        let own = Rc::clone(&shared);
        let mut relay = Relay::new(Arc::clone(set), listener, Rc::clone(&shared), local)?;
        let mut inbox = Inbox::new();
        tasks.spawn_local(async move {
            poll_fn(|cx| {
                own.watch(cx.waker());
                relay.poll(&mut inbox, cx)
            })
            .await;
        });
        Ok(Self {
            shared,
            set: Arc::downgrade(set),
        })
    }

    /// Whether it goes on with `set`.
    pub fn is_of(&self, set: &Arc<DatagramSet>) -> bool {
        !self.is_over() && std::ptr::eq(self.set.as_ptr(), Arc::as_ptr(set))
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.shared.over.get()
    }

    /// From now on sessions belong to `listener`, also when it was told to stop.
    pub fn belong_to(&self, listener: Arc<plan::Listener>) {
        *self.shared.next.borrow_mut() = Some(listener);
        self.shared.stopped.set(false);
        self.shared.wake();
    }

    /// Lets nobody new in. Sessions go on until they are over, at most as long as their rule says.
    pub fn stop(&self) {
        self.shared.stopped.set(true);
        self.shared.wake();
    }
}

impl Shared {
    fn changed(&self) -> Option<Arc<plan::Listener>> {
        self.next.borrow_mut().take()
    }

    fn next_id(&self) -> u64 {
        (self.ids)()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    fn finish(&self) {
        self.over.set(true);
    }

    fn watch(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("stopped", &self.stopped)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
