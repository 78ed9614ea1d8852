//! The two bodies of an exchange, each of which tells the other side how it goes.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::lease::Held;
use crate::{
    error::{BoxError, ProxyError},
    message::Body,
};

/// How the body of a request is doing. Shared by the body and whoever waits for the response.
#[derive(Debug, Default)]
pub(super) struct Upload(RefCell<UploadState>);

#[derive(Debug, Default)]
enum UploadState {
    /// Pieces are missing.
    #[default]
    UnderWay,
    /// Somebody wants to know when it is over.
    Watched(Waker),
    /// The codec has all it will get.
    Over,
    /// The client's side failed.
    Failed(ProxyError),
}

impl Upload {
    fn over(&self) {
        let mut state = self.0.borrow_mut();
        if let UploadState::Failed(_) = *state {
            return;
        }
        let before = mem::replace(&mut *state, UploadState::Over);
        drop(state);
        if let UploadState::Watched(waker) = before {
            waker.wake();
        }
    }

    fn fail(&self, error: ProxyError) {
        *self.0.borrow_mut() = UploadState::Failed(error);
    }

    /// Whether the codec has all of the body; wakes the caller when that changes.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.borrow_mut();
        match &mut *state {
            UploadState::UnderWay => {
                *state = UploadState::Watched(cx.waker().clone());
                false
            }
            UploadState::Watched(waker) => {
                waker.clone_from(cx.waker());
                false
            }
            UploadState::Over | UploadState::Failed(_) => true,
        }
    }

    /// Whether all of the body went to the codec without failing.
    pub(super) fn is_complete(&self) -> bool {
        matches!(*self.0.borrow(), UploadState::Over)
    }

    /// Why the client's side failed, once.
    pub(super) fn take_failure(&self) -> Option<ProxyError> {
        let mut state = self.0.borrow_mut();
        match mem::replace(&mut *state, UploadState::Over) {
            UploadState::Failed(error) => Some(error),
            other => {
                *state = other;
                None
            }
        }
    }
}

/// The body of a request, on its way into the codec.
pub(super) struct Outgoing {
    body: Body,
    /// Nothing when there is no body.
    upload: Option<Rc<Upload>>,
}

/// The codec is told that the body failed, not why: whoever waits for the response gets the cause.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
pub(super) struct UploadFailed;

impl Outgoing {
    pub(super) fn new(body: Body, upload: Option<Rc<Upload>>) -> Self {
        Self { body, upload }
    }

    /// The body again, when nothing was taken from it.
    pub(super) fn into_body(mut self) -> Body {
        mem::take(&mut self.body)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.over();
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = UploadFailed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(upload) = &this.upload else {
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| UploadFailed)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if this.body.is_end_stream() {
                    upload.over();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                upload.fail(error);
                Some(Err(UploadFailed))
            }
            None => {
                upload.over();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Returns its connection when it ended well, else closes it.
pub(super) struct Reply {
    incoming: Incoming,
    /// Gone once the body is over.
    held: Option<Held>,
    upload: Option<Rc<Upload>>,
    /// The longest pause between two pieces.
    pause: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether `timer` counts; it stays allocated between pauses.
    armed: bool,
}

/// A pause in a response that was longer than `timeouts.response_body`.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {0:?}")]
struct Paused(Duration);

impl Reply {
    pub(super) fn new(
        incoming: Incoming,
        held: Held,
        upload: Option<Rc<Upload>>,
        pause: Option<Duration>,
    ) -> Self {
        Self {
            incoming,
            held: Some(held),
            upload,
            pause,
            timer: None,
            armed: false,
        }
    }

    fn finish(&mut self) {
        if let Some(held) = self.held.take() {
            held.give_back();
        }
    }

    /// Ends the body; its connection closes.
    fn break_off(&mut self, source: BoxError) -> ProxyError {
        let failed = self
            .upload
            .as_ref()
            .and_then(|upload| upload.take_failure());
        let held = self.held.take();
        match (failed, held) {
            (Some(failed), _) => failed,
            (None, Some(held)) => held.broken(source),
            (None, None) => ProxyError::Internal,
        }
    }

    /// Whether nothing came for too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Paused> {
        let Some(pause) = self.pause else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if !self.armed {
            timer.as_mut().reset(Instant::now() + pause);
            self.armed = true;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Paused(pause))
    }
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        if this.held.is_none() {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            let paused = ready!(this.poll_pause(cx));
            return Poll::Ready(Some(Err(this.break_off(paused.into()))));
        };
        this.armed = false;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                // Nobody asks again once the length is reached.
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(this.break_off(error.into()))),
            None => {
                this.finish();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
