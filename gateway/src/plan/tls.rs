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
    /// Its handshakes; of all its versions.
    pub handshakes: Arc<Handshakes>,
    terms: Terms,
    policies: Policies,
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
        if let Some(previous) = previous
            && previous.terms == terms
            && previous.routes == routes
            && previous.policies == policies
        {
            return Ok(Some(Arc::clone(previous)));
        }
        let same = previous.map(|previous| &previous.server);
        Ok(Some(Arc::new(Self {
            server: Server::new(terms.clone(), &policies, same)?,
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
        own.unwrap_or_else(|| self.policies.base.as_ref().map(Clients::id))
    }
}

/// Whether some route takes the TLS of `listener` as it is.
fn passes_through(listener: &model::Listener, snapshot: &Snapshot) -> bool {
    let mut routes = snapshot.routes.values();
    routes.any(|it| it.mode == Mode::Passthrough && it.listeners.contains(&listener.name))
}

/// What is asked of clients by host, and by route. Hosts are only told apart where some route says
/// something else than the listener; then all are, since a host does not ask what a wider one asks.
fn asked(
    listener: &model::Listener,
    snapshot: &Snapshot,
    clients: &ClientPolicies,
) -> (Policies, HashMap<RouteName, Option<ClientsId>>) {
    let find = |asked: Option<&model::ClientCertificates>| clients.get(asked?).cloned();
    let base = listener.tls.as_ref();
    let base = find(base.and_then(|tls| tls.client_certificates.as_ref()));
    let bound = snapshot.routes.values();
    let inside = |route: &&Arc<model::Route>| {
        route.listeners.contains(&listener.name) && route.mode.is_inside_tls_of(listener.protocol)
    };
    let bound: Vec<&Arc<model::Route>> = bound.filter(inside).collect();
    let mut policies = Policies {
        base,
        hosts: Vec::new(),
    };
    let mut routes = HashMap::new();
    if bound
        .iter()
        .all(|route| route.client_certificates.is_none())
    {
        return (policies, routes);
    }
    for route in bound {
        let asks = find(route.client_certificates_on(listener));
        if route.client_certificates.is_some() {
            routes.insert(route.name.clone(), asks.as_ref().map(Clients::id));
        }
        for host in &route.hosts {
            policies.hosts.push((host.to_string(), asks.clone()));
        }
    }
    (policies, routes)
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
