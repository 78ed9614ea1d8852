//! Upstreams that no configuration names: wherever clients of a forward proxy are allowed to go.
//!
//! Each worker has its own, one per rule, host, port and manner of speaking. What must stay true: nothing is
//! connected to but the addresses that the caller gives, which it has held against its rules; there are
//! never more than [`MOST`], and those that nobody asks for go.

mod names;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sluice_certs::client::{Client, Host};
use sluice_config::{
    model::{self, Address, Dns, HostPort, Scheme, UpstreamProtocol, UpstreamSocket},
    names::UpstreamName,
};
use tokio::time::{Instant, timeout_at};

use super::{
    EndpointKey, NoLease, Pools, Tls, Upstream,
    connect::is_out_of_descriptors,
    endpoints::{Goal, Source, Speech, State, Target},
};
use crate::{
    error::ProxyError,
    stream::{Stream, WriteStall},
    telemetry::metrics::{Counter, Handshakes, Shard, Traffic},
};

pub use names::Names;

/// The most upstreams of one worker. A container rarely speaks to more hosts within a minute.
const MOST: usize = 1024;

/// Nobody has asked for it for so long: its connections are gone mostly, as those of any pool.
const IDLE: Duration = Duration::from_secs(90);

/// Idle ones are looked for this often at most.
const SWEEP: Duration = Duration::from_secs(1);

/// What tells one upstream from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The rule that allows it. What one rule allows another may not, so they share no connection.
    pub rule: Option<Box<str>>,
    /// A name, or an address in its usual form without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// The mark of the packets to it.
    pub mark: Option<u32>,
}

impl Place {
    /// Settings of the sockets to it.
    fn socket(&self) -> UpstreamSocket {
        UpstreamSocket {
            mark: self.mark,
            ..UpstreamSocket::default()
        }
    }

    /// What it is called in errors and logs.
    pub fn name(&self, secure: bool) -> UpstreamName {
        let host = match self.host.parse::<IpAddr>() {
            Ok(address) => HostPort::Socket(SocketAddr::new(address, self.port)),
            Err(_) => HostPort::Name {
                name: self.host.to_string(),
                port: self.port,
            },
        };
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        UpstreamName::of_address(&Address { scheme, host })
    }
}

/// The upstreams of one worker that no configuration names.
#[derive(Debug)]
pub(super) struct Outward {
    known: RefCell<HashMap<(Place, bool), Kept>>,
    swept: Cell<Instant>,
    /// Of all of them: their names are no labels.
    traffic: Arc<Traffic>,
    handshakes: Arc<Handshakes>,
}

#[derive(Debug)]
struct Kept {
    upstream: Arc<Upstream>,
    addresses: Box<[SocketAddr]>,
    used: Instant,
}

impl Outward {
    pub(super) fn new(counters: &Shard) -> Self {
        Self {
            known: RefCell::default(),
            swept: Cell::new(Instant::now()),
            traffic: counters.traffic(),
            handshakes: counters.handshakes(),
        }
    }

    /// Takes out what nobody has used for long, and as much more as it takes to have room for another.
    fn sweep(&self, now: Instant) -> Vec<Arc<Upstream>> {
        let mut known = self.known.borrow_mut();
        let full = known.len() >= MOST;
        if !full && now.duration_since(self.swept.get()) < SWEEP {
            return Vec::new();
        }
        self.swept.set(now);
        let is_idle = |kept: &Kept| now.duration_since(kept.used) >= IDLE;
        let gone = known.extract_if(|_, kept| is_idle(kept));
        let mut gone: Vec<_> = gone.map(|(_, kept)| kept.upstream).collect();
        if known.len() >= MOST {
            let oldest = known.iter().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.map(|(place, _)| place.clone());
            gone.extend(oldest.and_then(|place| Some(known.remove(&place)?.upstream)));
        }
        gone
    }
}

