//! Ends TLS: does the handshake, counts it, and says what came of it. A validating server of an issuer has
//! its answer with the handshake, and is gone.

use std::sync::Arc;

use sluice_certs::{AcceptError, Accepted};
use tokio::time::Instant;

use super::{Arrival, seldom::Seldom};
use crate::{downstream::Connection, plan, stream::Stream};

/// How often names without a certificate are logged as something to look at; the counter has each.
const TELL_AGAIN: u64 = 10;

/// How long a handshake may take, together with what comes before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    started: Instant,
    end: Instant,
}

impl Deadline {
    pub(super) fn new(listener: &plan::Listener) -> Self {
        let started = Instant::now();
        Self {
            started,
            end: started + listener.model.timeouts.tls_handshake,
        }
    }

    pub(super) fn end(self) -> Instant {
        self.end
    }
}

/// The stream inside TLS; none when the handshake came to nothing, which was told and counted. `is_raw`
/// says that no requests will be inside, as far as that is known.
pub(super) async fn accept(
    stream: Stream,
    arrival: &mut Arrival,
    deadline: Deadline,
    is_raw: bool,
) -> Option<Stream> {
    let listener = Arc::clone(&arrival.listener);
    let tls = listener.tls.as_ref()?;
    let limit = deadline.end.saturating_duration_since(Instant::now());
    match tls.server_for(is_raw).accept(stream, limit).await {
        Ok(Accepted::Client(stream, session)) => {
            let (version, resumed) = (session.version, session.resumed);
            let (worker, duration) = (arrival.local.worker, deadline.started.elapsed());
            tls.handshakes.succeeded(worker, version, resumed, duration);
            arrival.connection.scheme = "https";
            arrival.connection.tls = Some(Box::new(session));
            Some(Stream::Tls(stream))
        }
        Ok(Accepted::Validated) => {
            let (peer, listener) = (arrival.connection.peer, &arrival.connection.listener);
            tracing::debug!(%peer, %listener, "answered a validating server");
            None
        }
        Err(error) => {
            failed(&error, arrival);
            None
        }
    }
}

/// Counts and tells that there is no TLS with a client.
pub(super) fn failed(error: &AcceptError, arrival: &Arrival) {
    if let Some(tls) = &arrival.listener.tls {
        tls.handshakes.failed(arrival.local.worker, error.reason());
    }
    tell(error, &arrival.connection);
}

/// Names without a certificate are for the operator to look at: one may have been forgotten. But anybody
/// can ask for any name, as often as they like.
fn tell(error: &AcceptError, connection: &Connection) {
    static TOLD: Seldom = Seldom::once_in(TELL_AGAIN);
    let (peer, listener, reason) = (connection.peer, &connection.listener, error.reason());
    let cause: &dyn std::error::Error = error;
    let is_of_a_name = matches!(
        error,
        AcceptError::UnrecognizedName(_) | AcceptError::NotIssued(..)
    );
    if is_of_a_name && TOLD.is_time() {
        tracing::warn!(%peer, %listener, reason, cause, "TLS handshake refused");
        return;
    }
    tracing::debug!(%peer, %listener, reason, cause, "TLS handshake failed");
}
