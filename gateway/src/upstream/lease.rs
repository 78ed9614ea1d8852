//! A connection lent for one exchange: sends the request, waits for the head of the response.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use futures_util::future::Either;
use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
    request,
};
use http_body::Body as _;
use tokio::{sync::oneshot, time::Instant};

use super::{
    EndpointKey, Upstream,
    connect::{Broken, Connection, Incoming, Switched, failure},
    endpoints::Active,
    pool::Pool,
    reply::{Held, Reply, Unusable, examine},
    upload::{Outgoing, Upload},
};
use crate::{
    error::{BoxError, ProxyError},
    message::{Body, Request, Response, Tunnel},
};

/// A connection for one request. Dropped unused, it is closed.
#[derive(Debug)]
pub struct Lease {
    pub(super) pool: Rc<Pool>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) connection: Connection,
    /// Counted until the response's body is over.
    pub(super) active: Active,
}

/// A protocol that was asked for, and the connection if it comes to that.
struct Wanted {
    protocol: HeaderValue,
    switched: oneshot::Receiver<Switched>,
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
        self.active.endpoint().key.as_str()
    }

    /// The endpoint, to name it in a [`super::Choice`].
    pub fn endpoint_key(&self) -> EndpointKey {
        self.active.endpoint().key.clone()
    }

    /// Whether the connection has carried another request before.
    pub fn reused(&self) -> bool {
        self.connection.served > 0
    }

    /// Sends the request and waits for the head of the response, at most `timeouts.response_head`
    /// from when all of the request was sent.
    ///
    /// The target has to be in origin form and `Host` set; framing is settled here: a body of
    /// unknown length is sent chunked, and trailers only if a `Trailer` field names them. With
    /// `Upgrade`, which names one protocol, the body of a 101 is a [`Body::Tunnel`].
    pub fn send(
        mut self,
        request: Request,
    ) -> impl Future<Output = Result<Response, Failed>> + use<> {
        // Everything that needs no waiting happens here, so that the future stays small.
        let reused = self.reused();
        let (mut parts, body) = request.into_parts();
        frame(&mut parts, &body);
        let wanted = parts.headers.get(UPGRADE).map(|protocol| Wanted {
            protocol: protocol.clone(),
            switched: self.connection.switched(),
        });
        let upload = (!body.is_end_stream()).then(|| Rc::new(Upload::default()));
        let to_head = parts.method == Method::HEAD;
        let request = http::Request::from_parts(parts, Outgoing::new(body, upload.clone()));
        let limit = self.upstream.model().timeouts.response_head;
        // The codec's future has room for a request, which here nobody needs twice.
        let mut answer = Box::pin(self.connection.send(request));
        if let Some(wanted) = wanted {
            return Either::Right(Box::pin(async move {
                match wait(&mut answer, upload.as_deref(), limit).await {
                    Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                        self.switch(response, wanted, reused).await
                    }
                    Some(Ok(response)) => self.receive(response, upload, to_head, reused),
                    Some(Err(broken)) => Err(self.fail(Some(broken), upload, reused)),
                    None => Err(self.fail(None, upload, reused)),
                }
            }));
        }
        Either::Left(async move {
            match wait(&mut answer, upload.as_deref(), limit).await {
                Some(Ok(response)) => self.receive(response, upload, to_head, reused),
                Some(Err(broken)) => Err(self.fail(Some(broken), upload, reused)),
                None => Err(self.fail(None, upload, reused)),
            }
        })
    }

    /// There was no response: the connection broke, or it took too long.
    fn fail(self, broken: Option<Broken>, upload: Option<Rc<Upload>>, reused: bool) -> Failed {
        let line = &self.connection.line;
        let upstream = self.upstream.name();
        let (error, unsent) = match broken {
            Some(Broken { error, unsent }) => (failure(error, line, upstream), unsent),
            None => (
                ProxyError::ResponseTimeout {
                    upstream: upstream.clone(),
                },
                None,
            ),
        };
        Failed {
            error: upload
                .and_then(|upload| upload.take_failure())
                .unwrap_or(error),
            // What came before the request was sent is no answer to it.
            answered: unsent.is_none() && line.received.get(),
            request: unsent.map(|request| Box::new(request.map(Outgoing::into_body))),
            reused,
        }
    }

    /// Takes the connection out of the codec, if it went over to what was asked for.
    async fn switch(
        self,
        response: http::Response<Incoming>,
        wanted: Wanted,
        reused: bool,
    ) -> Result<Response, Failed> {
        let upstream = self.upstream.name().clone();
        let failed = |source: BoxError| Failed {
            error: ProxyError::UpstreamProtocol { upstream, source },
            request: None,
            reused,
            answered: true,
        };
        let (parts, _no_body) = response.into_parts();
        let Wanted { protocol, switched } = wanted;
        let mut granted = parts.headers.get_all(UPGRADE).iter();
        let same =
            |granted: &HeaderValue| granted.as_bytes().eq_ignore_ascii_case(protocol.as_bytes());
        if !granted.next().is_some_and(same) || granted.next().is_some() {
            return Err(failed(Unusable::OtherProtocol.into()));
        }
        // The codec lets go as soon as it has seen the head.
        let limit = self.upstream.model().timeouts.response_head;
        let Switched {
            stream,
            ahead,
            permit,
        } = match tokio::time::timeout(limit, switched).await {
            Ok(Ok(switched)) => switched,
            Ok(Err(gone)) => return Err(failed(gone.into())),
            Err(elapsed) => return Err(failed(elapsed.into())),
        };
        let hold = Box::new((permit, self.active));
        let tunnel = Tunnel {
            protocol,
            stream,
            ahead,
            hold,
        };
        Ok(http::Response::from_parts(
            parts,
            Body::Tunnel(Box::new(tunnel)),
        ))
    }

    /// Makes the codec's response ours.
    fn receive(
        self,
        response: http::Response<Incoming>,
        upload: Option<Rc<Upload>>,
        to_head: bool,
        reused: bool,
    ) -> Result<Response, Failed> {
        let (mut parts, incoming) = response.into_parts();
        // An answer before the end of the request: what is still under way belongs to nobody.
        let early = upload.as_ref().is_some_and(|upload| !upload.is_complete());
        let spoiled = match examine(&mut parts, to_head) {
            Ok(spoiled) => spoiled || early,
            Err(unusable) => {
                return Err(Failed {
                    error: ProxyError::UpstreamProtocol {
                        upstream: self.upstream.name().clone(),
                        source: unusable.into(),
                    },
                    request: None,
                    reused,
                    answered: true,
                });
            }
        };
        let pause = self.upstream.model().timeouts.response_body.get();
        let Self {
            pool,
            upstream,
            connection,
            active,
        } = self;
        let held = Held {
            pool,
            upstream,
            connection,
            active,
            spoiled,
        };
        let body = if incoming.is_end_stream() && !early {
            held.give_back();
            Body::Empty
        } else {
            Body::stream(Reply::new(incoming, held, upload, pause))
        };
        Ok(http::Response::from_parts(parts, body))
    }
}

/// Waits for `answer`; nothing when it takes longer than `limit` from the end of the request.
async fn wait<T>(
    answer: &mut (impl Future<Output = T> + Unpin),
    upload: Option<&Upload>,
    limit: Duration,
) -> Option<T> {
    let mut timer = pin!(tokio::time::sleep(limit));
    let mut armed = upload.is_none();
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut *answer).poll(cx) {
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

/// Settles how the request's length is told.
fn frame(parts: &mut request::Parts, body: &Body) {
    parts.version = Version::HTTP_11;
    // The codec takes it that GET and HEAD have no body, unless told otherwise.
    if !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        parts
            .headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
