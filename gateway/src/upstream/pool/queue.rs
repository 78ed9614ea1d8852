//! The right to a connection, and the requests that wait for it.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Dialect, Introduction, Lent, Manner, Pool};
use crate::{
    error::ProxyError,
    upstream::{Upstream, connect::Connection, endpoints::Choice},
};

/// What a waiting request gets.
#[derive(Debug)]
pub(in crate::upstream) enum Grant {
    /// What became free meanwhile.
    Lent(Lent),
    /// The right to make one.
    Permit(Permit),
}

/// The right to one connection, until dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Permit(Rc<Pool>);

#[derive(Debug)]
pub(super) struct Waiter {
    manner: Manner,
    grant: oneshot::Sender<Grant>,
}

/// Takes those who no longer wait out of the queue, also when a request is given up.
struct Tidy<'w>(&'w RefCell<VecDeque<Waiter>>);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let mut waiters = self.0.borrow_mut();
        waiters.retain(|waiter| !waiter.grant.is_closed());
    }
}

impl Pool {
    /// The right to make a connection, or one that became free meanwhile.
    pub(in crate::upstream) async fn permit(
        self: &Rc<Self>,
        upstream: &Upstream,
        choice: &Choice,
        manner: &Manner,
        deadline: Instant,
    ) -> Result<Grant, ProxyError> {
        let budget = &self.state.budget;
        if budget.try_take(self.live.get() == 0) {
            return Ok(Grant::Permit(Permit::new(self)));
        }
        let overflow = || ProxyError::Overflow {
            upstream: upstream.name().clone(),
        };
        // Its permit comes back through the queue once its socket is closed.
        let closing = self.close_oldest();
        let _place = budget.queue(closing).ok_or_else(overflow)?;
        if !closing {
            budget.ask();
        }
        // Declared before the receiver, so that it finds the receiver gone.
        let _tidy = Tidy(&self.waiters);
        let (grant, mut granted) = oneshot::channel();
        if choice.takes_used() || manner.dialect != Dialect::Http1 {
            let manner = manner.clone();
            let waiter = Waiter { manner, grant };
            self.waiters.borrow_mut().push_back(waiter);
        }
        let outcome = timeout_at(deadline, async {
            tokio::select! {
                biased;
                Ok(grant) = &mut granted => match grant {
                    Grant::Lent(Lent::Whole(connection)) if !choice.takes(&connection.endpoint) => {
                        // Somebody else may like it; we wait for the budget.
                        self.take_back(connection);
                        budget.take().await;
                        Grant::Permit(Permit::new(self))
                    }
                    grant => grant,
                },
                () = budget.take() => Grant::Permit(Permit::new(self)),
            }
        })
        .await;
        // Whatever was granted in the same moment is not lost; a place or a permit finds its way by
        // itself.
        granted.close();
        if let Ok(Grant::Lent(Lent::Whole(connection))) = granted.try_recv() {
            self.take_back(connection);
        }
        outcome.map_err(|_| overflow())
    }

    /// Who waits longest for a connection that is spoken to like this, or for any, and that began with this
    /// header.
    pub(super) fn next_waiter(
        &self,
        dialect: Dialect,
        header: Option<&Introduction>,
    ) -> Option<oneshot::Sender<Grant>> {
        let mut waiters = self.waiters.borrow_mut();
        let takes = |it: &Manner| it.dialect == dialect || it.dialect == Dialect::Either;
        let takes = |it: &Manner| takes(it) && it.header.as_ref() == header;
        let waits = |it: &Waiter| takes(&it.manner) && !it.grant.is_closed();
        let at = waiters.iter().position(waits)?;
        waiters.remove(at).map(|waiter| waiter.grant)
    }

    /// Gives a connection to a request of this worker that waits for one, unless requests of other
    /// workers wait too and this worker has more than its share.
    pub(super) fn hand_over(
        &self,
        mut connection: Connection,
        waiting: usize,
    ) -> Option<Connection> {
        if waiting > self.waiters.borrow().len() && self.live.get() > self.fair {
            return Some(connection);
        }
        let header = connection.header.clone();
        while let Some(waiter) = self.next_waiter(Dialect::Http1, header.as_ref()) {
            match waiter.send(Grant::Lent(Lent::Whole(connection))) {
                Err(Grant::Lent(Lent::Whole(back))) => connection = back,
                Ok(()) | Err(_) => return None,
            }
        }
        Some(connection)
    }
}

impl Permit {
    /// The caller has taken one connection from the budget.
    fn new(pool: &Rc<Pool>) -> Self {
        pool.live.set(pool.live.get().saturating_add(1));
        Self(Rc::clone(pool))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let pool = &self.0;
        pool.live.set(pool.live.get().saturating_sub(1));
        pool.state.budget.give_back();
        // A worker may always have one: what waits here must not depend on the others.
        while pool.live.get() == 0 && !pool.waiters.borrow().is_empty() {
            let waiter = pool.waiters.borrow_mut().pop_front();
            let Some(waiter) = waiter.filter(|waiter| !waiter.grant.is_closed()) else {
                continue;
            };
            if pool.state.budget.try_take(true) {
                // If nobody takes it after all, dropping it comes here again.
                drop(waiter.grant.send(Grant::Permit(Self::new(pool))));
            }
        }
    }
}
