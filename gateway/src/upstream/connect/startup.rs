//! What an endpoint of `PostgreSQL` is asked for before TLS.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// `SSLRequest`: its length, then 1234 and 5679.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why an endpoint has no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Declined {
    /// `N`, or the beginning of an error.
    #[error("it answered {:?} to the request for TLS", char::from(*.0))]
    Answer(u8),
    /// It said nothing.
    #[error("the connection broke before the request for TLS was answered")]
    Broken(#[from] io::Error),
}

/// Asks for TLS and waits for the answer, however long that takes. Nothing is read behind it: what came with
/// it came without TLS.
pub(crate) async fn ask_for_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), Declined> {
    stream.write_all(&REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        other => Err(Declined::Answer(other)),
    }
}
