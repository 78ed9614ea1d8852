//! TLS on a connection: passed on where a route wants it as it is, else ended; then whatever is inside.

use bytes::Bytes;
use sluice_config::model::Protocol;

use super::{
    Arrival,
    handshake::{self, Deadline},
    http, passthrough,
    peek::Peek,
    postgres, raw,
};
use crate::{plan, stream::Stream};

/// Ends TLS or passes it on, and goes on with what is inside. Each step has a box of its own, which is
/// gone with it.
pub(super) async fn serve(stream: Stream, arrival: Arrival) {
    let deadline = Deadline::new(&arrival.listener);
    if arrival.listener.model.startup.is_none() {
        return secured(stream, arrival, deadline, false).await;
    }
    if let Some((stream, asked)) = Box::pin(postgres::awaited(stream, &arrival, deadline)).await {
        secured(stream, arrival, deadline, asked).await;
    }
}

/// A client begins with TLS now. `asked` says whether it asked for it in the protocol of `PostgreSQL`.
pub(super) async fn secured(stream: Stream, mut arrival: Arrival, deadline: Deadline, asked: bool) {
    let (mut stream, mut is_raw) = (stream, asked);
    if passthrough::is_possible(&arrival) || arrival.listener.tells_apart() {
        let mut peek = Peek::new(stream);
        let said = passthrough::said(&mut peek, &arrival, deadline.end());
        if let Some(mut hello) = Box::pin(said).await {
            if passthrough::is_wanted(&hello, &arrival) {
                hello.asked = asked;
                let hello = Some(Box::new(hello));
                return Box::pin(raw(peek.into_parts(), hello, arrival)).await;
            }
            is_raw = asked || arrival.listener.agrees_on_raw(|| hello.protocols());
        }
        stream = peek.into_stream();
    }
    let accepted = Box::pin(handshake::accept(stream, &mut arrival, deadline, is_raw));
    let Some(inside) = accepted.await else {
        return;
    };
    let session = arrival.connection.tls.as_ref();
    let agreed = session.and_then(|session| session.protocol.as_deref());
    let is_raw = match arrival.listener.model.protocol {
        Protocol::Tls => true,
        Protocol::Auto => asked || agreed == Some(plan::POSTGRES),
        Protocol::Http
        | Protocol::Https
        | Protocol::Tcp
        | Protocol::Udp
        | Protocol::ForwardProxy
        | Protocol::Transparent => false,
    };
    if is_raw {
        Box::pin(raw((inside, Bytes::new()), None, arrival)).await;
    } else {
        Box::pin(http(inside, arrival)).await;
    }
}
