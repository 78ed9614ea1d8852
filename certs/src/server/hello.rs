//! Reads what a client says first, and tells whoever does not speak TLS from those who do.

use std::{
    borrow::Cow,
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};

use rustls::{
    InvalidMessage,
    server::{Accepted, AcceptedAlert, Acceptor},
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::AcceptError;

/// Room for the first words of almost every client; held only while there is something to read.
const BUFFER: usize = 4 << 10;

/// A record of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A fatal alert `protocol_version` as it goes out before there are keys (RFC 8446 §6).
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// Why nobody was understood.
pub(super) struct Failure {
    pub(super) error: AcceptError,
    alert: Option<AcceptedAlert>,
}

impl Failure {
    /// What the client is told.
    pub(super) fn farewell(&mut self, plain: &'static [u8]) -> Cow<'static, [u8]> {
        match self.error {
            AcceptError::PlainHttp => return plain.into(),
            // The library has a vaguer word for it.
            AcceptError::ProtocolVersion => return (&PROTOCOL_VERSION[..]).into(),
            _ => {}
        }
        let mut bytes = Vec::new();
        if let Some(alert) = &mut self.alert {
            // Writing to a vector cannot fail.
            while alert.write(&mut bytes).is_ok_and(|written| written > 0) {}
        }
        bytes.into()
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        Self { error, alert: None }
    }
}

/// Reads the first message of a client.
pub(super) async fn read<IO>(io: &mut IO) -> Result<Accepted, Failure>
where
    IO: AsyncRead + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut is_first = true;
    loop {
        poll_fn(|cx| {
            let mut room = [0; BUFFER];
            let mut buffer = ReadBuf::new(&mut room);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            Poll::Ready(match read {
                Ok(()) => take(
                    &mut acceptor,
                    buffer.filled(),
                    std::mem::take(&mut is_first),
                ),
                Err(error) => Err(error.into()),
            })
        })
        .await?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, alert)) => {
                return Err(Failure {
                    error: error.into(),
                    alert: Some(alert),
                });
            }
        }
    }
}

/// Hands over what was read.
fn take(acceptor: &mut Acceptor, mut bytes: &[u8], is_first: bool) -> Result<(), AcceptError> {
    match bytes.first().copied() {
        None => return Err(AcceptError::Closed),
        Some(HANDSHAKE) => {}
        Some(first) if is_first => {
            return Err(if first.is_ascii_uppercase() {
                AcceptError::PlainHttp
            } else {
                AcceptError::NotTls
            });
        }
        Some(_) => {}
    }
    while !bytes.is_empty() {
        // Bytes at hand cannot fail to be read: it has no room for more.
        if !matches!(acceptor.read_tls(&mut bytes), Ok(1..)) {
            let error = InvalidMessage::HandshakePayloadTooLarge;
            return Err(AcceptError::Malformed(error.into()));
        }
    }
    Ok(())
}
