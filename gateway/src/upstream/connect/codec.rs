//! Who runs the codec of an HTTP/1.1 connection.
//!
//! While an exchange has the connection, its task does: the request goes out and its answer comes in
//! without another task in between. While nobody has it, a task of its own does, which finds out
//! when the peer closes it. Whoever polls it last is woken by its socket, so never both do.

use std::{
    cell::{Cell, RefCell},
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{super::upload::Outgoing, wire::Wire};
use crate::stream::{Stream, WriteStall};

type Running = http1::Connection<TokioIo<Wire>, Outgoing>;

/// The codec of a connection, shared by the connection and its task.
#[derive(Debug)]
pub(super) struct Codec {
    state: RefCell<State>,
    /// An exchange runs it.
    held: Cell<bool>,
    /// The connection's own task.
    task: RefCell<Option<Waker>>,
}

#[derive(Debug)]
enum State {
    Runs(Box<Running>),
    /// It broke, or what it left has been taken.
    Over,
    /// It has nothing more to say.
    Left(Left),
}

/// The stream below a codec that is done, and what was read from it too far.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) stream: WriteStall<Stream>,
    pub(super) ahead: Bytes,
}

impl Codec {
    pub(super) fn new(running: Running) -> Self {
        Self {
            state: RefCell::new(State::Runs(Box::new(running))),
            held: Cell::new(false),
            task: RefCell::default(),
        }
    }

    /// An exchange runs it from now on.
    pub(super) fn hold(&self) {
        self.held.set(true);
    }

    /// The connection's own task runs it from now on.
    pub(super) fn release(&self) {
        if self.held.replace(false) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Lets it get on, for whoever has the connection.
    pub(super) fn poll(&self, cx: &mut Context<'_>) {
        if self.advance(cx) {
            self.wake();
        }
    }

    /// The next piece of a response, for whoever has the connection.
    pub(super) fn poll_frame(
        &self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = Pin::new(body);
        if !self.held.get() {
            return body.poll_frame(cx);
        }
        // Pieces come from the codec alone, which wakes whoever polled it.
        let mut quiet = Context::from_waker(Waker::noop());
        let waiting = body.as_mut().poll_frame(&mut quiet);
        if waiting.is_ready() {
            return waiting;
        }
        self.poll(cx);
        body.poll_frame(&mut quiet)
    }

    /// For the connection's own task: ready when the codec is done, with what it left unless it
    /// broke.
    pub(super) fn poll_own(&self, cx: &mut Context<'_>) -> Poll<Option<Left>> {
        match &mut *self.task.borrow_mut() {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if !self.held.get() {
            self.advance(cx);
        }
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Runs(_)) {
            return Poll::Pending;
        }
        Poll::Ready(match mem::replace(&mut *state, State::Over) {
            State::Left(left) => Some(left),
            State::Over | State::Runs(_) => None,
        })
    }

    /// Polls it; says whether it is done with that.
    fn advance(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.state.borrow_mut();
        let State::Runs(running) = &mut *state else {
            return false;
        };
        let Poll::Ready(outcome) = running.poll_without_shutdown(cx) else {
            return false;
        };
        if let Err(error) = outcome {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "a connection to an endpoint broke");
        } else if let State::Runs(running) = mem::replace(&mut *state, State::Over) {
            let parts = running.into_parts();
            *state = State::Left(Left {
                stream: parts.io.into_inner().into_inner(),
                ahead: parts.read_buf,
            });
            return true;
        }
        *state = State::Over;
        true
    }
}
