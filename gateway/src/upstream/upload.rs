//! The body of a request on its way to the endpoint, and word of how it is doing.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{error::ProxyError, message::Body};

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

    /// It will never be complete.
    pub(super) fn fail(&self, error: ProxyError) {
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