impl Pools {
    /// The upstream of `place`, whose endpoints are `addresses` and no others. With `client`, TLS is spoken
    /// to it.
    pub fn outward(
        &self,
        place: &Place,
        addresses: &[SocketAddr],
        client: Option<&Arc<Client>>,
    ) -> Arc<Upstream> {
        let now = Instant::now();
        for gone in self.outward.sweep(now) {
            self.forget(&gone);
        }
        let mut known = self.outward.known.borrow_mut();
        let key = (place.clone(), client.is_some());
        let mut state = None;
        if let Some(kept) = known.get_mut(&key) {
            let tls = kept.upstream.tls.as_ref();
            let is_same = match (tls, client) {
                (Some(tls), Some(client)) => Arc::ptr_eq(&tls.client, client),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if is_same && *kept.addresses == *addresses {
                kept.used = now;
                return Arc::clone(&kept.upstream);
            }
            if is_same {
                state = Some(Arc::clone(&kept.upstream.state));
            } else {
                self.forget(&kept.upstream);
            }
        }
        let upstream = self.outward.upstream(place, addresses, client, state);
        let kept = Kept {
            upstream: Arc::clone(&upstream),
            addresses: addresses.into(),
            used: now,
        };
        known.insert(key, kept);
        upstream
    }

    /// A stream to one of `addresses` of `place`, which are tried one after the other within `limit`.
    pub async fn reach(
        &self,
        place: &Place,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Result<(WriteStall<Stream>, EndpointKey), NoLease> {
        let deadline = Instant::now() + limit;
        let (name, socket) = (place.name(false), place.socket());
        let mut rest = addresses.iter();
        let mut failed = ProxyError::NoEndpoint {
            upstream: name.clone(),
        };
        let mut tried = None;
        while let Some(address) = rest.next() {
            // An address that says nothing must not use up the time of the others.
            let now = Instant::now();
            let until = match rest.len() {
                0 => deadline,
                _ => now + deadline.duration_since(now) / 2,
            };
            let target = Target::Tcp(*address);
            let key = EndpointKey::of(&target);
            let settings = (&socket, false);
            let opening = self
                .dial
                .connector
                .open(&target, settings, &self.dial.pressure);
            failed = match timeout_at(until, opening).await {
                Ok(Ok(stream)) => {
                    self.dial.counters.count(Counter::UpstreamConnections);
                    let stall = model::UpstreamTimeouts::default().write_stall;
                    return Ok((WriteStall::new(stream, stall), key));
                }
                // No endpoint's fault, and no better at the next one.
                Ok(Err(error)) if is_out_of_descriptors(&error) => {
                    self.make_room();
                    return Err(ProxyError::NoDescriptor.into());
                }
                Ok(Err(source)) => ProxyError::Connect {
                    upstream: name.clone(),
                    source,
                },
                Err(_) => ProxyError::ConnectTimeout {
                    upstream: name.clone(),
                },
            };
            self.dial.counters.count(Counter::UpstreamConnectFailures);
            tried = Some(key);
        }
        Err(NoLease {
            error: failed,
            endpoint: tried,
        })
    }

    /// Closes the connections to an upstream as they come back.
    fn forget(&self, upstream: &Upstream) {
        let pool = self.by_state.borrow_mut().remove(&upstream.state.id);
        if let Some(pool) = pool {
            pool.retire();
        }
    }
}

impl Outward {
    /// With the connections and counts of `state`, where it is the same place at other addresses.
    fn upstream(
        &self,
        place: &Place,
        addresses: &[SocketAddr],
        client: Option<&Arc<Client>>,
        state: Option<Arc<State>>,
    ) -> Arc<Upstream> {
        let mut model = model::Upstream::new(place.name(client.is_some()), Vec::new());
        model.socket = place.socket();
        if client.is_some() {
            model.protocol = UpstreamProtocol::Auto;
        }
        let state = state.unwrap_or_else(|| Arc::new(State::new(&model.limits, Arc::default())));
        let speech = match client {
            None => Speech::Plain,
            Some(_) => Speech::Tls(match place.host.parse::<IpAddr>() {
                Ok(address) => Some(Host::address(address)),
                Err(_) => Host::new(&place.host).ok(),
            }),
        };
        let endpoint = |address: &SocketAddr| {
            let target = Target::Tcp(*address);
            let speech = speech.clone();
            state.endpoint(Goal { target, speech })
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        let tls = client.map(|client| Tls {
            client: Arc::clone(client),
            handshakes: Arc::clone(&self.handshakes),
        });
        let counted = (state, Arc::clone(&self.traffic));
        let sources = Box::from([Source::Resolved(endpoints)]);
        Arc::new(Upstream::new(
            Arc::new(model),
            Dns::default(),
            counted,
            tls,
            sources,
        ))
    }
}

#[cfg(test)]
mod tests;
