//! TLS that is not ended here: reads whom a client asks for, and finds out whether a route wants it as
//! it is.
//!
//! What must stay true: whatever a client says, its bytes go on as they came, to an endpoint or to whoever
//! ends TLS; and nobody is waited for beyond the time that a handshake may take.

use sluice_config::model::Mode;
use tokio::time::{Instant, timeout_at};

use super::{Arrival, peek::Peek};
use crate::{
    downstream::{Connection, Hello, hello::Reader},
    l4,
};

/// Whether the listener has a route that may want TLS as it is.
pub(super) fn is_possible(arrival: &Arrival) -> bool {
    let plan = arrival.local.plan();
    plan.has(&arrival.connection.listener, Mode::Passthrough)
}

/// What a client says first.
pub(super) async fn said(peek: &mut Peek, arrival: &Arrival, end: Instant) -> Option<Hello> {
    let reading = read(peek, &arrival.connection);
    timeout_at(end, reading).await.ok()?
}

/// Whether a route wants it as it is.
pub(super) fn is_wanted(hello: &Hello, arrival: &Arrival) -> bool {
    l4::stream::is_passed(&arrival.connection, &arrival.local, hello)
}

/// None when there is no such message to be had: whoever ends TLS will find out why, and say so.
async fn read(peek: &mut Peek, connection: &Connection) -> Option<Hello> {
    let mut reader = Reader::default();
    loop {
        match reader.read(peek.bytes()) {
            Ok(Some(hello)) => return Some(hello),
            Ok(None) => {}
            Err(flaw) => {
                let (id, flaw): (_, &dyn std::error::Error) = (connection.id, &flaw);
                tracing::debug!(connection = id, flaw, "a first message could not be read");
                return None;
            }
        }
        if !matches!(peek.more().await, Ok(1..)) {
            return None;
        }
    }
}
