//! An endpoint for datagrams, which need no connection.

use std::{net::SocketAddr, sync::Arc};

use super::{Pools, Upstream};
use crate::{
    error::ProxyError,
    upstream::{
        Choice, EndpointKey, Key,
        endpoints::{Active, Target},
    },
};

/// An endpoint that is busy with a client until this is dropped.
#[derive(Debug)]
pub struct Aim {
    active: Active,
    address: SocketAddr,
}

impl Aim {
    /// Where datagrams go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in logs.
    pub fn endpoint(&self) -> &EndpointKey {
        &self.active.endpoint().key
    }
}

impl Pools {
    /// An endpoint of `upstream` that takes datagrams. Never waits: while a name has no address yet,
    /// there is none.
    pub fn aim(
        &self,
        upstream: &Arc<Upstream>,
        choice: &Choice,
        key: Key,
    ) -> Result<Aim, ProxyError> {
        let pool = self.pool(upstream);
        let chosen = self.choose_for(&pool, upstream, choice, Some(key));
        let found = chosen.and_then(|endpoint| match &endpoint.goal.target {
            Target::Tcp(address) => Some((*address, endpoint)),
            Target::Unix(_) | Target::Memory(_) => None,
        });
        let (address, endpoint) = found.ok_or_else(|| ProxyError::NoEndpoint {
            upstream: upstream.name().clone(),
        })?;
        let active = Active::new(endpoint);
        Ok(Aim { active, address })
    }
}
