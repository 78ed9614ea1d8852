//! HTTP/1: one request at a time.

use std::{
    convert::Infallible,
    error::Error as _,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use sluice_config::model::ListenerLimits;

use super::{Ending, wire::Wire};
use crate::{
    error::{Malformed, ProxyError},
    http::{
        exchange::{Visitor, unreadable},
        handle::handle,
        serve::phase::{At, Gone, Phase},
        upgrade,
        upload::{Fault, Pace, Progress, Upload},
    },
    message::{Body, Request},
};

/// hyper wants no smaller buffer; heads are bounded exactly beside it.
const SMALLEST_BUFFER: usize = 8 << 10;

const HEAD_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves the requests of one connection until it ends.
pub(super) async fn serve(wire: Wire, visitor: Rc<Visitor>, mut ending: Ending) {
    let service = service_fn(|request| call(Rc::clone(&visitor), request));
    let listener = &visitor.listener;
    let io = TokioIo::new(wire);
    let mut connection = codec(&listener.model.limits).serve_connection(io, service);
    let (mut told, mut closing) = (false, false);

    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ended);
            }
            told = told || ending.poll_drained(cx).is_ready();
            if told && !visitor.phase.hurry() {
                told = false;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            if closing {
                // What is still to be written has its own clock.
                return Poll::Pending;
            }
            match ready!(ending.clock.poll(cx)) {
                Gone::Idle => {
                    closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                // Whatever was under way is dropped with the connection, and says so.
                Gone::HeadTimeout
                | Gone::Closed
                | Gone::Stalled
                | Gone::Flood
                | Gone::Malformed => {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    })
    .await;
    let parts = connection.into_parts();
    let wire = parts.io.into_inner();
    let joint = visitor.joint.take();
    if let Some(joint) = joint {
        // Without its 101 the client is gone, and what was to be joined is dropped.
        if ended.is_ok()
            && visitor.phase.gone().is_none()
            && let Some((stream, ahead)) = wire.into_stream(parts.read_buf)
        {
            // Kept apart: few connections come to this, and every one has room for it.
            Box::pin(upgrade::join(joint, stream, ahead)).await;
        }
        return;
    }
    let (farewell, refused) = account(&visitor, ended.err().as_ref());
    Box::pin(wire.close(farewell, refused)).await;
}

pub(super) fn codec(limits: &ListenerLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(limits.head)
        .max_headers(limits.headers)
        .max_buf_size(limits.head.max(SMALLEST_BUFFER))
        // Ours: see `phase`. hyper's own knows no difference between idle and slow.
        .header_read_timeout(None);
    builder
}

/// Not `async`: the phase must have changed before hyper looks for what follows the head.
fn call(
    visitor: Rc<Visitor>,
    request: http::Request<Incoming>,
) -> impl Future<Output = Result<http::Response<Body>, Infallible>> {
    let has_body = !request.body().is_end_stream();
    visitor.phase.begin(has_body);
    let progress = || Progress::new(Rc::clone(&visitor.phase), visitor.local.counters.clone());
    let progress = has_body.then(|| Rc::new(progress()));
    let pace = Pace::of(&visitor.listener.model);
    let request: Request = request.map(|incoming| match &progress {
        None => Body::Empty,
        Some(progress) => {
            let received = Received(incoming);
            Body::stream(Upload::new(received, Rc::clone(progress), pace))
        }
    });
    // Boxed, because the codec keeps the room for it for as long as the connection lives.
    Box::pin(async move { Ok(handle(&visitor, request, progress).await) })
}

/// Notes why a connection ended in the middle of a head. Gives what is left to say to the client, and
/// whether it was refused: then it may still be sending.
fn account(visitor: &Visitor, error: Option<&hyper::Error>) -> (&'static [u8], bool) {
    let Some(refusal) = refusal(&visitor.phase, error) else {
        return (b"", false);
    };
    unreadable(visitor, &refusal, visitor.phase.lasted());
    match (&refusal, error) {
        (ProxyError::HeadTimeout, _) => (HEAD_TIMEOUT, true),
        // hyper gives up on another version without a word.
        (_, Some(error)) if error.is_parse_version_h2() => (BAD_REQUEST, true),
        (_, Some(error)) => (b"", error.is_parse()),
        (_, None) => (b"", false),
    }
}

/// Why no request came out of what was sent; none when nothing was, or a request was under way, which
/// accounts for itself.
fn refusal(phase: &Phase, error: Option<&hyper::Error>) -> Option<ProxyError> {
    match (phase.at(), error) {
        (At::Body | At::Answer, _) => None,
        (_, Some(error)) if error.is_parse_too_large() => Some(ProxyError::HeadTooLarge),
        (_, Some(error)) if error.is_parse() => Some(ProxyError::BadRequest(Malformed::Syntax)),
        (At::Head, _) if phase.gone() == Some(Gone::HeadTimeout) => Some(ProxyError::HeadTimeout),
        (At::Head, Some(_)) => Some(ProxyError::ClientClosed),
        (At::Head | At::Idle, _) => None,
    }
}

/// A request body as the codec gives it.
struct Received(Incoming);

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = Pin::new(&mut self.get_mut().0).poll_frame(cx);
        frame.map_err(|error| fault(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The codec tells broken framing and a lost client apart by the kind of the error inside only.
fn fault(error: &hyper::Error) -> Fault {
    let inner = error.source().and_then(|it| it.downcast_ref::<io::Error>());
    match inner.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other) => {
            Fault::Malformed
        }
        _ => Fault::Closed,
    }
}
