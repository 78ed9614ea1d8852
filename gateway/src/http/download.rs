//! A response body on its way. It carries its request's [`Exchange`] and ends it, so that the access
//! log tells what really happened to the body.

mod web;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{exchange::Exchange, normalize::clean_trailers};
use crate::{error::ProxyError, message::Body};

pub(crate) use web::into_web;

/// A response body, and the exchange that ends with it.
pub(crate) struct Download {
    inner: Body,
    exchange: Exchange,
    /// The whole request may not take longer.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Download {
    pub(crate) fn new(inner: Body, exchange: Exchange, deadline: Option<Instant>) -> Self {
        Self {
            inner,
            exchange,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
        }
    }

    fn fail(&mut self, error: ProxyError) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        // An upstream breaks off when the request body does; the cause is what must be told.
        let error = self.exchange.fault().map_or(error, ProxyError::from);
        self.exchange.fail(&error);
        self.exchange.end();
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return this.fail(ProxyError::RequestTimeout);
        }
        let mut frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            None => {
                this.exchange.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => return this.fail(error),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            this.exchange.sent(data);
        } else if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, true);
        }
        if this.inner.is_end_stream() {
            this.exchange.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
