//! Step 9: picks an endpoint, lends a connection, notes the outcome.
//!
//! Two sides. The control side has one [`Registry`]: it turns the upstreams of a snapshot into
//! [`Upstream`]s, whose state (counts, budget, addresses of names) outlives a reload that does not
//! concern it. Each worker has one [`Pools`]: connections never leave the worker that made them.
//!
//! ```text
//! Pools::lease ─ balance ─► endpoint ─ pool ─► idle connection, or room on a shared one ─┐
//!                              └─ budget ─ connect ──────────────────────────────────────┴─► Lease::send ─► Response
//!                                                 (its body returns the connection to the pool)
//! ```
//!
//! What must stay true: a connection that could carry a byte that belongs to nobody is never
//! reused; what an upstream may cost (connections, waiting requests, time, memory) is bounded.

mod balance;
mod budget;
mod connect;
mod endpoints;
mod health;
mod lease;
mod outward;
mod pool;
mod pools;
mod registry;
mod resolve;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use sluice_certs::client::Client;
use sluice_config::{
    model::{self, Dns, ProxyVersion, UpstreamProtocol},
    names::UpstreamName,
};
use tokio::sync::Notify;

use crate::{
    downstream::{Connection, proxy_protocol::Version},
    telemetry::metrics::{Handshakes, Traffic},
};
use endpoints::{Set, Source, State};
use health::Watch;

pub use balance::Key;
pub use connect::Connector;
pub(crate) use connect::ask_for_tls;
pub use endpoints::{Checks, Choice, Connections, EndpointKey, EndpointReport, Introduction};
pub use health::{Health, HealthState};
pub use lease::{Failed, Lease, NoLease};
pub use outward::{Names, Place};
pub use pools::{Aim, Pools, Raw};
pub use registry::Registry;

/// How a request is put to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// HTTP/1.1, on a connection of its own.
    Http1,
    /// HTTP/2, on a connection shared with others.
    Http2,
    /// Whichever of both the endpoint chooses when TLS begins.
    Either,
}

/// How a request is put to an endpoint, and in whose name.
#[derive(Debug, Clone)]
pub struct Manner {
    /// What is spoken.
    pub dialect: Dialect,
    /// What its connection has to have begun with.
    pub header: Option<Introduction>,
}

impl From<Dialect> for Manner {
    fn from(dialect: Dialect) -> Self {
        Self {
            dialect,
            header: None,
        }
    }
}

/// A named group of endpoints at work. Shared by all workers; made by [`Registry::upstream`].
#[derive(Debug)]
pub struct Upstream {
    model: Arc<model::Upstream>,
    dns: Dns,
    /// Kept when only the endpoints change.
    state: Arc<State>,
    traffic: Arc<Traffic>,
    /// How TLS is spoken to its endpoints, if it is.
    tls: Option<Tls>,
    sources: Box<[Source]>,
    set: ArcSwap<Set>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Wakes requests that wait for a name's first answer.
    changed: Notify,
    /// Finds out which endpoints are well.
    watch: Watch,
}

/// How TLS is spoken to the endpoints of an upstream.
#[derive(Debug, Clone)]
struct Tls {
    client: Arc<Client>,
    /// Of all upstreams that had its name one after the other.
    handshakes: Arc<Handshakes>,
}

impl Upstream {
    fn new(
        model: Arc<model::Upstream>,
        dns: Dns,
        (state, traffic): (Arc<State>, Arc<Traffic>),
        tls: Option<Tls>,
        sources: Box<[Source]>,
    ) -> Self {
        let set = Set::new(&sources, &state, model.panic_threshold).ready_for(model.balance);
        let set = ArcSwap::from_pointee(set);
        Self {
            model,
            dns,
            state,
            traffic,
            tls,
            sources,
            set,
            changing: Mutex::new(()),
            changed: Notify::new(),
            watch: Watch::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.model.name
    }

    /// Its settings.
    pub fn model(&self) -> &Arc<model::Upstream> {
        &self.model
    }

    /// Its requests; of all upstreams that had its name one after the other.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Its TLS handshakes, if it speaks TLS; of all upstreams that had its name one after the other.
    pub fn handshakes(&self) -> Option<&Handshakes> {
        self.tls.as_ref().map(|tls| &*tls.handshakes)
    }

    /// How a request with these headers is put to its endpoints.
    pub fn dialect(&self, headers: &HeaderMap) -> Dialect {
        match self.model.protocol {
            UpstreamProtocol::Http2 => Dialect::Http2,
            UpstreamProtocol::Auto if is_grpc(headers) => Dialect::Http2,
            // Only HTTP/1.1 can go over to another protocol.
            UpstreamProtocol::Auto
                if self.tls.is_some() && !headers.contains_key(header::UPGRADE) =>
            {
                Dialect::Either
            }
            UpstreamProtocol::Http1 | UpstreamProtocol::Auto => Dialect::Http1,
        }
    }

    /// What its endpoints are told first of the client of `connection`, if they want to be told.
    pub fn introduction(&self, connection: &Arc<Connection>) -> Option<Introduction> {
        let version = match self.model.proxy_protocol? {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        };
        let bytes = connection.header().write(version);
        Some(Introduction::new(bytes, connection))
    }

    /// Whether requests could be sent anywhere but to `tried`.
    pub fn has_besides(&self, tried: &[EndpointKey]) -> bool {
        let set = self.set.load();
        set.iter().any(|endpoint| !tried.contains(&endpoint.key))
    }

    /// Takes over what names stand for now, and which endpoints are well.
    fn refresh(&self) {
        let _one_at_a_time = self.changing.lock();
        let set = Set::new(&self.sources, &self.state, self.model.panic_threshold);
        if !self.set.load().same_as(&set) {
            self.set.store(Arc::new(set.ready_for(self.model.balance)));
        }
        self.follow();
        self.changed.notify_waiters();
    }
}

/// Whether a request needs HTTP/2: `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let Some((head, rest)) = kind.and_then(|kind| kind.split_at_checked(GRPC.len())) else {
        return false;
    };
    // Its variant for browsers has its own name, and needs HTTP/1 only.
    head.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}
