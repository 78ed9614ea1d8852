//! A response body on its way. It carries its request's [`Exchange`] and ends it, so that the access
//! log tells what really happened to the body.

mod web;

use std::{
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{exchange::Exchange, normalize::clean_trailers, respond::grpc_failure};
use crate::{
    error::ProxyError,
    message::Body,
    telemetry::metrics::{Counter, Shard},
};

pub(crate) use web::into_web;

/// The most that a stream of many is handed at once: one frame. What the codec holds cannot be seen
/// from here, so that this is also how fine the clock for a client that does not read can measure.
const PIECE: usize = 16 << 10;

/// A response body, and the exchange that ends with it.
pub(crate) struct Download {
    inner: Body,
    /// Of the piece before, what was more than one piece.
    rest: Bytes,
    exchange: Exchange,
    /// The whole request may not take longer.
    deadline: Option<Pin<Box<Sleep>>>,
    /// It answers a gRPC call that hears of a failure in trailers.
    call: bool,
    failed: bool,
}

impl Download {
    /// `call`: it answers a gRPC call that hears of a failure in trailers.
    pub(crate) fn new(
        inner: Body,
        exchange: Exchange,
        deadline: Option<Instant>,
        call: bool,
    ) -> Self {
        Self {
            call,
            failed: false,
            inner,
            rest: Bytes::new(),
            exchange,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
        }
    }

    fn fail(&mut self, error: ProxyError) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        // An upstream breaks off when the request body does; the cause is what must be told.
        let error = self.exchange.fault().map_or(error, ProxyError::from);
        self.exchange.fail(&error);
        self.exchange.end();
        self.failed = true;
        // A message that was cut is not taken for a whole one: its length stands before it.
        Poll::Ready(Some(if self.call {
            Ok(Frame::trailers(grpc_failure(&error)))
        } else {
            Err(error)
        }))
    }

    /// Hands a piece to the codec.
    fn hand(&mut self, mut data: Bytes) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let phase = &self.exchange.visitor.phase;
        if phase.is_stream() {
            self.rest = data.split_off(data.len().min(PIECE));
            phase.hand(true);
        }
        self.exchange.sent(&data);
        // Of a stream the last piece may wait for a client that never wants it.
        if self.is_handed() && !self.exchange.is_stream() {
            self.exchange.end();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// Whether the codec has all of it.
    fn is_handed(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

/// The next piece. A panic on the way to it ends its own answer, which the client sees cut, and no
/// other on the same connection.
pub(super) fn isolated(
    body: &mut Body,
    cx: &mut Context<'_>,
    counters: &Shard,
) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
    let polled = AssertUnwindSafe(|| Pin::new(body).poll_frame(cx));
    panic::catch_unwind(polled).unwrap_or_else(|_panic| {
        counters.count(Counter::Panics);
        Poll::Ready(Some(Err(ProxyError::Internal)))
    })
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.is_handed() && self.exchange.visitor.phase.gone().is_none() {
            self.exchange.end();
        }
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
        this.exchange.visitor.phase.hand(false);
        if this.failed {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return this.fail(ProxyError::RequestTimeout);
        }
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return this.hand(rest);
        }
        let counters = &this.exchange.visitor.local.counters;
        let mut frame = match ready!(isolated(&mut this.inner, cx, counters)) {
            None => {
                this.exchange.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => return this.fail(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return this.hand(data),
                Err(frame) => frame,
            },
        };
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, true);
        }
        if this.inner.is_end_stream() {
            this.exchange.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.is_handed()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for the length of the whole, before the first piece.
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    struct Defect;

    impl HttpBody for Defect {
        type Data = Bytes;
        type Error = ProxyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
            panic!("on purpose")
        }
    }

    #[tokio::test]
    async fn a_panic_on_the_way_to_a_piece_is_a_failure_of_its_own_answer() {
        let metrics = Metrics::new(1);
        let counters = metrics.worker(0);
        let mut body = Body::stream(Defect);

        let frame = poll_fn(|cx| isolated(&mut body, cx, &counters)).await;

        assert!(matches!(frame, Some(Err(ProxyError::Internal))));
        assert_eq!(metrics.sum(Counter::Panics), 1);
    }
}
