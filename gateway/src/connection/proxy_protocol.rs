//! Step 2, before anything else: the header by which a trusted proxy says whose connection it passes on.
//!
//! What must stay true: nobody but `trusted_proxies` is listened to; what is behind a header is there for
//! whoever reads next; and without a header that is whole and sound, nothing of the connection goes further.

use std::{io, net::IpAddr};

use bytes::{BufMut as _, BytesMut};
use sluice_config::model::{self, ProxyProtocolIn};
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::seldom::Seldom;
use crate::{
    downstream::{
        Connection,
        proxy_protocol::{self, Header, Malformed, Start},
    },
    stream::Stream,
    telemetry::metrics::{Counter, Shard},
};

/// How often, in seconds, an operator is told; the counter has each.
const TELL_AGAIN: u64 = 30;

/// Room for any header without much besides.
const USUAL: usize = 128;

/// Why a connection has no header that can be believed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is none")]
    Missing,
    #[error("it is malformed")]
    Malformed(#[from] Malformed),
    #[error("the connection ended in the middle of it")]
    Truncated,
    #[error("it did not arrive in time")]
    TooSlow,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
}

/// What stands at the beginning of a connection.
enum Found {
    Header(Header),
    /// Something else, which is to be served.
    Other,
    /// It was closed before a byte of it came, as by those who only look whether somebody listens.
    Nothing,
}

/// Whether what `peer` says at the beginning of a connection to this listener may be a header.
pub fn is_heard(listener: &model::Listener, peer: IpAddr) -> bool {
    let mut trusted = listener.trusted_proxies.iter();
    listener.proxy_protocol != ProxyProtocolIn::Off && trusted.any(|net| net.contains(&peer))
}

/// Reads the header and lets `connection` believe it. Gives the stream behind it; none when the connection
/// ends here, which was told and counted.
pub async fn accept(
    mut stream: Stream,
    connection: &mut Connection,
    listener: &model::Listener,
    counters: &Shard,
) -> Option<Stream> {
    let mut bytes = BytesMut::with_capacity(USUAL);
    let is_required = listener.proxy_protocol == ProxyProtocolIn::Required;
    let reading = read(&mut stream, &mut bytes);
    let found = match timeout(listener.timeouts.proxy_header, reading).await {
        Ok(Ok(Found::Other)) if is_required => Err(Refusal::Missing),
        Ok(found) => found,
        // Who may begin without a header may also wait for the other side to speak first.
        Err(_) if bytes.is_empty() && !is_required => Ok(Found::Other),
        Err(_) => Err(Refusal::TooSlow),
    };
    match found {
        Ok(Found::Header(header)) => {
            connection.believe(header);
            counters.count(Counter::ProxyHeaders);
        }
        Ok(Found::Other) => {}
        Ok(Found::Nothing) => return None,
        Err(refusal) => {
            counters.count(Counter::ProxyHeadersRefused);
            tell(&refusal, connection);
            return None;
        }
    }
    Some(stream.with_ahead(bytes.freeze()))
}

/// Reads until it is clear what `stream` begins with. What was read and is no header stays in `bytes`.
async fn read(stream: &mut Stream, bytes: &mut BytesMut) -> Result<Found, Refusal> {
    loop {
        match proxy_protocol::read(bytes)? {
            Start::Header(header, length) => {
                drop(bytes.split_to(length));
                return Ok(Found::Header(header));
            }
            Start::Other => return Ok(Found::Other),
            Start::Unfinished => {}
        }
        let most = proxy_protocol::missing(bytes);
        bytes.reserve(most);
        let read = stream.read_buf(&mut (&mut *bytes).limit(most)).await?;
        if read == 0 && bytes.is_empty() {
            return Ok(Found::Nothing);
        }
        if read == 0 {
            return Err(Refusal::Truncated);
        }
    }
}

/// Says that a connection was closed: to the operator now and then, since a proxy that was set up wrongly
/// does it with each.
fn tell(refusal: &Refusal, connection: &Connection) {
    static TOLD: Seldom = Seldom::once_in(TELL_AGAIN);
    let (peer, listener) = (connection.peer, &connection.listener);
    let cause: &dyn std::error::Error = refusal;
    if TOLD.is_time() {
        tracing::warn!(%peer, %listener, cause, "closed for its PROXY header");
        return;
    }
    tracing::debug!(%peer, %listener, cause, "closed for its PROXY header");
}
