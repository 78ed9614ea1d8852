//! Upgrades: a connection, or a stream of one, that goes over from HTTP to another protocol, first of
//! all WebSocket; and CONNECT, which asks for a tunnel without saying what for.
//!
//! Inside the gateway an upgrade has the form of HTTP/1.1, whatever its client and its endpoint speak:
//! a GET with `Upgrade`, and 101 (RFC 8441 §5 says how an extended CONNECT is one). Only when the
//! endpoint has granted what was asked for is the client told so, and the two streams are joined. What
//! must stay true: no byte that a client sends behind its request reaches an origin before that, or is
//! ever read as a request when it does not come to that (RFC 9931): the connection closes then; and
//! no client of CONNECT is told 2xx by anybody but who opened its tunnel.

mod websocket;

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts, response};
use sluice_config::model;

use super::{
    exchange::{Exchange, Joint},
    outward::tunnel,
};
use crate::{
    drain::Tasks,
    error::{Malformed, ProxyError},
    l4::copy::{self, Bounds, End, Parted},
    message::{Body, Response, Tunnel},
    stream::{Stream, WriteStall},
    telemetry::metrics::{Counter, Shard},
};

/// How long a joined stream goes on when its listener, its route or its upstream has other settings
/// or is gone, or the gateway stops. A longer drain does not lengthen it.
const GRACE: Duration = Duration::from_secs(30);

/// The name under which a rule allows CONNECT. No protocol: nobody can ask for it by `Upgrade`.
const CONNECT: &str = "connect";

/// What a request asks for and its rule allows.
#[derive(Debug)]
pub(crate) enum Wish {
    /// To go over to this protocol.
    Protocol(HeaderValue),
    /// A tunnel to its target.
    Tunnel,
}

/// Why an answer of an endpoint is none to what it was asked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum NoGrant {
    #[error("it answered without switching protocols")]
    Ordinary,
    #[error("its Sec-WebSocket-Accept belongs to another key")]
    OtherKey,
}

/// What a request asks for and its rule allows; none makes it an ordinary request. What has no meaning
/// as an ordinary request is refused.
///
/// RFC 9110 §7.8: of several protocols, any may be chosen; here the first.
pub(crate) fn asked(exchange: &Exchange, method: &Method) -> Result<Option<Wish>, ProxyError> {
    let allowed: &model::Upgrade = exchange.filters().upgrade();
    if *method == Method::CONNECT {
        let wish = allowed.allows(CONNECT).then_some(Wish::Tunnel);
        return wish.map(Some).ok_or(ProxyError::ProtocolRefused);
    }
    let mut protocols = exchange.upgrades.iter();
    let protocol = protocols
        .find(|protocol| *method == Method::GET && *protocol != CONNECT && allowed.allows(protocol))
        .and_then(|protocol| HeaderValue::from_str(protocol).ok());
    if protocol.is_none() && is_connect(exchange) {
        return Err(ProxyError::ProtocolRefused);
    }
    Ok(protocol.map(Wish::Protocol))
}

/// Makes a request ask the origin for what was wished. One with a body is refused: where the body ends
/// and the protocol begins is for nobody to guess.
pub(crate) fn ask(
    exchange: &mut Exchange,
    wish: Wish,
    parts: &mut Parts,
    body: &Body,
) -> Result<(), ProxyError> {
    if !matches!(body, Body::Empty) {
        return Err(ProxyError::BadRequest(Malformed::UpgradeBody));
    }
    let Wish::Protocol(protocol) = wish else {
        return Ok(());
    };
    if protocol == "websocket" {
        if exchange.is_stream() {
            parts.headers.insert(websocket::KEY, websocket::key());
        }
        exchange.key = parts.headers.get(websocket::KEY).cloned();
    }
    announce(protocol, &mut parts.headers);
    Ok(())
}

/// Whether the client asked by CONNECT, with or without a protocol: any 2xx tells it that it has what it
/// asked for.
fn is_connect(exchange: &Exchange) -> bool {
    exchange.method == Method::CONNECT || (exchange.is_stream() && !exchange.upgrades.is_empty())
}

/// Holds the answer to a request that may have asked for a tunnel against what was asked.
pub(crate) fn hold(exchange: &Exchange, response: Response) -> Result<Response, ProxyError> {
    let no_grant = |why: NoGrant| match &exchange.upstream {
        Some(upstream) => ProxyError::UpstreamProtocol {
            upstream: upstream.clone(),
            source: why.into(),
        },
        None => ProxyError::ProtocolRefused,
    };
    if !matches!(response.body(), Body::Tunnel(_)) {
        let told = response.status().is_success() && is_connect(exchange);
        return if told {
            Err(no_grant(NoGrant::Ordinary))
        } else {
            Ok(response)
        };
    }
    // What the client's own key comes to, the client finds out; and HTTP/2 needs none.
    if let Some(key) = exchange.key.as_ref().filter(|_| exchange.is_stream())
        && response.version() != Version::HTTP_2
        && response.headers().get(websocket::ACCEPT) != websocket::accept(key).as_ref()
    {
        return Err(no_grant(NoGrant::OtherKey));
    }
    Ok(response)
}

/// Whether an answer leaves bytes behind that were meant for another protocol. Who names `h2c` alone
/// waits for the 101, and does so with every request: it need not pay with a connection for each.
pub(crate) fn is_refused(exchange: &Exchange, status: StatusCode) -> bool {
    if exchange.method == Method::CONNECT {
        return !status.is_success();
    }
    let mut protocols = exchange.upgrades.iter();
    status != StatusCode::SWITCHING_PROTOCOLS && protocols.any(|protocol| protocol != "h2c")
}

