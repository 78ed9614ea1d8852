//! An exchange on a shared connection: HTTP/2.

use std::rc::Rc;

use http::request;
use http_body::Body as _;

use super::{
    super::{
        connect::{Given, Incoming, Load, Refusal, Sending},
        pool::{Lent, Place},
        upload::Upload,
    },
    Account, Failed,
    reply::{Held, Reply, one_length},
    wait,
};
use crate::{
    error::ProxyError,
    message::{Body, Request, Response},
};

/// An exchange that waits for its response.
struct Exchange {
    account: Account,
    place: Place,
    /// What was asked, to ask elsewhere if the endpoint refuses it unseen.
    parts: request::Parts,
    sending: Sending,
    upload: Option<Rc<Upload>>,
    reused: bool,
}

pub(super) async fn send(
    account: Account,
    place: Place,
    request: Request,
    reused: bool,
) -> Result<Response, Failed> {
    let (parts, body) = request.into_parts();
    let upload = (!body.is_end_stream()).then(|| Rc::new(Upload::default()));
    let timeouts = account.upstream.model().timeouts;
    let load = Load {
        body,
        upload: upload.clone(),
        upstream: account.upstream.name().clone(),
        stall: timeouts.write_stall,
    };
    let channel = Rc::clone(&place.channel);
    let sent = channel.send(&parts, load, &account.pool.tasks);
    let (mut answer, sending) = sent.map_err(|refusal| Failed {
        error: refusal.error,
        request: None,
        reused,
        answered: refusal.answered,
    })?;
    let exchange = Exchange {
        account,
        place,
        parts,
        sending,
        upload,
        reused,
    };
    let heard = channel.line.reads.get();
    let upload = exchange.upload.as_deref();
    match wait(|cx| answer.poll_head(cx), upload, timeouts.response_head).await {
        Some(Ok(response)) => exchange.receive(response),
        Some(Err(error)) => {
            let refusal = channel.failure(error, exchange.account.upstream.name());
            Err(exchange.fail(refusal))
        }
        None => {
            // It may be dead, and nobody would notice but those who wait for it.
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
        let failed = self.upload.and_then(|upload| upload.take_failure());
        let body = if unseen && failed.is_none() {
            self.sending.recover()
        } else {
            None
        };
        let request = body.map(|body| Box::new(Request::from_parts(self.parts, body)));
        Failed {
            error: failed.unwrap_or(error),
            request,
            reused: self.reused,
            answered,
        }
    }

    /// Makes the codec's response ours.
    fn receive(self, response: http::Response<Given>) -> Result<Response, Failed> {
        let (mut parts, given) = response.into_parts();
        if let Err(unusable) = one_length(&mut parts) {
            let upstream = self.account.upstream.name().clone();
            let source = unusable.into();
            return Err(self.fail(Refusal {
                error: ProxyError::UpstreamProtocol { upstream, source },
                answered: true,
            }));
        }
        let early = self.upload.as_ref().is_some_and(|it| !it.is_complete());
        let pause = self.account.upstream.model().timeouts.response_body.get();
        let held = Held {
            account: self.account,
            lent: Lent::Part(self.place),
            spoiled: false,
            sending: Some(self.sending),
        };
        let incoming = Incoming::Http2(given);
        let body = if incoming.is_end_stream() && !early {
            held.give_back();
            Body::Empty
        } else {
            Body::stream(Reply::new(incoming, held, self.upload, pause))
        };
        Ok(http::Response::from_parts(parts, body))
    }
}
