//! Step 3: Runs the HTTP codec on a connection; one call per request.
//!
//! hyper is named below here and nowhere else on this side. What must stay true: what the codec
//! refuses by itself is counted and logged like every other request, and a connection that drains
//! finishes what is under way, says so, and takes nothing new.

mod http1;
mod http2;
pub(crate) mod phase;
mod received;
mod tasks;
mod tunnel;
pub(crate) mod wire;

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use self::phase::Clock;
use self::wire::{Spoken, Wire};
use super::exchange::Visitor;
use crate::plan::Listener;

/// Serves the requests of one connection until it ends.
pub(crate) async fn serve(mut wire: Wire, visitor: Rc<Visitor>) {
    let mut ending = Ending::new(&visitor);
    let agreed = Spoken::agreed(&visitor.connection);
    // A time that is over before it is clear what is spoken is over for HTTP/1, too, which knows what
    // to say to that.
    let mut told = false;
    let spoken = poll_fn(|cx| {
        if let Poll::Ready(spoken) = wire.poll_spoken(agreed, cx) {
            return Poll::Ready(spoken);
        }
        if ending.poll_drained(cx).is_ready() {
            told = true;
            if !visitor.phase.hurry() {
                return Poll::Ready(Spoken::Http1);
            }
        }
        ending.clock.poll(cx).map(|_| Spoken::Http1)
    });
    let spoken = spoken.await;
    if told {
        ending.watch(&visitor.listener);
    }
    match spoken {
        Spoken::Http1 => http1::serve(wire, visitor, ending).await,
        // Boxed, like whatever few connections come to: each connection has the room for it.
        Spoken::Http2 => Box::pin(http2::serve(wire, visitor, ending)).await,
    }
}

/// What ends a connection from our side.
struct Ending {
    clock: Clock,
    /// Polled only when told: the signal is shared by all workers and must not be asked each time that
    /// a byte arrives.
    drained: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Ending {
    fn new(visitor: &Visitor) -> Self {
        let clock = Clock::new(Rc::clone(&visitor.phase), visitor.listener.model.timeouts);
        let ending = Self {
            clock,
            drained: FuturesUnordered::new(),
        };
        ending.watch(&visitor.listener);
        ending
    }

    fn watch(&self, listener: &Listener) {
        self.drained.push(Box::pin(listener.tasks.drained()));
    }

    /// Ready once, when the connection is told to finish.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.drained.poll_next_unpin(cx) {
            Poll::Ready(Some(())) => Poll::Ready(()),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
