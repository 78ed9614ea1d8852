//! The tasks of an HTTP/2 connection: one for each request, and one for what each tunnel sends.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

use super::tunnel::Pump;
use crate::{
    drain::Tasks,
    http::serve::phase::{Gone, Phase, Streams, after},
};

/// What the next task of the codec is for: it brings the task right after we know.
pub(super) type Called = Rc<RefCell<Option<Next>>>;

pub(super) enum Next {
    /// A request that it just called for.
    Request(Rc<Phase>),
    /// What sends the client the bytes of a tunnel.
    Tunnel(Arc<Pump>),
}

/// Runs the tasks of requests.
#[derive(Clone)]
pub(super) struct Executive {
    pub(super) tasks: Tasks,
    pub(super) streams: Rc<Streams>,
    pub(super) called: Called,
    pub(super) stall: Duration,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Executive {
    fn execute(&self, task: F) {
        let open = self.streams.open();
        let stall = self.stall;
        let mut task = Box::pin(task);
        let phase = match self.called.take() {
            Some(Next::Request(phase)) => Some(phase),
            Some(Next::Tunnel(pump)) => {
                self.tasks.spawn_local(async move {
                    let _open = open;
                    pump.run(task).await;
                });
                return;
            }
            None => None,
        };
        self.tasks.spawn_local(async move {
            let _open = open;
            let mut timer = None;
            poll_fn(|cx| {
                if task.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                match &phase {
                    None => Poll::Pending,
                    Some(phase) => stalled(phase, stall, &mut timer, cx),
                }
            })
            .await;
            // Dropped first, if it was cut: the codec resets its stream.
            drop(task);
        });
    }
}

/// Ready when the client has not let us send what we have for too long.
fn stalled(
    phase: &Phase,
    stall: Duration,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let Some(since) = phase.pinned() else {
            return Poll::Pending;
        };
        let deadline = after(since, stall);
        if Instant::now() >= deadline {
            phase.end_with(Gone::Stalled);
            return Poll::Ready(());
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // It may ring for an earlier piece; then it is set again.
        if timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
    }
}
