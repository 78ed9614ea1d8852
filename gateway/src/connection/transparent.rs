//! Streams that the system led here on their way outside: finds out where to and what is spoken, then has each
//! request decided, or the stream as a whole.
//!
//! What must stay true: what is connected to is the address that the client wanted, and only if our own
//! resolver gives it for the name that the client says, or a rule allows it as an address; and a stream that
//! came straight to us goes nowhere, or it would come back.

mod stream;
mod via;

use sluice_config::model::Bind;
use tokio::time::{Instant, timeout_at};

use super::{
    Arrival, http,
    peek::Peek,
    seldom::Seldom,
    spoken::{Spoken, spoken},
};
use crate::{
    downstream::{Hello, hello::Reader},
    stream::{Led, Stream},
};

/// How often streams that nobody redirected are logged as something to look at.
const TELL_AGAIN: u64 = 10;

/// What a client says first.
enum First {
    Requests,
    Tls(Hello),
    /// Something else, or nothing in time.
    Other,
    /// It left without a word.
    Left,
}

/// Serves a connection that the system led here.
pub(super) async fn serve(stream: Stream, mut arrival: Arrival) {
    static TOLD: Seldom = Seldom::once_in(TELL_AGAIN);
    let model = &arrival.listener.model;
    let led = match &model.address {
        Bind::Socket(address) if model.socket.transparent => Led::Accepted(address.port()),
        Bind::Socket(_) | Bind::Unix(_) => Led::Redirected,
    };
    let original = match stream.original_destination(led) {
        Ok(original) => original,
        Err(error) => {
            let connection = &arrival.connection;
            let (peer, listener) = (connection.peer, &connection.listener);
            let cause: &dyn std::error::Error = &error;
            if TOLD.is_time() {
                tracing::warn!(%peer, %listener, cause, "a transparent listener refuses a stream");
            }
            return stream.abort();
        }
    };
    arrival.connection.local = original;
    let mut peek = Peek::new(stream);
    let until = Instant::now() + model.timeouts.sniff;
    let first = timeout_at(until, first(&mut peek)).await;
    match first.unwrap_or(First::Other) {
        First::Requests => Box::pin(http(peek.into_stream(), arrival)).await,
        First::Tls(hello) => {
            Box::pin(stream::serve(peek.into_parts(), Some(hello), arrival)).await;
        }
        First::Other => Box::pin(stream::serve(peek.into_parts(), None, arrival)).await,
        First::Left => {}
    }
}

/// Waits until it has said enough.
async fn first(peek: &mut Peek) -> First {
    let mut reader = Reader::default();
    loop {
        match spoken(peek.bytes(), false) {
            Some(Spoken::Http1 | Spoken::Http2) => return First::Requests,
            Some(Spoken::Tls) => match reader.read(peek.bytes()) {
                Ok(Some(hello)) => return First::Tls(hello),
                Ok(None) => {}
                Err(_) => return First::Other,
            },
            Some(Spoken::Raw | Spoken::Postgres) => return First::Other,
            None => {}
        }
        match peek.more().await {
            Ok(1..) => {}
            Ok(0) | Err(_) if peek.bytes().is_empty() => return First::Left,
            Ok(0) | Err(_) => return First::Other,
        }
    }
}
