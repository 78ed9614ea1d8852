//! Step 2: Learns who speaks and what; picks HTTP or a raw stream.
//!
//! Every connection speaks HTTP without TLS today. Which version is told by its first bytes, which
//! `http/serve` looks at.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use crate::{
    downstream::Connection,
    http::{
        exchange::Visitor,
        serve::{self, wire::Wire},
    },
    plan::{self, Local},
    stream::Stream,
};

/// Serves a connection until it ends.
pub async fn serve(
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
