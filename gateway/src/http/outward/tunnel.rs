//! What is said first inside a tunnel, held against the target that was asked for.
//!
//! A client could ask for one host and speak to another one behind the same address. What must stay true:
//! no byte of the client goes out before it was held against the rules, but where they allow anything; and
//! nobody is waited for longer than `timeouts.sniff`.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::super::exchange::Exchange;
use crate::{
    downstream::{Hello, hello::Reader},
    egress::{Kind, Sni},
    error::ProxyError,
    message::Tunnel,
    stream::{Stream, WriteStall},
};

/// Room for the first message of almost every client.
const FIRST: usize = 4 << 10;

/// `access_denied` (RFC 8446 §6.2), so that a client of TLS need not take it for a broken network.
pub(crate) const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// What came first.
enum First {
    /// A client of TLS.
    Tls(Hello),
    /// Something else, perhaps from the endpoint.
    Other,
    /// The client left without a word.
    Left,
    /// The endpoint did.
    Lost(io::Error),
}

/// Gives what was read of the client, which is to go on first. What the endpoint said stays with `tunnel`.
pub(crate) async fn hold(
    exchange: &mut Exchange,
    client: &mut WriteStall<Stream>,
    ahead: Bytes,
    tunnel: &mut Tunnel,
) -> Result<Bytes, ProxyError> {
    let (attempt, downstream) = exchange.outside().ok_or(ProxyError::Internal)?;
    if attempt.takes_anything(downstream) {
        // Then the endpoint may be the one who speaks first.
        return settle(exchange, Kind::Tcp).map(|()| ahead);
    }
    let limit = exchange.visitor.listener.model.timeouts.sniff;
    let mut said = BytesMut::with_capacity(ahead.len().max(FIRST));
    said.extend_from_slice(&ahead);
    let first = timeout(limit, first(client, &mut said, tunnel)).await;
    let said = said.freeze();
    match first.unwrap_or(First::Other) {
        First::Tls(hello) => {
            let name = match &hello.sni {
                _ if hello.encrypted => Sni::Encrypted,
                Some(name) => Sni::Name(name),
                None => Sni::Absent,
            };
            if let Err(refused) = settle(exchange, Kind::Tls { name }) {
                // It is refused all the same if it has left.
                let _told = client.write_all(ALERT).await;
                return Err(refused);
            }
            Ok(said)
        }
        First::Other => settle(exchange, Kind::Tcp).map(|()| said),
        First::Left => Err(ProxyError::ClientClosed),
        First::Lost(error) => Err(match exchange.upstream.clone() {
            Some(upstream) => ProxyError::UpstreamReset {
                upstream,
                source: error.into(),
            },
            None => ProxyError::Internal,
        }),
    }
}

fn settle(exchange: &mut Exchange, kind: Kind<'_>) -> Result<(), ProxyError> {
    let plan = exchange.visitor.local.plan();
    let (attempt, downstream) = exchange.outside().ok_or(ProxyError::Internal)?;
    attempt.judge_inside(&plan, downstream, kind)
}

/// Waits until either side has said enough to know what this is. What they say is kept.
async fn first(client: &mut WriteStall<Stream>, said: &mut BytesMut, tunnel: &mut Tunnel) -> First {
    let mut reader = Reader::default();
    let mut answered = BytesMut::new();
    loop {
        if !tunnel.ahead.is_empty() {
            return First::Other;
        }
        match reader.read(said) {
            Ok(Some(hello)) => return First::Tls(hello),
            Ok(None) => {}
            Err(_) => return First::Other,
        }
        tokio::select! {
            biased;
            read = client.read_buf(said) => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) if said.is_empty() => return First::Left,
                Ok(0) | Err(_) => return First::Other,
            },
            read = tunnel.stream.read_buf(&mut answered) => match read {
                Ok(1..) => tunnel.ahead = answered.split().freeze(),
                Ok(0) => return First::Lost(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return First::Lost(error),
            },
        }
    }
}
