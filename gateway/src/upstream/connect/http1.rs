//! HTTP/1.1 connections: each carries one request at a time.

use std::{any::Any, cell::RefCell, future::poll_fn, io, rc::Rc, sync::Arc};

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use sluice_certs::client::{ConnectError, Part};
use sluice_config::names::UpstreamName;
use tokio::{
    io::AsyncWriteExt as _,
    sync::oneshot,
    time::{Duration, Instant},
};

use super::{
    super::{
        endpoints::{Endpoint, Introduction, Way},
        upload::Outgoing,
    },
    wire::{Line, Wire},
};
use crate::{
    drain::Tasks,
    error::ProxyError,
    stream::{Stream, WriteStall},
};

/// The most that the codec buffers in each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// A connection to an endpoint. Dropping it closes the socket, whatever was under way.
#[derive(Debug)]
pub(in crate::upstream) struct Connection {
    sender: SendRequest<Outgoing>,
    pub(in crate::upstream) line: Rc<Line>,
    pub(in crate::upstream) endpoint: Arc<Endpoint>,
    /// What it began with.
    pub(in crate::upstream) header: Option<Introduction>,
    pub(in crate::upstream) born: Instant,
    /// Requests it has taken.
    pub(in crate::upstream) served: u64,
    switch: Switch,
    /// Its task ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

/// Who wants the stream once the codec is done with it.
type Switch = Rc<RefCell<Option<oneshot::Sender<Switched>>>>;

/// A connection on which the codec has nothing more to say.
#[derive(Debug)]
pub(in crate::upstream) struct Switched {
    pub(in crate::upstream) stream: WriteStall<Stream>,
    /// What came behind the head of the answer.
    pub(in crate::upstream) ahead: Bytes,
    pub(in crate::upstream) permit: Box<dyn Any>,
}

/// How a request failed on a connection.
pub(in crate::upstream) struct Broken {
    pub(in crate::upstream) error: hyper::Error,
    /// The request, when no byte of it was sent.
    pub(in crate::upstream) unsent: Option<http::Request<Outgoing>>,
}

impl Connection {
    /// Speaks HTTP over `stream`. `permit` is dropped once the socket is closed.
    pub(in crate::upstream) async fn new(
        stream: Stream,
        (endpoint, header): (Arc<Endpoint>, Option<Introduction>),
        write_stall: Duration,
        permit: impl Sized + 'static,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let line = Rc::new(Line::default());
        let wire = Wire::tolerant(WriteStall::new(stream, write_stall), Rc::clone(&line));
        let (sender, codec) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(io::Error::other)?;
        let (alive, dropped) = oneshot::channel::<()>();
        let switch = Switch::default();
        let wanted = Rc::clone(&switch);
        tasks.spawn_local(async move {
            // Declared first, dropped last.
            let permit = permit;
            let mut codec = codec;
            let outcome = tokio::select! {
                biased;
                _ = dropped => return,
                outcome = poll_fn(|cx| codec.poll_without_shutdown(cx)) => outcome,
            };
            if let Err(error) = outcome {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a connection to an endpoint broke");
                return;
            }
            let parts = codec.into_parts();
            let mut stream = parts.io.into_inner().into_inner();
            let wanted = wanted.take();
            if let Some(wanted) = wanted {
                let permit = Box::new(permit);
                // Whoever does not want it any more lets it close.
                let _gone = wanted.send(Switched {
                    stream,
                    ahead: parts.read_buf,
                    permit,
                });
            } else {
                // The peer has closed, or will see that we have.
                let _closed = stream.shutdown().await;
            }
        });
        Ok(Self {
            sender,
            line,
            endpoint,
            header,
            born: Instant::now(),
            served: 0,
            switch,
            _alive: alive,
        })
    }

    /// Who may use it.
    pub(in crate::upstream) fn way(&self) -> Way {
        Way {
            endpoint: self.endpoint.id,
            header: self.header.clone(),
        }
    }

    /// Whether anybody may come who can use it.
    pub(in crate::upstream) fn is_needed(&self) -> bool {
        self.header.as_ref().is_none_or(Introduction::is_needed)
    }

    /// Whether the previous exchange is over, and nothing came that belongs to none.
    pub(in crate::upstream) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.line.deaf.get()
    }

    /// The stream itself, once the codec is done with it after a 101.
    pub(in crate::upstream) fn switched(&self) -> oneshot::Receiver<Switched> {
        let (sender, receiver) = oneshot::channel();
        *self.switch.borrow_mut() = Some(sender);
        receiver
    }

    /// Sends a request; completes with the head of the response.
    pub(in crate::upstream) fn send(
        &mut self,
        request: http::Request<Outgoing>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, Broken>> + use<> {
        self.served = self.served.saturating_add(1);
        self.line.received.set(false);
        self.sender
            .try_send_request(request)
            .map_err(|mut failed| Broken {
                unsent: failed.take_message(),
                error: failed.into_error(),
            })
    }
}

/// What it means that the codec gave up before there was a response.
pub(in crate::upstream) fn failure(
    error: hyper::Error,
    line: &Line,
    upstream: &UpstreamName,
) -> ProxyError {
    let upstream = upstream.clone();
    if line.stalled.get() {
        ProxyError::UpstreamStalled { upstream }
    } else if let Some(source) = tls_refusal(&error) {
        let source = source.clone();
        ProxyError::UpstreamTls {
            upstream,
            part: source.part(),
            source,
        }
    } else if error.is_parse() {
        ProxyError::UpstreamProtocol {
            upstream,
            source: error.into(),
        }
    } else {
        ProxyError::UpstreamReset {
            upstream,
            source: error.into(),
        }
    }
}

/// What the peer said about our certificate, after the handshake, if that is why there is no answer.
fn tls_refusal(error: &hyper::Error) -> Option<&ConnectError> {
    ConnectError::behind(error).filter(|error| error.part() == Part::ClientCertificate)
}
