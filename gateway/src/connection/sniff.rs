//! Finds out what is spoken where a listener takes more than one protocol: whoever speaks first decides.
//!
//! Nobody waits longer than necessary: while the client may still say something, an endpoint of the route
//! for raw streams is connected to already, and if that one says something, it is a raw stream. What must
//! stay true: what either side said is not lost; a connection that was not needed carries nothing; and
//! what is no raw stream in the end is told of as none.

mod early;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::time::sleep;

use self::early::Early;
use super::{
    Arrival, http,
    peek::Peek,
    postgres::{self, Beginning},
    spoken::{Spoken, spoken},
    tls::{self, Deadline},
};
use crate::{
    stream::Stream,
    telemetry::metrics::{Event, Sniffed},
};

/// How long an endpoint that speaks first is not heard, from when the connection was accepted: clients that
/// speak first, too, mostly do so with the packet behind the one that connects, but an endpoint on the same
/// machine may still be faster.
const HEAD_START: Duration = Duration::from_millis(3);

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

/// Waits until one side has said something.
async fn decide(peek: &mut Peek, early: &mut Early, arrival: &Arrival) -> Sniffed {
    let listener = &arrival.listener;
    let postgres = listener.model.startup.is_some();
    let mut head_start = pin!(sleep(HEAD_START));
    let mut end = pin!(sleep(listener.model.timeouts.sniff));
    let mut drained = pin!(listener.tasks.drained());
    let mut is_answered = false;
    poll_fn(|cx| {
        loop {
            match spoken(peek.bytes(), postgres) {
                Some(Spoken::Http1) => return Poll::Ready(Sniffed::Http1),
                Some(Spoken::Http2) => return Poll::Ready(Sniffed::Http2),
                Some(Spoken::Tls) if listener.tls.is_some() => return Poll::Ready(Sniffed::Tls),
                Some(Spoken::Postgres) => return Poll::Ready(Sniffed::Postgres),
                Some(Spoken::Tls | Spoken::Raw) => return Poll::Ready(Sniffed::Raw),
                None => {}
            }
            match peek.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                // Nothing more comes, but there may be somebody who waits for an answer.
                Poll::Ready(Ok(0)) if early.is_possible() => return Poll::Ready(Sniffed::Raw),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Sniffed::Closed),
                Poll::Pending => break,
            }
        }
        is_answered = is_answered || early.poll_answered(arrival, cx).is_ready();
        if is_answered && head_start.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Sniffed::ServerFirst);
        }
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Sniffed::Silent);
        }
        drained.as_mut().poll(cx).map(|()| Sniffed::Closed)
    })
    .await
}

/// A client of `PostgreSQL`: it may want TLS, or none where raw streams are taken.
async fn database(mut peek: Peek, early: Early, arrival: Arrival) {
    let deadline = Deadline::new(&arrival.listener);
    match tls::begin(&mut peek, &arrival, deadline).await {
        Some(Beginning::Tls { asked }) => {
            drop(early);
            Box::pin(tls::secured(peek.into_stream(), arrival, deadline, asked)).await;
        }
        Some(Beginning::Plain) if early.is_possible() => early.join(peek, arrival).await,
        Some(Beginning::Plain) => {
            tls::refuse(peek, postgres::REQUIRED, &arrival, deadline).await;
        }
        Some(Beginning::Refused(why)) => tls::refuse(peek, why, &arrival, deadline).await,
        None => {}
    }
}
