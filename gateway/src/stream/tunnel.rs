//! A stream of an HTTP/2 connection that carries bytes of another protocol.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

/// Both halves of such a stream, on either side of the gateway. The end of what is read is
/// `END_STREAM`, closing the sending half sends it; a reset is an error with [`Reset`] inside.
pub trait Tunnel: AsyncRead + AsyncWrite + fmt::Debug + Send {}

/// The error inside the [`std::io::Error`] of a stream that its peer reset.
#[derive(Debug)]
pub struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer reset the stream")
    }
}

impl std::error::Error for Reset {}

impl From<Reset> for std::io::Error {
    fn from(reset: Reset) -> Self {
        Self::new(std::io::ErrorKind::ConnectionReset, reset)
    }
}
