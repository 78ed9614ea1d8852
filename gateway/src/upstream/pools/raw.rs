//! A connection for a raw stream: counted and bounded like any other, and never used twice.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Pools, Upstream};
use crate::{
    error::ProxyError,
    message::Tunnel,
    stream::{Stream, WriteStall},
    upstream::{
        Choice, Dialect, EndpointKey, Introduction, Manner, NoLease, endpoints::Active, pool::Grant,
    },
};

/// A connection to an endpoint on which nothing was said yet but who the client is.
#[derive(Debug)]
pub struct Raw {
    stream: WriteStall<Stream>,
    endpoint: EndpointKey,
    hold: Box<dyn Any>,
}

impl Raw {
    /// What `endpoint`, a proxy, has opened a tunnel to; and what came through it already.
    pub fn tunnelled(tunnel: Tunnel, endpoint: EndpointKey) -> (Self, Bytes) {
        let raw = Self {
            stream: tunnel.stream,
            endpoint,
            hold: tunnel.hold,
        };
        (raw, tunnel.ahead)
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &EndpointKey {
        &self.endpoint
    }

    /// The connection, for whoever waits for what its endpoint says first.
    pub fn stream(&mut self) -> &mut WriteStall<Stream> {
        &mut self.stream
    }

    /// The connection, and what counts it: to be dropped once it is closed.
    pub fn into_parts(self) -> (WriteStall<Stream>, Box<dyn Any>) {
        (self.stream, self.hold)
    }
}

impl Pools {
    /// A connection of its own to an endpoint of `upstream`, which begins with `header`; waits as long as
    /// [`Self::lease`] does.
    pub async fn raw(
        &self,
        upstream: &Arc<Upstream>,
        choice: &Choice,
        header: Option<Introduction>,
    ) -> Result<Raw, NoLease> {
        let pool = self.pool(upstream);
        let endpoint = self.resolved(&pool, upstream, choice).await?;
        let mut active = Active::new(endpoint);
        let deadline = Instant::now() + upstream.model.timeouts.connect;
        // Of this very endpoint, so that no connection that has served requests will do.
        let fresh = Choice::FreshOf(active.endpoint().key.clone());
        let manner = Manner {
            dialect: Dialect::Http1,
            header,
        };
        let grant = pool.permit(upstream, &fresh, &manner, deadline);
        let permit = match grant.await? {
            Grant::Permit(permit) => permit,
            // Who wants a fresh one is lent none.
            Grant::Lent(_) => {
                let upstream = upstream.name().clone();
                return Err(ProxyError::Overflow { upstream }.into());
            }
        };
        let header = manner.header.as_ref();
        let stream = self.dial.raw(upstream, &mut active, header, deadline);
        let stream = stream
            .await
            .map_err(|not_made| not_made.into_no_lease(upstream))?;
        let endpoint = active.endpoint().key.clone();
        Ok(Raw {
            stream: WriteStall::new(stream, upstream.model.timeouts.write_stall),
            endpoint,
            hold: Box::new((permit, active)),
        })
    }
}
