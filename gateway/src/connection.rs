//! Step 2: Learns who speaks and what; ends TLS or passes it on; picks HTTP or a raw stream.
//!
//! Nothing is read ahead where there is nothing to be decided; `http/serve` tells versions of HTTP apart.

mod handshake;
mod passthrough;
mod peek;
mod postgres;
pub mod proxy_protocol;
mod seldom;
mod sniff;
pub mod spoken;
mod tls;
mod transparent;

use std::{cell::RefCell, pin::Pin, rc::Rc, sync::Arc};

use bytes::Bytes;
use sluice_config::model::Protocol;

use crate::{
    downstream::{Connection, Hello},
    http::{
        exchange::Visitor,
        serve::{self, wire::Wire},
    },
    l4,
    plan::{self, Local},
    stream::Stream,
};

/// Whose connection it is, where it came in, and what this worker has at hand.
struct Arrival {
    connection: Connection,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
}

/// Serves a connection until it ends. Boxed: a task has no room for what its connection is not.
pub fn serve(
    stream: Stream,
    connection: Connection,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let (protocol, ends_tls) = (listener.model.protocol, listener.tls.is_some());
    let arrival = Arrival {
        connection,
        listener,
        local,
    };
    match protocol {
        Protocol::ForwardProxy if ends_tls => Box::pin(tls::serve(stream, arrival)),
        Protocol::Http | Protocol::ForwardProxy => Box::pin(http(stream, arrival)),
        Protocol::Https | Protocol::Tls => Box::pin(tls::serve(stream, arrival)),
        Protocol::Tcp => Box::pin(raw((stream, Bytes::new()), None, arrival)),
        Protocol::Auto => Box::pin(sniff::serve(stream, arrival)),
        Protocol::Transparent => Box::pin(transparent::serve(stream, arrival)),
        // Datagrams have no connections.
        Protocol::Udp => Box::pin(std::future::ready(())),
    }
}

/// Joins it with an endpoint. `ahead` was read of it already; `hello` is that where TLS is passed through.
async fn raw((stream, ahead): (Stream, Bytes), hello: Option<Box<Hello>>, arrival: Arrival) {
    let Arrival {
        connection,
        listener,
        local,
    } = arrival;
    let connection = Arc::new(connection);
    l4::stream::serve(stream, ahead, hello, connection, listener, local).await;
}

/// Reads requests.
async fn http(stream: Stream, arrival: Arrival) {
    let (wire, phase) = Wire::new(stream, &arrival.listener.model.timeouts);
    let visitor = Visitor {
        connection: Arc::new(arrival.connection),
        listener: arrival.listener,
        local: arrival.local,
        phase,
        joint: RefCell::default(),
    };
    serve::serve(wire, Rc::new(visitor)).await;
}
