//! Waits until it is clear what a connection is.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::early::Early;
use crate::{
    connection::{
        Arrival,
        peek::Peek,
        spoken::{Spoken, spoken},
    },
    drain::FIRST_WORD,
    telemetry::metrics::Sniffed,
};

/// How long an endpoint that speaks first is not heard, from when the connection was accepted: clients that
/// speak first, too, mostly do so with the packet behind the one that connects, but an endpoint on the same
/// machine may still be faster.
const HEAD_START: Duration = Duration::from_millis(2);

/// Waits until one side has said something.
pub(super) async fn decide(peek: &mut Peek, early: &mut Early, arrival: &Arrival) -> Sniffed {
    let listener = &arrival.listener;
    let postgres = listener.model.startup.is_some();
    let mut head_start = pin!(sleep(HEAD_START));
    let mut end = pin!(sleep(listener.model.timeouts.sniff));
    let until = Instant::now() + FIRST_WORD;
    let drained = listener.tasks.drained();
    let mut drained = pin!(drained.then(|()| sleep_until(until)));
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
