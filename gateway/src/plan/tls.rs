//! How a listener ends TLS, and what its routes ask of client certificates.
//!
//! What must stay true: what the handshake for a host asks for is what the route of that host asks for,
//! and a request is held against its route once more.

use std::{collections::HashMap, sync::Arc};

use sluice_certs::{Clients, ClientsId, Policies, Server, SetupError, Terms, Version};
use sluice_config::{
    Snapshot,
    model::{self, Mode, Protocol, Startup, TlsTerms, TlsVersion},
    names::RouteName,
};

use crate::telemetry::metrics::Handshakes;

/// What a client is told that speaks HTTP where TLS is spoken.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 55\r\n\r\nThis port speaks HTTPS: the URL begins with https://.\r\n";

/// What `PostgreSQL` is inside TLS (ALPN).
pub const POSTGRES: &[u8] = b"postgresql";

/// What clients are held against, by what the configuration says of it.
pub type ClientPolicies = HashMap<model::ClientCertificates, Clients>;

/// How a listener ends TLS.
#[derive(Debug)]
pub struct Tls {
    /// Does the handshakes.
    pub server: Server,
    /// Does those of raw streams, where requests are read, too, and routes ask other certificates of their
    /// clients. It presents the same certificates.
    raw: Option<Server>,
    /// Its handshakes; of all its versions.
    pub handshakes: Arc<Handshakes>,
    terms: Terms,
    policies: (Policies, Option<Policies>),
    /// Of routes that say something else than the listener.
    routes: HashMap<RouteName, Option<ClientsId>>,
}

impl Tls {
    /// How `listener` ends TLS, if it does. Asking for the same as `previous`, it is the same value.
    pub fn compile(
        listener: &model::Listener,
        snapshot: &Snapshot,
        clients: &ClientPolicies,
        workers: usize,
        previous: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, SetupError> {
        let none = TlsTerms::default();
        let model = match &listener.tls {
            Some(tls) => &tls.terms,
            // Whoever is not passed through is told so as anywhere else: there is no certificate.
            None if passes_through(listener, snapshot) => &none,
            None => return Ok(None),
        };
        let terms = terms(listener, model);
        let (policies, routes) = asked(listener, snapshot, clients);
        let (first, second) = &policies;
        if let Some(previous) = previous
            && previous.terms == terms
            && previous.routes == routes
            && previous.policies == policies
        {
            return Ok(Some(Arc::clone(previous)));
        }
        let same = previous.map(|previous| &previous.server);
        let server = Server::new(terms.clone(), first, same)?;
        let raw = second.as_ref().map(|second| {
            // So that both present what either is given.
            Server::new(terms.clone(), second, Some(&server))
        });
        Ok(Some(Arc::new(Self {
            raw: raw.transpose()?,
            server,
            handshakes: previous.map_or_else(
                || Arc::new(Handshakes::new(workers)),
                |previous| Arc::clone(&previous.handshakes),
            ),
            terms,
            policies,
            routes,
        })))
    }

    /// What a route asks of client certificates: the handshake must have asked for the same.
    pub fn policy(&self, route: &RouteName) -> Option<ClientsId> {
        let own = self.routes.get(route).copied();
        own.unwrap_or_else(|| self.policies.0.base.as_ref().map(Clients::id))
    }

    /// Does the handshake for a raw stream, or for requests.
    pub fn server_for(&self, is_raw: bool) -> &Server {
        self.raw.as_ref().filter(|_| is_raw).unwrap_or(&self.server)
    }
}

impl super::Listener {
    /// Whether it has to be known before the handshake what is spoken inside.
    pub fn tells_apart(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.raw.is_some())
    }

    /// Whether a client that offers these protocols gets a raw stream, where not all do.
    pub fn agrees_on_raw<'o, I: Iterator<Item = &'o [u8]>>(&self, offered: impl Fn() -> I) -> bool {
        let spoken = self.tls.iter().flat_map(|tls| &tls.terms.protocols);
        let mut agreed = spoken.filter(|spoken| offered().any(|it| it == spoken.as_slice()));
        agreed.next().is_some_and(|agreed| agreed == POSTGRES)
    }
}

/// Whether some route takes the TLS of `listener` as it is.
fn passes_through(listener: &model::Listener, snapshot: &Snapshot) -> bool {
    let mut routes = snapshot.routes.values();
    routes.any(|it| it.mode == Mode::Passthrough && it.listeners.contains(&listener.name))
}

/// What is asked of clients by host, and by route. Hosts are only told apart where some route says
/// something else than the listener; then all are, since a host does not ask what a wider one asks. The
/// second is for raw streams, where these and requests come out of TLS and are asked for different things.
fn asked(
    listener: &model::Listener,
    snapshot: &Snapshot,
    clients: &ClientPolicies,
) -> (
    (Policies, Option<Policies>),
    HashMap<RouteName, Option<ClientsId>>,
) {
    let find = |asked: Option<&model::ClientCertificates>| clients.get(asked?).cloned();
    let base = listener.tls.as_ref();
    let base = find(base.and_then(|tls| tls.client_certificates.as_ref()));
    let bound = snapshot.routes.values();
    let inside = |route: &&Arc<model::Route>| {
        route.listeners.contains(&listener.name) && listener.hands_from_tls(route.mode)
    };
    let bound: Vec<&Arc<model::Route>> = bound.filter(inside).collect();
    let mut routes = HashMap::new();
    for route in &bound {
        if route.client_certificates.is_some() {
            let asks = find(route.client_certificates_on(listener));
            routes.insert(route.name.clone(), asks.as_ref().map(Clients::id));
        }
    }
    let policies = |counts: fn(&model::Route) -> bool| {
        let mut policies = Policies {
            base: base.clone(),
            hosts: Vec::new(),
        };
        let counted = || bound.iter().filter(|route| counts(route));
        if counted().any(|route| route.client_certificates.is_some()) {
            for route in counted() {
                let asks = find(route.client_certificates_on(listener));
                let hosts = route.hosts.iter();
                let hosts = hosts.map(|host| (host.to_string(), asks.clone()));
                policies.hosts.extend(hosts);
            }
        }
        policies
    };
    if listener.protocol != Protocol::Auto {
        return ((policies(|_| true), None), routes);
    }
    let requests = policies(|route| route.mode == Mode::Http);
    let raw = policies(|route| route.mode != Mode::Http);
    let raw = Some(raw).filter(|raw| *raw != requests);
    ((requests, raw), routes)
}

fn terms(listener: &model::Listener, model: &TlsTerms) -> Terms {
    let protocols = model.alpn.iter();
    let protocols = protocols.map(|protocol| protocol.as_str().as_bytes());
    // Its clients of today insist on it where they begin with TLS.
    let startup = listener.startup.map(|Startup::Postgres| POSTGRES);
    Terms {
        oldest: match model.min_version {
            TlsVersion::V1_2 => Version::Tls12,
            TlsVersion::V1_3 => Version::Tls13,
        },
        protocols: protocols.chain(startup).map(<[u8]>::to_vec).collect(),
        tickets: model.session_tickets,
        plain: match listener.protocol {
            Protocol::Https | Protocol::ForwardProxy => PLAIN,
            Protocol::Http
            | Protocol::Tls
            | Protocol::Tcp
            | Protocol::Udp
            | Protocol::Auto
            | Protocol::Transparent => b"",
        },
    }
}
