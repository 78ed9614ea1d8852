//! Turns of those who have more to do than is good for the others.
//!
//! Whoever is ready does some work at once. Who would go on takes a ticket: of all who hold one on a
//! worker, one goes on in each round of its runtime, in their order. So many of them together hold up
//! nobody else longer than one of them would.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::task::yield_now;

/// Who waits on a worker to go on.
#[derive(Debug, Default)]
pub(crate) struct Turns(RefCell<VecDeque<Arc<Call>>>);

/// A place among those who wait. Whoever drops it has gone on, or is gone.
#[derive(Debug)]
pub(crate) struct Ticket {
    turns: Rc<Turns>,
    call: Arc<Call>,
}

/// Wakes whoever waits, and says that it was this and nothing else.
#[derive(Debug, Default)]
struct Call {
    called: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Turns {
    /// A place behind everybody who waits.
    pub(crate) fn queue(self: &Rc<Self>, cx: &Context<'_>) -> Ticket {
        let call = Arc::new(Call::default());
        call.task.register(cx.waker());
        self.0.borrow_mut().push_back(Arc::clone(&call));
        let ticket = Ticket {
            turns: Rc::clone(self),
            call,
        };
        if ticket.is_first() {
            self.call_first();
        }
        ticket
    }

    /// Calls the first in the next round: woken at once, it would go before those who become ready
    /// meanwhile.
    fn call_first(&self) {
        let first = self.0.borrow().front().map(Arc::clone);
        let Some(first) = first.map(Waker::from) else {
            return;
        };
        let round = pin!(yield_now());
        if round.poll(&mut Context::from_waker(&first)).is_ready() {
            first.wake();
        }
    }
}

impl Ticket {
    /// Whether it is one's turn; else one is woken when it is.
    pub(crate) fn is_called(&self, cx: &Context<'_>) -> bool {
        self.call.task.register(cx.waker());
        self.call.called.load(Ordering::Acquire)
    }

    fn is_first(&self) -> bool {
        let waiting = self.turns.0.borrow();
        waiting
            .front()
            .is_some_and(|first| Arc::ptr_eq(first, &self.call))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let first = self.is_first();
        let mut waiting = self.turns.0.borrow_mut();
        waiting.retain(|other| !Arc::ptr_eq(other, &self.call));
        drop(waiting);
        if first {
            self.turns.call_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, task::Poll};

    use tokio::task::LocalSet;

    use super::*;
    use crate::drain::Tasks;

    async fn go_on(turns: Rc<Turns>) {
        let mut ticket = None;
        poll_fn(|cx| {
            let ticket = ticket.get_or_insert_with(|| turns.queue(cx));
            if ticket.is_called(cx) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn one_goes_on_per_round_in_order_and_whoever_leaves_holds_nobody_up() {
        let (turns, order) = (Rc::new(Turns::default()), Rc::default());
        let tasks = Tasks::new();
        let local = LocalSet::new();
        let rounds: Rc<Cell<u32>> = Rc::default();
        for number in 0..4_u32 {
            let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
            let rounds = Rc::clone(&rounds);
            let work = async move {
                for _ in 0..3 {
                    go_on(Rc::clone(&turns)).await;
                    let order: &RefCell<Vec<(u32, u32)>> = &order;
                    order.borrow_mut().push((number, rounds.get()));
                }
            };
            let _entered = local.enter();
            tasks.spawn_local(work);
        }
        // One that is gone before its turn.
        let noop = Context::from_waker(Waker::noop());
        drop(turns.queue(&noop));
        let counting = Rc::clone(&rounds);
        local
            .run_until(async move {
                while !tasks.is_empty() {
                    yield_now().await;
                    counting.set(counting.get() + 1);
                }
            })
            .await;
        let order = order.borrow();
        let numbers: Vec<u32> = order.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
        let mut times: Vec<u32> = order.iter().map(|(_, round)| *round).collect();
        times.dedup();
        assert_eq!(times.len(), 12, "two in one round: {order:?}");
    }
}
