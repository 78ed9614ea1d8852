//! The response of an endpoint on its way to the client.
//!
//! Its body owns the connection to its end: only an exchange that ended cleanly on both sides returns
//! it to its pool, everything else closes it.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{
    super::{
        connect::{Incoming, Sending},
        pool::Lent,
        upload::Upload,
    },
    Account,
};
use crate::error::{BoxError, ProxyError};

/// What a response's body keeps until it is over.
pub(super) struct Held {
    pub(super) account: Account,
    pub(super) lent: Lent,
    /// The connection must not be used again. A shared one never is spoiled by one request.
    pub(super) spoiled: bool,
    /// What is still under way of the request ends with the response.
    pub(super) sending: Option<Sending>,
}

/// What makes a response unusable though the codec could read it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it switches protocols without being asked")]
    Switching,
    #[error("it switches to another protocol than was asked for")]
    OtherProtocol,
    #[error("its transfer coding is not chunked")]
    TransferCoding,
    #[error("it has more than one length")]
    Lengths,
}

impl Held {
    /// The exchange ended cleanly.
    pub(super) fn give_back(self) {
        let Self {
            account,
            lent,
            spoiled,
            sending,
        } = self;
        drop(sending);
        // Whoever gets the connection must not find its endpoint busy with this request.
        drop(account.active);
        match lent {
            Lent::Whole(connection) if !spoiled => account.pool.take_back(connection),
            Lent::Whole(_) | Lent::Part(_) => {}
        }
    }

    /// The exchange broke off.
    fn broken(self, source: BoxError) -> ProxyError {
        ProxyError::ResponseBroken {
            upstream: self.account.upstream.name().clone(),
            source,
        }
    }
}

/// Makes the length of the response unambiguous; says whether the connection is spoiled.
pub(super) fn examine(parts: &mut response::Parts, to_head: bool) -> Result<bool, Unusable> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unusable::Switching);
    }
    // An older origin frames requests differently; a fresh connection starts over.
    let mut spoiled = parts.version != Version::HTTP_11;
    let bodiless = to_head
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !bodiless && (!chunked || codings.next().is_some()) {
            return Err(Unusable::TransferCoding);
        }
        // RFC 9112 §6.3: of two lengths the chunks win; but whoever sends two is not to be trusted
        // with a second exchange.
        spoiled |= parts.headers.remove(CONTENT_LENGTH).is_some();
    }
    one_length(parts)?;
    Ok(spoiled)
}

/// Where one length is told more than once, tells it once.
pub(super) fn one_length(parts: &mut response::Parts) -> Result<(), Unusable> {
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    let mut more = lengths.peekable();
    if more.peek().is_some() {
        // The codec of HTTP/1 makes sure that they are equal; that of HTTP/2 looks at the first.
        if more.any(|other| Some(other) != first) {
            return Err(Unusable::Lengths);
        }
        if let Some(length) = first.cloned() {
            parts.headers.insert(CONTENT_LENGTH, length);
        }
    }
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Ok(())
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
            Some(Err(error)) => Some(Err(this.break_off(error))),
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
