//! Step 2: Learns who speaks and what; ends TLS; picks HTTP or a raw stream.
//!
//! Which version of HTTP is spoken is told by the first bytes, which `http/serve` looks at.

pub mod hello;
pub mod proxy_protocol;
pub mod spoken;
mod tls;

use std::{cell::RefCell, pin::Pin, rc::Rc, sync::Arc};

use bytes::Bytes;
use sluice_config::model::Protocol;

use crate::{
    downstream::Connection,
    http::{
        exchange::Visitor,
        serve::{self, wire::Wire},
    },
    l4,
    plan::{self, Local},
    stream::Stream,
};

/// Serves a connection until it ends. Boxed: a task has no room for what its connection is not.
pub fn serve(
    stream: Stream,
    connection: Connection,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    if listener.tls.is_some() {
        return Box::pin(secured(stream, connection, listener, local));
    }
    if listener.model.protocol == Protocol::Tcp {
        let (ahead, connection) = (Bytes::new(), Arc::new(connection));
        let served = l4::stream::serve(stream, ahead, None, connection, listener, local);
        return Box::pin(served);
    }
    Box::pin(http(stream, Arc::new(connection), listener, local))
}

/// Ends TLS and goes on with what is inside. The handshake has a box of its own, which is gone with it.
async fn secured(
    stream: Stream,
    mut connection: Connection,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) {
    let worker = local.worker;
    let accepted = Box::pin(tls::accept(stream, &listener, worker, &mut connection));
    let Some(inside) = accepted.await else {
        return;
    };
    let connection = Arc::new(connection);
    match listener.model.protocol {
        Protocol::Tls | Protocol::Tcp => {
            let ahead = Bytes::new();
            let served = l4::stream::serve(inside, ahead, None, connection, listener, local);
            Box::pin(served).await;
        }
        Protocol::Http | Protocol::Https | Protocol::Auto | Protocol::Udp => {
            Box::pin(http(inside, connection, listener, local)).await;
        }
    }
}

async fn http(
    stream: Stream,
    connection: Arc<Connection>,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) {
    let (wire, phase) = Wire::new(stream, &listener.model.timeouts);
    let visitor = Visitor {
        connection,
        listener,
        local,
        phase,
        joint: RefCell::default(),
    };
    serve::serve(wire, Rc::new(visitor)).await;
}
