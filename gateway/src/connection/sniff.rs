//! Finds out what is spoken where a listener takes more than one protocol: whoever speaks first decides.
//!
//! Nobody waits longer than necessary: while the client may still say something, an endpoint of the route
//! for raw streams is connected to already, and if that one says something, it is a raw stream. What must
//! stay true: what either side said is not lost; a connection that was not needed carries nothing; and
//! what is no raw stream in the end is told of as none.

mod early;
mod first;

use self::{early::Early, first::decide};
use super::{
    Arrival,
    handshake::Deadline,
    http,
    peek::Peek,
    postgres::{self, Beginning},
    tls,
};
use crate::{
    stream::Stream,
    telemetry::metrics::{Event, Sniffed},
};

/// Serves a connection on which anything may be spoken.
pub(super) async fn serve(stream: Stream, arrival: Arrival) {
    let mut peek = Peek::new(stream);
    let mut early = Early::of(&arrival);
    let sniffed = Box::pin(decide(&mut peek, &mut early, &arrival)).await;
    let (connection, outcome) = (arrival.connection.id, sniffed.word());
    tracing::debug!(connection, outcome, "sniffed");
    let traffic = &arrival.listener.traffic;
    traffic.count(arrival.local.worker, Event::Sniffed(sniffed));
    match sniffed {
        Sniffed::Http1 | Sniffed::Http2 => {
            drop(early);
            Box::pin(http(peek.into_stream(), arrival)).await;
        }
        Sniffed::Tls => {
            drop(early);
            let deadline = Deadline::new(&arrival.listener);
            Box::pin(tls::secured(peek.into_stream(), arrival, deadline, false)).await;
        }
        Sniffed::Postgres => Box::pin(database(peek, early, arrival)).await,
        Sniffed::Raw | Sniffed::ServerFirst | Sniffed::Silent => {
            Box::pin(early.join(peek, arrival)).await;
        }
        Sniffed::Closed => {}
    }
}

/// A client of `PostgreSQL`: it may want TLS, or none where raw streams are taken.
async fn database(mut peek: Peek, early: Early, arrival: Arrival) {
    let deadline = Deadline::new(&arrival.listener);
    match postgres::begin(&mut peek, &arrival, deadline).await {
        Some(Beginning::Tls { asked }) => {
            drop(early);
            Box::pin(tls::secured(peek.into_stream(), arrival, deadline, asked)).await;
        }
        Some(Beginning::Plain) if early.is_possible() => early.join(peek, arrival).await,
        Some(Beginning::Plain) => {
            postgres::refuse(peek, postgres::REQUIRED, &arrival, deadline).await;
        }
        Some(Beginning::Refused(why)) => postgres::refuse(peek, why, &arrival, deadline).await,
        None => {}
    }
}
