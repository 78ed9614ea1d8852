//! Ends TLS: does the handshake, counts it, and says what came of it. A validating server of an issuer has
//! its answer with the handshake, and is gone. Where a route wants TLS as it is, nothing is ended.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use sluice_certs::{AcceptError, Accepted};
use sluice_config::model::Protocol;
use tokio::time::{Instant, timeout_at};

use super::{
    Arrival, http, passthrough,
    peek::Peek,
    postgres::{self, Beginning},
    raw,
};
use crate::{downstream::Connection, plan, stream::Stream};

/// How often names without a certificate are logged as something to look at; the counter has each.
const TELL_AGAIN: u64 = 10;

/// Ends TLS or passes it on, and goes on with what is inside. Each step has a box of its own, which is
/// gone with it.
pub(super) async fn serve(stream: Stream, arrival: Arrival) {
    let deadline = Deadline::new(&arrival.listener);
    if arrival.listener.model.startup.is_none() {
        return secured(stream, arrival, deadline, false).await;
    }
    if let Some((stream, asked)) = Box::pin(awaited(stream, &arrival, deadline)).await {
        secured(stream, arrival, deadline, asked).await;
    }
}

/// Waits until a client of `PostgreSQL` has asked for TLS, if it does not begin with it; gives whether it
/// has. Whoever wants none is told that it has to be.
async fn awaited(stream: Stream, arrival: &Arrival, deadline: Deadline) -> Option<(Stream, bool)> {
    let mut peek = Peek::new(stream);
    let why = match begin(&mut peek, arrival, deadline).await? {
        Beginning::Tls { asked } => return Some((peek.into_stream(), asked)),
        Beginning::Plain => postgres::REQUIRED,
        Beginning::Refused(why) => why,
    };
    refuse(peek, why, arrival, deadline).await;
    None
}

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
}

/// How a client of `PostgreSQL` begins; none when it does not, which was told and counted.
pub(super) async fn begin(
    peek: &mut Peek,
    arrival: &Arrival,
    deadline: Deadline,
) -> Option<Beginning> {
    let error = match timeout_at(deadline.end, postgres::begin(peek)).await {
        Ok(Ok(beginning)) => return Some(beginning),
        Ok(Err(error)) => error.into(),
        Err(_) => AcceptError::Timeout,
    };
    failed(&error, arrival);
    None
}

/// Tells a client of `PostgreSQL` why it is not served.
pub(super) async fn refuse(peek: Peek, why: &str, arrival: &Arrival, deadline: Deadline) {
    failed(&AcceptError::NotTls, arrival);
    let said = timeout_at(deadline.end, peek.part(&postgres::refusal(why))).await;
    if !matches!(said, Ok(Ok(()))) {
        let connection = arrival.connection.id;
        tracing::debug!(connection, "a refusal was not heard");
    }
}

/// A client begins with TLS now. `asked` says whether it asked for it in the protocol of `PostgreSQL`.
pub(super) async fn secured(stream: Stream, mut arrival: Arrival, deadline: Deadline, asked: bool) {
    let mut stream = stream;
    if passthrough::is_possible(&arrival) {
        let mut peek = Peek::new(stream);
        let wanted = passthrough::wanted(&mut peek, &arrival, deadline.end);
        if let Some(mut hello) = Box::pin(wanted).await {
            hello.asked = asked;
            let hello = Some(Box::new(hello));
            return Box::pin(raw(peek.into_parts(), hello, arrival)).await;
        }
        stream = peek.into_stream();
    }
    let accepted = Box::pin(accept(stream, &mut arrival, deadline));
    let Some(inside) = accepted.await else {
        return;
    };
    let session = arrival.connection.tls.as_ref();
    let agreed = session.and_then(|session| session.protocol.as_deref());
    let is_raw = match arrival.listener.model.protocol {
        Protocol::Tls => true,
        Protocol::Auto => asked || agreed == Some(plan::POSTGRES),
        Protocol::Http | Protocol::Https | Protocol::Tcp | Protocol::Udp => false,
    };
    if is_raw {
        Box::pin(raw((inside, Bytes::new()), None, arrival)).await;
    } else {
        Box::pin(http(inside, arrival)).await;
    }
}

/// The stream inside TLS; none when the handshake came to nothing, which was told and counted.
async fn accept(stream: Stream, arrival: &mut Arrival, deadline: Deadline) -> Option<Stream> {
    let listener = Arc::clone(&arrival.listener);
    let tls = listener.tls.as_ref()?;
    let limit = deadline.end.saturating_duration_since(Instant::now());
    match tls.server.accept(stream, limit).await {
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
fn failed(error: &AcceptError, arrival: &Arrival) {
    if let Some(tls) = &arrival.listener.tls {
        tls.handshakes.failed(arrival.local.worker, error.reason());
    }
    tell(error, &arrival.connection);
}

/// Names without a certificate are for the operator to look at: one may have been forgotten. But anybody
/// can ask for any name, as often as they like.
fn tell(error: &AcceptError, connection: &Connection) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let (peer, listener, reason) = (connection.peer, &connection.listener, error.reason());
    let cause: &dyn std::error::Error = error;
    if matches!(
        error,
        AcceptError::UnrecognizedName(_) | AcceptError::NotIssued(..)
    ) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let told = TOLD.load(Ordering::Relaxed);
        let again = now.saturating_sub(told) >= TELL_AGAIN;
        if again
            && TOLD
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(%peer, %listener, reason, cause, "TLS handshake refused");
            return;
        }
    }
    tracing::debug!(%peer, %listener, reason, cause, "TLS handshake failed");
}
