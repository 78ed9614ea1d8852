//! Upgrades: a connection that goes over from HTTP/1.1 to another protocol, first of all WebSocket.
//!
//! The request travels with `Connection: upgrade` to an origin; only when that answers 101 for the
//! protocol that was asked for is the client answered 101, and the two streams are joined. What must
//! stay true: no byte that a client sends behind its request reaches an origin before that, or is
//! ever read as a request when it does not come to that (RFC 9931): the connection closes then.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use sluice_config::model;

use super::exchange::{Exchange, Joint};
use crate::{
    error::{Malformed, ProxyError},
    l4::copy::{self, Bounds, End, Parted},
    message::{Body, Tunnel},
    stream::{Stream, WriteStall},
    telemetry::metrics::{Counter, Shard},
};

/// How long a joined stream goes on when its listener, its route or its upstream has other settings
/// or is gone, or the gateway stops. A longer drain does not lengthen it.
const GRACE: Duration = Duration::from_secs(30);

/// The protocol that a request asks for and its rule allows; none makes it an ordinary request.
///
/// RFC 9110 §7.8: of several, any may be chosen; here the first.
pub(crate) fn asked(exchange: &Exchange, method: &Method) -> Option<HeaderValue> {
    if *method != Method::GET {
        return None;
    }
    let allowed: &model::Upgrade = exchange.filters().upgrade();
    let mut protocols = exchange.upgrades.iter();
    let protocol = protocols.find(|protocol| allowed.allows(protocol))?;
    HeaderValue::from_str(protocol).ok()
}

/// Makes a request ask the origin for `protocol`. One with a body is refused: where the body ends and
/// the protocol begins is for nobody to guess.
pub(crate) fn ask(protocol: HeaderValue, parts: &mut Parts, body: &Body) -> Result<(), ProxyError> {
    if !matches!(body, Body::Empty) {
        return Err(ProxyError::BadRequest(Malformed::UpgradeBody));
    }
    announce(protocol, &mut parts.headers);
    Ok(())
}

/// Whether an answer leaves bytes behind that were meant for another protocol.
pub(crate) fn is_refused(exchange: &Exchange, status: StatusCode) -> bool {
    status != StatusCode::SWITCHING_PROTOCOLS && asked(exchange, &exchange.method).is_some()
}

/// Completes a 101 for the client, and leaves what it is joined with for its connection.
pub(crate) fn accept(mut exchange: Exchange, tunnel: Box<Tunnel>, headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    announce(tunnel.protocol.clone(), headers);
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
pub(crate) async fn join(joint: Box<Joint>, stream: WriteStall<Stream>, ahead: Bytes) {
    let Joint {
        mut exchange,
        tunnel,
    } = *joint;
    let visitor = Rc::clone(&exchange.visitor);
    let _counted = Counted(visitor.local.counters.clone());
    let upgrade = exchange.filters().upgrade();
    let bounds = Bounds {
        idle: upgrade.idle_timeout.get(),
        whole: upgrade.max_duration.get(),
    };
    let listener = visitor.listener.streams.drained();
    let route = exchange
        .chosen
        .as_ref()
        .map(|it| it.route.streams.drained());
    let told = async move {
        match route {
            Some(route) => tokio::select! { () = listener => {} () = route => {} },
            None => listener.await,
        }
        tokio::time::sleep(GRACE).await;
    };
    let carried = exchange.carried.clone().unwrap_or_default();
    let Tunnel {
        stream: upstream,
        ahead: answered,
        hold,
        ..
    } = *tunnel;
    let downstream = End { stream, ahead };
    let upstream = End {
        stream: upstream,
        ahead: answered,
    };
    let parted = copy::join(downstream, upstream, bounds, &carried, told).await;
    // Both sockets are closed by now.
    drop(hold);
    if let Some(error) = failure(parted, &exchange) {
        exchange.fail(&error);
    }
    exchange.end();
}

/// What the access log is told; nothing when both sides were done.
fn failure(parted: Parted, exchange: &Exchange) -> Option<ProxyError> {
    let upstream = || exchange.upstream.clone();
    match parted {
        Parted::Closed => None,
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
