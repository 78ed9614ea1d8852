//! Begins a session: whether there is room for one, by which rule, and to whom.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderMap;
use sluice_config::model::Mode;
use socket2::{Domain, Protocol, Socket, Type};
use time::OffsetDateTime;

use super::{
    relay::Relay,
    session::{Carried, Ground, Peer, Session},
};
use crate::{
    downstream::proxy_protocol::{About, Header, Version},
    plan::{Action, Destination, Opening, Ruled},
    stream::{Family, Options},
    telemetry::metrics::Loss,
    upstream::{Aim, Key, Upstream},
};

impl Relay {
    /// Begins a session with `peer` and gives its place. A refusal costs next to nothing.
    pub(super) fn open(&mut self, peer: Peer) -> Result<usize, Loss> {
        if self.shared.is_stopped() {
            return Err(Loss::Draining);
        }
        if self.local.pressure.is_overloaded() {
            return Err(Loss::Overloaded);
        }
        let (client, udp) = (peer.client_address().ip(), &self.listener.model.udp);
        let (census, limits) = (
            &self.listener.census,
            (udp.sessions, udp.sessions_per_client),
        );
        let seat = census.admit_within(client, limits).ok_or_else(|| {
            if census.len() < udp.sessions {
                Loss::SessionsPerClient
            } else {
                Loss::Sessions
            }
        })?;
        let (ground, upstream) = self.choose(&peer)?;
        let choice = self.avoided.choice(self.now);
        let aim = self
            .local
            .pools
            .aim(&upstream, &choice, Key::of_client(client));
        let aim = aim.map_err(|_| Loss::NoEndpoint)?;
        let place = self.table.next();
        let socket = self.connected(&upstream, &aim, place)?;
        let header = upstream.model().proxy_protocol.map(|_| self.header(&peer));
        let trace = self.local.plan().tracer.begin(&HeaderMap::new());
        self.insert(Session {
            id: self.shared.next_id(),
            peer,
            ground,
            socket,
            upstream,
            aim,
            header,
            inward: Carried::default(),
            outward: Carried::default(),
            counted: (0, 0),
            began: (OffsetDateTime::now_utc(), self.now),
            moved: self.now,
            trace,
            seat,
        });
        Ok(place)
    }

    /// A socket of its own to an endpoint. Its port is one by chance, which nobody can guess, and it is
    /// never used for another session: no late answer ever reaches the wrong client.
    fn connected(
        &mut self,
        upstream: &Upstream,
        aim: &Aim,
        place: usize,
    ) -> Result<UdpSocket, Loss> {
        let options = Options::from(&upstream.model().socket).of_datagrams();
        let socket = socket(aim.address(), options).map_err(|error| {
            self.avoided.add(aim.endpoint(), self.now);
            tracing::debug!(%error, endpoint = %aim.endpoint(), "no socket for a session");
            Loss::Connect
        })?;
        if self.local.pressure.reserves(&socket) {
            return Err(Loss::NoDescriptor);
        }
        self.watch(&socket, place).map_err(|_| Loss::NoDescriptor)?;
        Ok(socket)
    }

    /// What an endpoint is told of a client that wants to know. There is only one version that has a word
    /// for datagrams.
    fn header(&self, peer: &Peer) -> Bytes {
        let ours = self.ours();
        let about = About::Client {
            source: peer.client_address(),
            destination: SocketAddr::new(peer.local_ip(ours), ours.port()),
        };
        let extras = Bytes::new();
        Header { about, extras }.write(Version::V2Datagram)
    }

    /// The rule for a client and its upstream.
    fn choose(&mut self, peer: &Peer) -> Result<(Rc<Ground>, Arc<Upstream>), Loss> {
        let (plan, listener) = (self.local.plan(), &self.listener);
        let ours = self.ours();
        let opening = Opening::plain(SocketAddr::new(peer.local_ip(ours), ours.port()));
        let question = opening.question(Mode::Udp, peer.client_address().ip());
        let found = plan.find(&listener.model.name, &question);
        let Ruled { route, rule, .. } = found.map_err(|_| Loss::NoRoute)?;
        let Action::Forward(split) = &rule.action else {
            return Err(Loss::NoTarget);
        };
        let Some(Destination::Upstream(upstream)) = split.pick(self.local.random()) else {
            return Err(Loss::NoTarget);
        };
        let known = self.grounds.iter().find(|ground| {
            Arc::ptr_eq(&ground.listener, listener) && Arc::ptr_eq(&ground.rule, rule)
        });
        let ground = if let Some(ground) = known {
            Rc::clone(ground)
        } else {
            let ground = Rc::new(Ground::new(listener, (route, rule), plan.version.clone()));
            self.grounds.push(Rc::clone(&ground));
            ground
        };
        Ok((ground, Arc::clone(upstream)))
    }
}

fn socket(address: SocketAddr, options: Options) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let set = Options::default().change(options, &socket, Family::of(address));
    set.map_err(|unset| unset.source)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}
