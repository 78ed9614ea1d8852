//! What clients of `PostgreSQL` say before TLS, and what they are answered.
//!
//! Their protocol begins with one message without a type: its length, then a version, or 1234 and a number
//! where the client wants something else than to begin. What must stay true: nothing that came without
//! encryption is ever taken for something that came with it.

use std::io;

use sluice_certs::AcceptError;
use tokio::time::timeout_at;

use super::{
    Arrival,
    handshake::{Deadline, failed},
    peek::Peek,
};
use crate::stream::Stream;

/// How long a message is that asks for encryption.
const REQUEST: usize = 8;

/// A client may have TLS.
const GRANTED: &[u8] = b"S";

/// A client may not have the encryption that it asked for, and ask for another.
const DENIED: &[u8] = b"N";

/// What clients are told that want none.
pub(super) const REQUIRED: &str = "this server requires TLS: connect with sslmode=require";

/// What clients are told that do not wait for the answer to their request, or repeat it.
const UNEXPECTED: &str = "the request for encryption does not stand alone";

/// How a client begins.
#[derive(Debug)]
pub(super) enum Beginning {
    /// With TLS, at once or after it had asked for it.
    Tls {
        /// Whether it had asked.
        asked: bool,
    },
    /// Without any encryption: its bytes are still there.
    Plain,
    /// As nobody does; and why.
    Refused(&'static str),
}

/// Waits until a client of `PostgreSQL` has asked for TLS, if it does not begin with it; gives whether it
/// has. Whoever wants none is told that it has to be.
pub(super) async fn awaited(
    stream: Stream,
    arrival: &Arrival,
    deadline: Deadline,
) -> Option<(Stream, bool)> {
    let mut peek = Peek::new(stream);
    let why = match begin(&mut peek, arrival, deadline).await? {
        Beginning::Tls { asked } => return Some((peek.into_stream(), asked)),
        Beginning::Plain => REQUIRED,
        Beginning::Refused(why) => why,
    };
    refuse(peek, why, arrival, deadline).await;
    None
}

/// How a client of `PostgreSQL` begins; none when it does not, which was told and counted.
pub(super) async fn begin(
    peek: &mut Peek,
    arrival: &Arrival,
    deadline: Deadline,
) -> Option<Beginning> {
    let error = match timeout_at(deadline.end(), answer(peek)).await {
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
    let said = timeout_at(deadline.end(), peek.part(&refusal(why))).await;
    if !matches!(said, Ok(Ok(()))) {
        let connection = arrival.connection.id;
        tracing::debug!(connection, "a refusal was not heard");
    }
}

/// Answers what a client asks for until it is clear how it begins.
async fn answer(peek: &mut Peek) -> io::Result<Beginning> {
    let mut denied = false;
    loop {
        let bytes = peek.bytes();
        if bytes.first().is_some_and(|first| *first != 0) {
            return Ok(Beginning::Tls { asked: false });
        }
        let is_awaited = bytes.len() == REQUEST;
        match read(bytes) {
            Some(Startup::Tls) if is_awaited => {
                peek.answer(REQUEST, GRANTED).await?;
                return Ok(Beginning::Tls { asked: true });
            }
            Some(Startup::Gss) if is_awaited && !denied => {
                denied = true;
                peek.answer(REQUEST, DENIED).await?;
            }
            Some(Startup::Tls | Startup::Gss) => return Ok(Beginning::Refused(UNEXPECTED)),
            Some(Startup::Plain) => return Ok(Beginning::Plain),
            None => {}
        }
        if peek.more().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Startup {
    Tls,
    /// Encryption by GSSAPI.
    Gss,
    /// To begin, or to cancel what another connection does, without any.
    Plain,
}

/// What a client wants, once there is enough of it. `bytes` are all that it sent.
fn read(bytes: &[u8]) -> Option<Startup> {
    let (request, _) = bytes.split_at_checked(REQUEST)?;
    Some(match request {
        [0, 0, 0, 8, 4, 210, 22, 47] => Startup::Tls,
        [0, 0, 0, 8, 4, 210, 22, 48] => Startup::Gss,
        _ => Startup::Plain,
    })
}

/// How a client is refused: as by a server that takes nobody without encryption.
fn refusal(why: &str) -> Vec<u8> {
    // Severity, the same untranslated, the code for "invalid authorization", the text.
    let fields = [("S", "FATAL"), ("V", "FATAL"), ("C", "28000"), ("M", why)];
    let mut body = Vec::new();
    for (kind, text) in fields {
        body.extend_from_slice(kind.as_bytes());
        body.extend(text.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
    [b"E", &length.to_be_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wants_is_clear_with_eight_bytes() {
        for (bytes, wanted) in [
            (&[0, 0, 0, 8, 4, 210, 22, 47][..], Some(Startup::Tls)),
            (&[0, 0, 0, 8, 4, 210, 22, 47, 22], Some(Startup::Tls)),
            (&[0, 0, 0, 8, 4, 210, 22, 48], Some(Startup::Gss)),
            // To cancel, with what follows.
            (&[0, 0, 0, 16, 4, 210, 22, 46, 0], Some(Startup::Plain)),
            (&[0, 0, 0, 41, 0, 3, 0, 0, b'u'], Some(Startup::Plain)),
            // A request of another length is none.
            (&[0, 0, 0, 9, 4, 210, 22, 47], Some(Startup::Plain)),
            (&[0, 0, 0, 8, 4, 210, 22], None),
            (&[], None),
        ] {
            assert_eq!(read(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_message_whose_length_is_right() {
        let refusal = refusal("TLS is required");
        assert_eq!(refusal[0], b'E');
        let length = u32::from_be_bytes(refusal[1..5].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap() + 1, refusal.len());
        assert_eq!(
            &refusal[5..],
            b"SFATAL\0VFATAL\0C28000\0MTLS is required\0\0"
        );
    }
}
