//! HTTP/2: many requests at a time, each with a task, a phase and an end of its own.
//!
//! What must stay true: what one request does costs no other; a client that asks for nothing, takes
//! back what it asked for, or does not take what it asked for, is told to go.

use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error as _,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    ext::Protocol,
    server::conn::http2,
    service::service_fn,
    upgrade::{OnUpgrade, on},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_config::model::{self, ListenerTimeouts};
use tokio::time::{Instant, Sleep};

use super::{
    Ending,
    received::Received,
    tasks::{Called, Executive, Next},
    tunnel::{Pump, Tunnel},
    wire::{Shared, Wire},
};
use crate::{
    error::{Malformed, ProxyError},
    http::{
        exchange::{Joint, Visitor, unreadable},
        guard::Guard,
        handle::handle,
        normalize::Extended,
        serve::phase::{Gone, Open, Phase, Streams, after},
        upgrade,
        upload::{Pace, Progress, Upload},
    },
    message::{Body, Request},
    stream::{Stream, WriteStall},
    telemetry::metrics::Counter,
};

/// Whether a silent client is still there is asked this often, and waited for this long. Requests
/// that may be quiet for ever would otherwise outlive the network that they came over.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(20);

/// The most of responses that waits for the socket, per stream.
const SEND_BUFFER: usize = 64 << 10;

/// The codec counts what it cannot hold as too large and answers without us; up to twice the limit we
/// answer, so that the request is counted and logged.
const HEAD_FACTOR: usize = 2;

/// The guard bounds the streams that a client breaks within a window; the codec does over the whole
/// life of a connection, which an honest one may outlive. It still bounds what a client that does not
/// read makes us keep for it.
const LIFE_FACTOR: usize = 16;

