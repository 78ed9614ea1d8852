//! An exchange on a connection of its own: HTTP/1.1.

use std::{pin::Pin, rc::Rc};

use futures_util::future::Either;
use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    request,
};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::{
    super::{
        connect::{Broken, Connection, Incoming, Switched, Whole, failure, refused},
        pool::Lent,
        upload::{Outgoing, Upload},
    },
    Account, Failed,
    reply::{Held, Reply, Unusable, examine},
    wait,
};
use crate::{
    error::{BoxError, ProxyError},
    message::{Body, Request, Response, Tunnel},
};

/// A protocol that was asked for, or none for a tunnel, and the connection if it comes to that.
struct Wanted {
    protocol: Option<HeaderValue>,
    switched: oneshot::Receiver<Switched>,
}

impl Wanted {
    /// Whether an answer may grant it.
    fn is_met_by(&self, status: StatusCode) -> bool {
        match self.protocol {
            Some(_) => status == StatusCode::SWITCHING_PROTOCOLS,
            None => status.is_success(),
        }
    }
}

/// An exchange that waits for its response.
struct Exchange {
    account: Account,
    connection: Connection,
    upload: Option<Rc<Upload>>,
    to_head: bool,
    reused: bool,
}

pub(super) fn send(
    account: Account,
    mut connection: Connection,
    request: Request,
    reused: bool,
) -> impl Future<Output = Result<Response, Failed>> + use<> {
    // Everything that needs no waiting happens here, so that the future stays small.
    let (mut parts, body) = request.into_parts();
    frame(&mut parts, &body);
    let protocol = parts.headers.get(UPGRADE).cloned();
    let wanted = (protocol.is_some() || parts.method == Method::CONNECT).then(|| Wanted {
        protocol,
        switched: connection.switched(),
    });
    let upload = (!body.is_end_stream()).then(|| Rc::new(Upload::default()));
    let to_head = parts.method == Method::HEAD;
    let request = http::Request::from_parts(parts, Outgoing::new(body, upload.clone()));
    let limit = account.upstream.model().timeouts.response_head;
    // The codec's future has room for a request, which here nobody needs twice.
    let mut answer = Box::pin(connection.send(request));
    let exchange = Exchange {
        account,
        connection,
        upload,
        to_head,
        reused,
    };
    if let Some(wanted) = wanted {
        return Either::Right(Box::pin(async move {
            let upload = exchange.upload.as_deref();
            match wait(|cx| Pin::new(&mut answer).poll(cx), upload, limit).await {
                Some(Ok(response)) if wanted.is_met_by(response.status()) => {
                    exchange.switch(response, wanted).await
                }
                Some(Ok(response)) => exchange.receive(response),
                Some(Err(broken)) => Err(exchange.fail(Some(broken))),
                None => Err(exchange.fail(None)),
            }
        }));
    }
    Either::Left(async move {
        let upload = exchange.upload.as_deref();
        match wait(|cx| Pin::new(&mut answer).poll(cx), upload, limit).await {
            Some(Ok(response)) => exchange.receive(response),
            Some(Err(broken)) => Err(exchange.fail(Some(broken))),
            None => Err(exchange.fail(None)),
        }
    })
}

impl Exchange {
    /// There was no response: the connection broke, or it took too long.
    fn fail(self, broken: Option<Broken>) -> Failed {
        let line = &self.connection.line;
        let upstream = &self.account.upstream;
        let (error, unsent) = match broken {
            Some(Broken { error, unsent }) => {
                let error = failure(error, line, upstream.name());
                if let ProxyError::UpstreamTls { source, .. } = &error {
                    let counters = &self.account.pool.counters;
                    refused(source, upstream, &self.connection.endpoint, counters);
                }
                (error, unsent)
            }
            None => (
                ProxyError::ResponseTimeout {
                    upstream: upstream.name().clone(),
                },
                None,
            ),
        };
        Failed {
            error: self
                .upload
                .and_then(|upload| upload.take_failure())
                .unwrap_or(error),
            // What came before the request was sent is no answer to it.
            answered: unsent.is_none() && line.received.get(),
            request: unsent.map(|request| Box::new(request.map(Outgoing::into_body))),
            reused: self.reused,
        }
    }

    /// Takes the connection out of the codec, if it went over to what was asked for.
    async fn switch(
        self,
        response: http::Response<Whole>,
        wanted: Wanted,
    ) -> Result<Response, Failed> {
        let upstream = self.account.upstream.name().clone();
        let failed = |source: BoxError| Failed {
            error: ProxyError::UpstreamProtocol { upstream, source },
            request: None,
            reused: self.reused,
            answered: true,
        };
        let (parts, _no_body) = response.into_parts();
        let Wanted { protocol, switched } = wanted;
        if let Some(protocol) = &protocol {
            let mut granted = parts.headers.get_all(UPGRADE).iter();
            let same = |granted: &HeaderValue| {
                granted.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())
            };
            if !granted.next().is_some_and(same) || granted.next().is_some() {
                return Err(failed(Unusable::OtherProtocol.into()));
            }
        }
        // The codec lets go as soon as it has seen the head.
        let limit = self.account.upstream.model().timeouts.response_head;
        let Switched {
            stream,
            ahead,
            permit,
        } = match tokio::time::timeout(limit, switched).await {
            Ok(Ok(switched)) => switched,
            Ok(Err(gone)) => return Err(failed(gone.into())),
            Err(elapsed) => return Err(failed(elapsed.into())),
        };
        let hold = Box::new((permit, self.account.active));
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
    fn receive(self, response: http::Response<Whole>) -> Result<Response, Failed> {
        let Self {
            account,
            connection,
            upload,
            to_head,
            reused,
        } = self;
        let (mut parts, incoming) = response.into_parts();
        // An answer before the end of the request: what is still under way belongs to nobody.
        let early = upload.as_ref().is_some_and(|upload| !upload.is_complete());
        let spoiled = match examine(&mut parts, to_head) {
            Ok(spoiled) => spoiled || early,
            Err(unusable) => {
                return Err(Failed {
                    error: ProxyError::UpstreamProtocol {
                        upstream: account.upstream.name().clone(),
                        source: unusable.into(),
                    },
                    request: None,
                    reused,
                    answered: true,
                });
            }
        };
        let pause = account.upstream.model().timeouts.response_body.get();
        let held = Held {
            account,
            lent: Lent::Whole(connection),
            spoiled,
            sending: None,
        };
        let incoming = Incoming::Http1(incoming);
        let body = if incoming.is_end_stream() && !early {
            held.give_back();
            Body::Empty
        } else {
            Body::stream(Reply::new(incoming, held, upload, pause))
        };
        Ok(http::Response::from_parts(parts, body))
    }
}

/// Settles how the request's length is told.
fn frame(parts: &mut request::Parts, body: &Body) {
    parts.version = Version::HTTP_11;
    if parts.method == Method::CONNECT
        && let Some(target) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(target.as_str())
    {
        // RFC 9112 §3.2.2: it names what the target does.
        parts.headers.insert(HOST, host);
    }
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
