//! Who speaks to us: facts about a client connection that every step may ask for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderValue;
use sluice_certs::Session;
use sluice_config::names::ListenerName;

/// A client connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Unique in this process; in logs.
    pub id: u64,
    /// Where it came in.
    pub listener: ListenerName,
    /// The connected peer.
    pub peer: SocketAddr,
    /// Our side of it.
    pub local: SocketAddr,
    /// `http` or `https`: what its requests are, unless a trusted proxy says something else.
    pub scheme: &'static str,
    /// What was agreed on where TLS is spoken.
    pub tls: Option<Box<Session>>,
    /// The peer's address as text: every request needs it, and most need no other.
    peer_text: HeaderValue,
}

impl Connection {
    /// A connection from `peer` to `local`, without TLS so far.
    pub fn new(id: u64, listener: ListenerName, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            listener,
            peer,
            local,
            scheme: "http",
            tls: None,
            peer_text: address_text(peer.ip().to_canonical()),
        }
    }

    /// The text of an address: the peer's is at hand.
    pub fn text_of(&self, address: IpAddr) -> HeaderValue {
        if address == self.peer.ip().to_canonical() {
            self.peer_text.clone()
        } else {
            address_text(address)
        }
    }
}

fn address_text(address: IpAddr) -> HeaderValue {
    // Digits, letters, dots and colons: always a header value.
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The sender of one request.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// The connection it came over.
    pub connection: Arc<Connection>,
    /// The client's address: the peer's, or what trusted proxies say.
    pub client: IpAddr,
    /// Whether the peer is one of `trusted_proxies`.
    pub trusted: bool,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// `X-Request-Id`: taken from trusted peers, else made here.
    pub request_id: HeaderValue,
}

impl Downstream {
    /// `X-Request-Id`; empty before there is one.
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}
