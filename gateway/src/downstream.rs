//! Who speaks to us: facts about a client connection that every step may ask for.

pub mod hello;
pub mod proxy_protocol;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderValue;
use sluice_certs::Session;
use sluice_config::names::ListenerName;

use proxy_protocol::{About, Extra, Header};

/// A client connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Unique in this process; in logs.
    pub id: u64,
    /// Where it came in.
    pub listener: ListenerName,
    /// The connected peer, or whom a trusted proxy in front says that it connects for.
    pub peer: SocketAddr,
    /// Our side of it, or that of the proxy in front.
    pub local: SocketAddr,
    /// `http` or `https`: what its requests are, unless a trusted proxy says something else.
    pub scheme: &'static str,
    /// What was agreed on where TLS is spoken.
    pub tls: Option<Box<Session>>,
    /// It came over a unix socket, so that `peer` and `local` only stand in for addresses.
    pub unix: bool,
    /// What a trusted proxy in front said of it.
    header: Option<Box<Header>>,
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
            unix: false,
            header: None,
            peer_text: address_text(peer.ip().to_canonical()),
        }
    }

    /// The SPIFFE id of the certificate that the client has shown and that was verified; none where it has
    /// another URI besides, which no such certificate has.
    pub fn identity(&self) -> Option<&str> {
        let peer = self.tls.as_ref()?.peer.as_ref()?;
        match peer.facts().uris.as_slice() {
            [uri] if uri.starts_with("spiffe://") => Some(uri),
            _ => None,
        }
    }

    /// Believes what a trusted proxy in front says of it.
    pub fn believe(&mut self, header: Header) {
        if let About::Client {
            source,
            destination,
        } = header.about
        {
            let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
            (self.peer, self.local) = (canonical(source), canonical(destination));
            self.peer_text = address_text(self.peer.ip());
            self.unix = false;
        }
        self.header = Some(Box::new(header));
    }

    /// What is said of it to an endpoint that wants to be told by the PROXY protocol: who the client is, what
    /// a proxy in front said besides, and what was agreed on in TLS.
    pub fn header(&self) -> Header {
        let said = self.header.as_deref();
        let about = match said.map(|header| &header.about) {
            Some(unix @ About::Unix(_)) => unix.clone(),
            _ if self.unix => About::Unnamed,
            _ => About::Client {
                source: self.peer,
                destination: self.local,
            },
        };
        let extras = said.map(|header| header.extras.clone()).unwrap_or_default();
        let mut header = Header { about, extras };
        let session = self.tls.as_ref();
        if let Some(protocol) = session.and_then(|session| session.protocol.as_deref()) {
            header.set_extra(Extra::Alpn, protocol);
        }
        if let Some(host) = session.and_then(|session| session.sni.as_deref()) {
            header.set_extra(Extra::Authority, host.as_bytes());
        }
        header
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

/// What a client of TLS said first, where TLS is not ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// The host that it asks for: lower case, without the dot at its end.
    pub sni: Option<Box<str>>,
    /// Before that it asked for TLS in the protocol of `PostgreSQL`, and was granted it.
    pub asked: bool,
    /// It carries an encrypted message (RFC 9849) or what looks like one, which only who it is for can
    /// tell apart: whom it really asks for may stand there.
    pub encrypted: bool,
    /// As on the wire, each name behind its length.
    protocols: Box<[u8]>,
}

impl Hello {
    /// `protocols` are what it offers to speak inside, each name behind a byte with its length.
    pub fn new(sni: Option<Box<str>>, protocols: &[u8]) -> Self {
        Self {
            sni,
            asked: false,
            encrypted: false,
            protocols: protocols.into(),
        }
    }

    /// What it offers to speak inside, preferred first.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.protocols;
        std::iter::from_fn(move || {
            let (length, names) = rest.split_first()?;
            let (name, others) = names.split_at_checked(usize::from(*length))?;
            rest = others;
            Some(name)
        })
    }
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