/// Gives what grants a wish the form that the client knows.
pub(crate) fn grant(exchange: &Exchange, tunnel: &Tunnel, parts: &mut response::Parts) {
    let headers = &mut parts.headers;
    headers.remove(header::CONTENT_LENGTH);
    let Some(protocol) = &tunnel.protocol else {
        return;
    };
    if exchange.is_stream() {
        headers.remove(websocket::ACCEPT);
        parts.status = StatusCode::OK;
        return;
    }
    if parts.version == Version::HTTP_2 {
        // RFC 8441 §5: nobody has looked at the client's key yet.
        let accept = exchange.key.as_ref().and_then(websocket::accept);
        headers.extend(accept.map(|accept| (websocket::ACCEPT, accept)));
    }
    announce(protocol.clone(), headers);
}

/// Leaves what a client was granted for its connection to be joined with.
pub(crate) fn accept(mut exchange: Exchange, tunnel: Box<Tunnel>) {
    exchange
        .visitor
        .local
        .counters
        .count(Counter::UpgradesStarted);
    exchange.carried = Some(Rc::default());
    let visitor = Rc::clone(&exchange.visitor);
    let joint = Joint { exchange, tunnel };
    *visitor.joint.borrow_mut() = Some(Box::new(joint));
}

fn announce(protocol: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Joins both streams until they part; `ahead` came from the client behind its request.
pub(crate) async fn join(joint: Box<Joint>, mut stream: WriteStall<Stream>, ahead: Bytes) {
    let Joint {
        mut exchange,
        mut tunnel,
    } = *joint;
    let visitor = Rc::clone(&exchange.visitor);
    let _counted = Counted(visitor.local.counters.clone());
    let mut ahead = ahead;
    let is_bare = is_bare(&exchange);
    if is_bare {
        let held = tunnel::hold(&mut exchange, &mut stream, ahead, &mut tunnel);
        match Box::pin(held).await {
            Ok(said) => ahead = said,
            Err(error) => {
                tunnel.stream.into_inner().abort();
                drop(stream);
                exchange.fail(&error);
                return exchange.end();
            }
        }
    }
    let (bounds, grace) = limits(&exchange, is_bare);
    let listener = visitor.listener.streams.drained();
    let route = exchange.chosen.as_ref().map(|it| &it.route.streams);
    let outlet = exchange.outward.as_ref().and_then(|it| it.outlet());
    let route = route.or(outlet.map(|outlet| &outlet.streams));
    let route = route.map(Tasks::drained);
    let told = async move {
        match route {
            Some(route) => tokio::select! { () = listener => {} () = route => {} },
            None => listener.await,
        }
        tokio::time::sleep(grace).await;
    };
    let carried = exchange.carried.clone().unwrap_or_default();
    let Tunnel {
        stream: mut upstream,
        ahead: answered,
        hold,
        ..
    } = *tunnel;
    let downstream = End {
        stream: &mut stream,
        ahead,
    };
    let inner = End {
        stream: &mut upstream,
        ahead: answered,
    };
    let pressure = &visitor.local.pressure;
    // What an upgraded connection carries counts with its request, at the end.
    let ends = (downstream, inner);
    let mut parted = copy::join(ends, bounds, (&carried, || {}), pressure, told).await;
    if visitor.listener.tasks.is_aborted() {
        // Of all that is torn down at the deadline of a drain, this need not be the first.
        parted = Parted::Told;
    }
    if matches!(parted, Parted::Downstream(_)) {
        // What the endpoint got is not the whole, and is not to look like it.
        upstream.into_inner().abort();
    } else {
        drop(upstream);
    }
    drop(stream);
    // Both sockets are closed by now.
    drop(hold);
    if let Some(error) = failure(parted, &exchange) {
        exchange.fail(&error);
    }
    exchange.end();
}

/// Whether it is a tunnel of a forward proxy, of which nobody knows what is inside.
fn is_bare(exchange: &Exchange) -> bool {
    exchange.outward.is_some() && exchange.method == Method::CONNECT
}

/// How long it may last, and how long it goes on once it was told to finish. What has no protocol is a
/// stream like those that have no request.
fn limits(exchange: &Exchange, is_bare: bool) -> (Bounds, Duration) {
    if is_bare {
        let limits = exchange.filters().stream();
        let bounds = Bounds {
            idle: limits.idle_timeout.get(),
            whole: limits.max_duration.get(),
        };
        return (bounds, limits.drain);
    }
    let upgrade = exchange.filters().upgrade();
    let bounds = Bounds {
        idle: upgrade.idle_timeout.get(),
        whole: upgrade.max_duration.get(),
    };
    (bounds, GRACE)
}

/// What the access log is told; nothing when both sides were done.
fn failure(parted: Parted, exchange: &Exchange) -> Option<ProxyError> {
    let upstream = || exchange.upstream.clone();
    match parted {
        Parted::Closed => None,
        Parted::Idle if is_bare(exchange) => Some(ProxyError::StreamIdle),
        Parted::Expired if is_bare(exchange) => Some(ProxyError::StreamExpired),
        Parted::Idle => Some(ProxyError::UpgradeIdle),
        Parted::Expired => Some(ProxyError::UpgradeExpired),
        Parted::Told => Some(ProxyError::Draining),
        Parted::Downstream(error) if copy::is_stalled(&error) => Some(ProxyError::ClientStalled),
        Parted::Downstream(_) => Some(ProxyError::ClientClosed),
        Parted::Upstream(error) if copy::is_stalled(&error) => {
            upstream().map(|upstream| ProxyError::UpstreamStalled { upstream })
        }
        Parted::Upstream(error) => upstream().map(|upstream| ProxyError::UpstreamReset {
            upstream,
            source: error.into(),
        }),
    }
}

/// Counts the end of a joined stream, also when its task is dropped.
struct Counted(Shard);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count(Counter::UpgradesEnded);
    }
}
