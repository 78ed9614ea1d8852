//! A connection lent for one exchange: sends the request, waits for the head of the response.

mod part;
mod reply;
mod tunnel;
mod whole;

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, future::Either};
use tokio::time::Instant;

use super::{
    EndpointKey, Upstream,
    endpoints::Active,
    pool::{Lent, Pool},
    upload::Upload,
};
use crate::{
    error::ProxyError,
    message::{Request, Response},
};

/// A connection, or room on one, for one request. Dropped unused, the connection is closed if it is
/// not shared.
#[derive(Debug)]
pub struct Lease {
    pub(super) account: Account,
    pub(super) lent: Lent,
}

/// On whose account something is lent, until the response's body is over.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) pool: Rc<Pool>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) active: Active,
}

/// There is no connection to be had.
#[derive(Debug)]
pub struct NoLease {
    /// Why.
    pub error: ProxyError,
    /// The endpoint that was tried last, if it came to that.
    pub endpoint: Option<EndpointKey>,
}

impl From<NoLease> for ProxyError {
    fn from(no: NoLease) -> Self {
        no.error
    }
}

/// Before any endpoint was tried.
impl From<ProxyError> for NoLease {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            endpoint: None,
        }
    }
}

/// A request that got no response.
#[derive(Debug)]
pub struct Failed {
    /// Why. A failure of the request's own body comes out as it went in.
    pub error: ProxyError,
    /// The request, when no byte of it was sent.
    pub request: Option<Box<Request>>,
    /// Whether the connection had carried another request before, and may have died since.
    pub reused: bool,
    /// Whether any byte came back after it was sent.
    pub answered: bool,
}

impl Lease {
    /// The address of the endpoint.
    pub fn endpoint(&self) -> &str {
        self.account.active.endpoint().key.as_str()
    }

    /// The endpoint, to name it in a [`super::Choice`].
    pub fn endpoint_key(&self) -> EndpointKey {
        self.account.active.endpoint().key.clone()
    }

    /// Whether the connection has carried another request before.
    pub fn reused(&self) -> bool {
        match &self.lent {
            Lent::Whole(connection) => connection.served > 0,
            Lent::Part(place) => place.channel.served.get() > 0,
        }
    }

    /// Sends the request and waits for the head of the response, at most `timeouts.response_head`
    /// from when all of the request was sent.
    ///
    /// The target has to be in origin form and `Host` set; framing is settled here: over HTTP/1.1 a
    /// body of unknown length is sent chunked, and trailers only if a `Trailer` field names them.
    /// With `Upgrade`, which names one protocol, the body of a 101 is a [`crate::message::Body::Tunnel`],
    /// and so is that of a 2xx to CONNECT, whose target has to be in authority form.
    pub fn send(self, request: Request) -> impl Future<Output = Result<Response, Failed>> + use<> {
        let reused = self.reused();
        let Self { account, lent } = self;
        match lent {
            Lent::Whole(connection) => {
                Either::Left(whole::send(account, connection, request, reused))
            }
            Lent::Part(place) if tunnel::is_asked_for(&request) => {
                Either::Right(tunnel::open(account, place, request, reused).boxed_local())
            }
            // It remembers the whole request, so that the future of HTTP/1 stays small.
            Lent::Part(place) => {
                Either::Right(part::send(account, place, request, reused).boxed_local())
            }
        }
    }
}

/// Waits for `answer`; nothing when it takes longer than `limit` from the end of the request.
async fn wait<T>(
    mut answer: impl FnMut(&mut Context<'_>) -> Poll<T>,
    upload: Option<&Upload>,
    limit: Duration,
) -> Option<T> {
    let mut timer = pin!(tokio::time::sleep(limit));
    let mut armed = upload.is_none();
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = answer(cx) {
            return Poll::Ready(Some(outcome));
        }
        if !armed {
            if upload.is_some_and(|upload| !upload.is_over(cx)) {
                return Poll::Pending;
            }
            armed = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(None)
    })
    .await
}
