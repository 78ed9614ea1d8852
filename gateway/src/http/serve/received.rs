//! The body of an HTTP/2 request as the codec gives it.

use std::{
    cell::RefCell,
    error::Error as _,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::upload::Fault;

/// A request body. Shared with whoever asks what became of its stream.
pub(super) struct Received(Rc<RefCell<Incoming>>);

impl Received {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(Rc::new(RefCell::new(incoming)))
    }

    /// Whether the client broke the stream, once nobody reads it any more: the codec drops what answers,
    /// and tells only who reads on why.
    pub(super) fn asking(&self) -> impl Fn() -> bool + 'static {
        let shared = Rc::clone(&self.0);
        move || {
            let Ok(mut incoming) = shared.try_borrow_mut() else {
                return false;
            };
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                match Pin::new(&mut *incoming).poll_frame(&mut cx) {
                    // What came before it.
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => {
                        return inner(&error).is_some_and(|it| it.is_reset() && it.is_library());
                    }
                    Poll::Ready(None) | Poll::Pending => return false,
                }
            }
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut body = self.0.borrow_mut();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(fault(&error))),
            // The codec gives a request that was taken back without an error as one that ended.
            None => (!body.is_end_stream()).then_some(Err(Fault::Closed)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().size_hint()
    }
}

/// Broken framing is what the codec found; everything else the client, or the network, did.
fn fault(error: &hyper::Error) -> Fault {
    match inner(error) {
        Some(error) if error.is_library() => Fault::Malformed,
        _ => Fault::Closed,
    }
}

fn inner(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}
