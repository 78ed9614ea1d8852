//! What an upstream tells of its endpoints and connections to whoever looks from outside.

use super::{
    super::{Upstream, health::Health},
    Connections, Endpoint, EndpointKey,
    standings::Checks,
};

/// An endpoint as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointReport {
    /// Its address.
    pub key: EndpointKey,
    /// Requests it is busy with.
    pub active: usize,
    /// How it stands.
    pub health: Health,
}

impl Upstream {
    /// Its endpoints, also those that get no requests at this moment.
    pub fn report(&self) -> Vec<EndpointReport> {
        let set = self.set.load();
        let report = |endpoint: &Endpoint| EndpointReport {
            key: endpoint.key.clone(),
            active: endpoint.active(),
            health: endpoint.standing.read(),
        };
        let all = set.in_order().into_iter();
        all.map(|endpoint| report(endpoint)).collect()
    }

    /// The addresses that requests are sent to at this moment.
    pub fn endpoints(&self) -> Vec<EndpointKey> {
        let set = self.set.load();
        set.iter().map(|endpoint| endpoint.key.clone()).collect()
    }

    /// Whether too few endpoints are available, so that requests go to all.
    pub fn is_panicking(&self) -> bool {
        self.set.load().panicking
    }

    /// What came of the checks of its endpoints.
    pub fn checks(&self) -> Checks {
        self.state.standings.checks()
    }

    /// Its connections over all workers, and the requests that wait for one.
    pub fn connections(&self) -> Connections {
        Connections {
            waiting: self.state.budget.waiting(),
            ..self.state.ledger.read()
        }
    }
}
