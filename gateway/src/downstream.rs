//! Who speaks to us: facts about a client connection that every step may ask for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

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
    pub request_id: Arc<str>,
}