/// Serves the requests of one connection until it ends.
pub(super) async fn serve(mut wire: Wire, visitor: Rc<Visitor>, mut ending: Ending) {
    let listener = &visitor.listener;
    let limits = &listener.model.limits;
    let guard = Guard::new(limits.head, limits.resets, Instant::now());
    wire.multiplex(guard, Rc::clone(&visitor));
    let shared = Shared::new(wire);
    let streams = Streams::new(Rc::clone(&visitor.phase));
    let called = Called::default();
    let executor = Executive {
        tasks: listener.tasks.clone(),
        streams: Rc::clone(&streams),
        called: Rc::clone(&called),
        stall: listener.model.timeouts.write_stall,
    };
    let service = service_fn(|request| call(&visitor, &streams, &called, request));
    let io = TokioIo::new(shared.clone());
    let mut connection = codec(&listener.model, executor).serve_connection(io, service);
    let mut clock = Clock::new(Rc::clone(&streams), listener.model.timeouts);

    let ended = poll_fn(|cx| {
        shared.begin_turn(cx);
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ended);
            }
            let told = ending.poll_drained(cx).is_ready() || streams.is_leaving();
            if told && clock.leave() {
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            match ready!(clock.poll(cx, shared.head_since())) {
                Gone::Idle if clock.leave() => Pin::new(&mut connection).graceful_shutdown(),
                gone => {
                    visitor.phase.end_with(gone);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    })
    .await;
    drop(connection);
    let refused = account(&visitor, ended.err().as_ref());
    let Some(wire) = shared.into_inner() else {
        return;
    };
    // What the codec found wrong it has said itself.
    let unsaid = refused && visitor.phase.gone().is_some();
    let guard = wire.guard().filter(|guard| unsaid && guard.may_send());
    let farewell = guard.map(Guard::farewell);
    wire.close(farewell.as_ref().map_or(b"", |it| it), refused)
        .await;
}

pub(super) fn codec(listener: &model::Listener, executor: Executive) -> http2::Builder<Executive> {
    let (limits, http2) = (&listener.limits, &listener.http2);
    let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.resets)
        .max_local_error_reset_streams(limits.resets.saturating_mul(LIFE_FACTOR))
        .max_header_list_size(number(limits.head.saturating_mul(HEAD_FACTOR)))
        .initial_stream_window_size(number(http2.stream_window))
        .initial_connection_window_size(number(http2.connection_window))
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Not `async`: whoever runs the answer looks for its phase as soon as this returns.
fn call(
    visitor: &Visitor,
    streams: &Rc<Streams>,
    called: &Called,
    mut request: http::Request<Incoming>,
) -> impl Future<Output = Result<http::Response<Body>, Infallible>> + use<> {
    let has_body = !request.body().is_end_stream();
    let phase = Rc::new(Phase::of_stream(streams));
    phase.begin(has_body);
    called.replace(Some(Next::Request(Rc::clone(&phase))));
    let granted = (*request.method() == Method::CONNECT).then(|| on(&mut request));
    if let Some(protocol) = request.extensions_mut().remove::<Protocol>() {
        let extended = Extended::of(protocol.as_str());
        request.extensions_mut().insert(extended);
    }
    let pace = Pace::of(&visitor.listener.model);
    let (parts, incoming) = request.into_parts();
    let (body, progress) = if has_body {
        let received = Received::new(incoming);
        let broken = received.asking();
        let progress = Progress::new(Rc::clone(&phase), visitor.local.counters.clone());
        let progress = Rc::new(progress.asking(broken));
        if is_conversation(&parts.headers) {
            progress.be_patient();
        }
        let upload = Upload::new(received, Rc::clone(&progress), pace);
        (Body::stream(upload), Some(progress))
    } else {
        (Body::Empty, None)
    };
    let request = Request::from_parts(parts, body);
    let visitor = Rc::new(Visitor {
        connection: Arc::clone(&visitor.connection),
        listener: Arc::clone(&visitor.listener),
        local: Rc::clone(&visitor.local),
        phase,
        joint: RefCell::default(),
    });
    let (streams, called) = (Rc::clone(streams), Rc::clone(called));
    async move {
        let response = handle(&visitor, request, progress).await;
        let joint = visitor.joint.take();
        if let (Some(joint), Some(granted)) = (joint, granted) {
            let pump = Arc::new(Pump::default());
            // The codec brings its task in the same step as it sends the response.
            called.replace(Some(Next::Tunnel(Arc::clone(&pump))));
            let (stall, open) = (visitor.listener.model.timeouts.write_stall, streams.open());
            let tasks = &visitor.listener.tasks;
            tasks.spawn_local(carry(joint, granted, pump, open, stall));
        }
        Ok(response)
    }
}

/// Joins the stream of a CONNECT request, once the client has its answer, with what was opened for it.
async fn carry(
    joint: Box<Joint>,
    granted: OnUpgrade,
    pump: Arc<Pump>,
    open: Open,
    stall: Duration,
) {
    // Without its answer the client is gone, and what was to be joined is dropped.
    let Ok(upgraded) = granted.await else { return };
    // Until then its connection has something under way.
    let _open = open;
    let tunnel = Tunnel::new(upgraded, pump);
    let stream = WriteStall::new(Stream::Tunnel(Box::pin(tunnel)), stall);
    upgrade::join(joint, stream, Bytes::new()).await;
}

/// gRPC sends its messages when there is something to say.
fn is_conversation(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Notes why a connection ended that the client did not end well. Gives whether it was refused: then
/// it may still be sending.
fn account(visitor: &Visitor, error: Option<&hyper::Error>) -> bool {
    let Some(refusal) = refusal(&visitor.phase, error) else {
        return false;
    };
    if matches!(refusal, ProxyError::Flood) {
        visitor.local.counters.count(Counter::Floods);
    }
    unreadable(visitor, &refusal, visitor.phase.lasted());
    true
}

/// Why the client was refused; none when it was not. What was under way accounts for itself.
fn refusal(phase: &Phase, error: Option<&hyper::Error>) -> Option<ProxyError> {
    match phase.gone() {
        Some(Gone::Flood) => return Some(ProxyError::Flood),
        Some(Gone::Malformed) => return Some(ProxyError::BadRequest(Malformed::Syntax)),
        Some(Gone::HeadTimeout) => return Some(ProxyError::HeadTimeout),
        Some(Gone::Idle | Gone::Closed | Gone::Stalled) | None => {}
    }
    let source = error?.source()?;
    let error = source.downcast_ref::<h2::Error>()?;
    let ours = error.is_go_away() && error.is_library();
    ours.then(|| match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) => ProxyError::Flood,
        _ => ProxyError::BadRequest(Malformed::Syntax),
    })
}

/// Ends connections on which nothing happens.
struct Clock {
    streams: Rc<Streams>,
    timeouts: ListenerTimeouts,
    /// It was told to go, and when.
    leaving: Option<Instant>,
    /// As that of HTTP/1: it may ring early, never late.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn new(streams: Rc<Streams>, timeouts: ListenerTimeouts) -> Self {
        Self {
            streams,
            timeouts,
            leaving: None,
            timer: None,
        }
    }

    /// The client is told to go. False when it was before.
    fn leave(&mut self) -> bool {
        let first = self.leaving.is_none();
        self.leaving.get_or_insert_with(Instant::now);
        first
    }

    /// Ready when the time is over for a head, or for a connection without a request. What a client
    /// that was told to go does not take then is not worth more than a stalled write.
    fn poll(&mut self, cx: &mut Context<'_>, head_since: Option<Instant>) -> Poll<Gone> {
        let quiet = self.streams.quiet(cx).map(|quiet| match self.leaving {
            None => (after(quiet, self.timeouts.idle), Gone::Idle),
            Some(told) => {
                let since = quiet.max(told);
                (after(since, self.timeouts.write_stall), Gone::Idle)
            }
        });
        let head = head_since.map(|since| {
            let deadline = after(since, self.timeouts.request_head);
            (deadline, Gone::HeadTimeout)
        });
        let first = quiet.into_iter().chain(head).min_by_key(|(at, _)| *at);
        let Some((deadline, gone)) = first else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(gone);
            }
            timer.as_mut().reset(deadline);
        }
    }
}
