//! The way to a new connection: addresses are tried, what fails is counted and told.

use std::{io, sync::Arc};

use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        EndpointKey, Upstream,
        endpoints::{Active, Endpoint},
        lease::NoLease,
    },
    Connector,
    channel::{Channel, io_error},
    http1::Connection,
};
use crate::{
    drain::Tasks,
    error::ProxyError,
    stream::Stream,
    telemetry::metrics::{Counter, Shard},
};

/// What makes the connections of a worker.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Dial {
    pub(in crate::upstream) connector: Connector,
    pub(in crate::upstream) tasks: Tasks,
    pub(in crate::upstream) counters: Shard,
}

/// Why there is no connection. Many may have waited for it.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct NotMade {
    cause: Cause,
    endpoint: EndpointKey,
}

#[derive(Debug, Clone)]
enum Cause {
    Failed(Arc<io::Error>),
    TooSlow,
    NotHttp2(Arc<h2::Error>),
}

impl NotMade {
    pub(in crate::upstream) fn too_slow(endpoint: &Endpoint) -> Self {
        Self {
            cause: Cause::TooSlow,
            endpoint: endpoint.key.clone(),
        }
    }

    pub(in crate::upstream) fn into_no_lease(self, upstream: &Upstream) -> NoLease {
        let upstream = upstream.name().clone();
        let error = match self.cause {
            Cause::TooSlow => ProxyError::ConnectTimeout { upstream },
            Cause::Failed(source) => ProxyError::Connect {
                upstream,
                source: io::Error::new(source.kind(), source),
            },
            Cause::NotHttp2(source) => ProxyError::UpstreamProtocol {
                upstream,
                source: source.into(),
            },
        };
        NoLease {
            error,
            endpoint: Some(self.endpoint),
        }
    }
}

impl Dial {
    /// A connection to the endpoint of `active`, or to another address of its name.
    pub(in crate::upstream) async fn connection(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        permit: impl Sized + 'static,
        deadline: Instant,
    ) -> Result<Connection, NotMade> {
        let stream = self.stream(upstream, active, deadline).await?;
        let endpoint = Arc::clone(active.endpoint());
        let stall = upstream.model.timeouts.write_stall;
        let made = Connection::new(stream, endpoint, stall, permit, &self.tasks).await;
        made.map_err(|error| failed(active, error))
    }

    /// As [`Self::connection`], to be shared.
    pub(in crate::upstream) async fn channel(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        permit: impl Sized + 'static,
        deadline: Instant,
    ) -> Result<Channel, NotMade> {
        let stream = self.stream(upstream, active, deadline).await?;
        let endpoint = Arc::clone(active.endpoint());
        let made = Channel::new(stream, endpoint, &upstream.model, permit, &self.tasks);
        let error = match timeout_at(deadline, made).await {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(error)) => error,
            Err(_) => {
                self.counters.count(Counter::UpstreamConnectFailures);
                return Err(NotMade::too_slow(active.endpoint()));
            }
        };
        self.counters.count(Counter::UpstreamConnectFailures);
        Err(match io_error(error) {
            Ok(error) => failed(active, error),
            Err(error) => NotMade {
                cause: Cause::NotHttp2(Arc::new(error)),
                endpoint: active.endpoint().key.clone(),
            },
        })
    }

    async fn stream(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        deadline: Instant,
    ) -> Result<Stream, NotMade> {
        let mut tried = Vec::new();
        loop {
            let endpoint = Arc::clone(active.endpoint());
            tried.push(endpoint.id);
            let next = upstream.set.load().sibling(&endpoint, &tried).cloned();
            // An address that says nothing must not use up the time of the others.
            let now = Instant::now();
            let until = match next {
                Some(_) => now + deadline.duration_since(now) / 2,
                None => deadline,
            };
            let attempt = timeout_at(until, self.connector.open(&endpoint.target)).await;
            let error = match attempt {
                Ok(Ok(stream)) => {
                    self.counters.count(Counter::UpstreamConnections);
                    return Ok(stream);
                }
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            self.counters.count(Counter::UpstreamConnectFailures);
            match (next, error) {
                (Some(next), _) => *active = Active::new(next),
                (None, Some(error)) => return Err(failed(active, error)),
                (None, None) => return Err(NotMade::too_slow(&endpoint)),
            }
        }
    }
}

fn failed(active: &Active, error: io::Error) -> NotMade {
    NotMade {
        cause: Cause::Failed(Arc::new(error)),
        endpoint: active.endpoint().key.clone(),
    }
}
