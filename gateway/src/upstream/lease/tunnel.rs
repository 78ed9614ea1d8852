//! A tunnel on a shared connection: CONNECT and extended CONNECT over HTTP/2 (RFC 9113 §8.5, RFC 8441).

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::UPGRADE, request};
use http_body::Body as _;

use super::{
    super::{
        connect::{Given, Incoming, Opening, Refusal},
        pool::{Lent, Place},
    },
    Account, Failed,
    reply::{Held, Reply, one_length},
    wait,
};
use crate::{
    error::ProxyError,
    message::{Body, Request, Response, Tunnel},
    stream::{Stream, WriteStall},
};

/// Whether a request asks for a tunnel, with a protocol or without.
pub(super) fn is_asked_for(request: &Request) -> bool {
    request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// An exchange that waits for its response.
struct Exchange {
    account: Account,
    place: Place,
    opening: Opening,
    parts: request::Parts,
    reused: bool,
}

pub(super) async fn open(
    account: Account,
    place: Place,
    request: Request,
    reused: bool,
) -> Result<Response, Failed> {
    // Whoever asks for a tunnel has made sure that there is no body.
    let (parts, _no_body) = request.into_parts();
    let limit = account.upstream.model().timeouts.response_head;
    let channel = Rc::clone(&place.channel);
    let opened = channel.open(&parts, account.upstream.name());
    let (mut answer, opening) = opened.map_err(|refusal| Failed {
        error: refusal.error,
        request: None,
        reused,
        answered: refusal.answered,
    })?;
    let exchange = Exchange {
        account,
        place,
        opening,
        parts,
        reused,
    };
    let heard = channel.line.reads.get();
    match wait(|cx| answer.poll_head(cx), None, limit).await {
        Some(Ok(response)) => exchange.receive(response),
        Some(Err(error)) => {
            let refusal = channel.failure(error, exchange.account.upstream.name());
            Err(exchange.fail(refusal))
        }
        None => {
            // As for any request: it may be dead.
            if channel.line.reads.get() == heard {
                channel.retire();
            }
            let upstream = exchange.account.upstream.name().clone();
            Err(exchange.fail(Refusal {
                error: ProxyError::ResponseTimeout { upstream },
                answered: false,
            }))
        }
    }
}

impl Exchange {
    /// There was no response.
    fn fail(self, refusal: Refusal) -> Failed {
        let Refusal { error, answered } = refusal;
        let unseen = matches!(error, ProxyError::StreamRefused { .. });
        Failed {
            error,
            request: unseen.then(|| Box::new(Request::from_parts(self.parts, Body::Empty))),
            reused: self.reused,
            answered,
        }
    }

    /// Makes the codec's response ours: in the form that HTTP/1.1 has of it.
    fn receive(self, response: http::Response<Given>) -> Result<Response, Failed> {
        let (mut parts, given) = response.into_parts();
        if parts.status.is_success() {
            let protocol: Option<HeaderValue> = self.parts.headers.get(UPGRADE).cloned();
            if protocol.is_some() {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
            }
            let stall = self.account.upstream.model().timeouts.write_stall;
            let stream = Stream::Tunnel(Box::pin(self.opening.into_tunnel(given)));
            let tunnel = Tunnel {
                protocol,
                stream: WriteStall::new(stream, stall),
                ahead: Bytes::new(),
                hold: Box::new((self.place, self.account.active)),
            };
            let body = Body::Tunnel(Box::new(tunnel));
            return Ok(http::Response::from_parts(parts, body));
        }
        if let Err(unusable) = one_length(&mut parts) {
            let upstream = self.account.upstream.name().clone();
            let source = unusable.into();
            return Err(self.fail(Refusal {
                error: ProxyError::UpstreamProtocol { upstream, source },
                answered: true,
            }));
        }
        self.opening.give_up();
        let pause = self.account.upstream.model().timeouts.response_body.get();
        let held = Held {
            account: self.account,
            lent: Lent::Part(self.place),
            spoiled: false,
            sending: None,
        };
        let incoming = Incoming::Http2(given);
        let body = if incoming.is_end_stream() {
            held.give_back();
            Body::Empty
        } else {
            Body::stream(Reply::new(incoming, held, None, pause))
        };
        Ok(http::Response::from_parts(parts, body))
    }
}
