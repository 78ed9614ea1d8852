//! A stream of a shared connection that carries another protocol.
//!
//! What must stay true: what the endpoint has no window for is not taken from the client; and a stream
//! that is dropped before both sides are done is reset, never ended.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use sluice_config::names::UpstreamName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    channel::Channel,
    request,
    stream::{Answer, Given, Refusal},
};
use crate::{
    error::ProxyError,
    stream::{self, Reset},
};

/// The half of a tunnel that is there before its endpoint has answered. Dropped, the endpoint is told
/// that nobody waits.
pub(in crate::upstream) struct Opening(SendStream<Bytes>);

impl Opening {
    /// It was granted.
    pub(in crate::upstream) fn into_tunnel(self, given: Given) -> Tunnel {
        Tunnel {
            sending: self.0,
            receiving: given.into_stream(),
            ahead: Bytes::new(),
            sent_end: false,
            got_end: false,
        }
    }

    /// It was not: nothing will be sent.
    pub(in crate::upstream) fn give_up(mut self) {
        // A failure to send it shows in the rest of the answer.
        let _sent = self.0.send_data(Bytes::new(), true);
    }
}

impl Channel {
    /// Asks for a tunnel: by CONNECT, or with `Upgrade` by extended CONNECT.
    pub(in crate::upstream) fn open(
        &self,
        parts: &Parts,
        upstream: &UpstreamName,
    ) -> Result<(Answer, Opening), Refusal> {
        let refusal = |error| Refusal {
            error,
            answered: false,
        };
        let head = request::tunnel(parts, &self.endpoint).map_err(refusal)?;
        let mut sender = self.sender();
        let extended = head.extensions().get::<h2::ext::Protocol>().is_some();
        if extended && !sender.is_extended_connect_protocol_enabled() {
            let upstream = upstream.clone();
            return Err(refusal(ProxyError::ProtocolUnsupported { upstream }));
        }
        let (answer, stream) = sender.send_request(head, false).map_err(|error| {
            let (upstream, source) = (upstream.clone(), error.into());
            refusal(ProxyError::UpstreamReset { upstream, source })
        })?;
        Ok((Answer::new(answer), Opening(stream)))
    }
}

/// A stream that was granted.
pub(in crate::upstream) struct Tunnel {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    /// Received and not yet read.
    ahead: Bytes,
    sent_end: bool,
    got_end: bool,
}

impl stream::Tunnel for Tunnel {}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !(self.sent_end && self.got_end) {
            self.sending.send_reset(Reason::CANCEL);
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() && !this.got_end {
            match ready!(this.receiving.poll_data(cx)) {
                Some(Ok(data)) => this.ahead = data,
                Some(Err(_)) => return Poll::Ready(Err(Reset.into())),
                None => this.got_end = true,
            }
        }
        let length = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(this.ahead.get(..length).unwrap_or_default());
        this.ahead.advance(length);
        // On a stream that is over there is nothing to give back.
        let _released = this.receiving.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sending.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Reset.into()));
        }
        this.sending.reserve_capacity(bytes.len());
        while this.sending.capacity() == 0 {
            match ready!(this.sending.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Reset.into())),
            }
        }
        let length = this.sending.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
        let sent = this.sending.send_data(piece, false);
        Poll::Ready(sent.map(|()| length).map_err(|_| Reset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let reset = !this.sent_end && this.sending.poll_reset(cx).is_ready();
        Poll::Ready(if reset { Err(Reset.into()) } else { Ok(()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.sent_end {
            this.sent_end = true;
            let sent = this.sending.send_data(Bytes::new(), true);
            return Poll::Ready(sent.map_err(|_| Reset.into()));
        }
        Poll::Ready(Ok(()))
    }
}
