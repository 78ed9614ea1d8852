//! The way to a new connection: addresses are tried, what fails is counted and told.

use std::{io, sync::Arc};

use sluice_certs::client::{ConnectError, Offer};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout_at},
};

use super::{
    super::{
        Dialect, EndpointKey, Introduction, Manner, Upstream,
        endpoints::{Active, Endpoint},
        lease::NoLease,
    },
    Connector,
    channel::{Channel, io_error},
    http1::Connection,
    is_out_of_descriptors,
    startup::{Declined, ask_for_tls},
    tls::{Secured, refused, secure},
};
use crate::{
    drain::Tasks,
    error::ProxyError,
    pressure::Pressure,
    stream::Stream,
    telemetry::metrics::{Counter, Shard},
};

/// What makes the connections of a worker.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Dial {
    pub(in crate::upstream) connector: Connector,
    pub(in crate::upstream) tasks: Tasks,
    pub(in crate::upstream) counters: Shard,
    pub(in crate::upstream) pressure: Arc<Pressure>,
}

/// A connection, as it can be used.
#[derive(Debug)]
pub(in crate::upstream) enum Made {
    /// It takes one request at a time.
    Whole(Connection),
    /// It is shared.
    Shared(Channel),
}

/// Why there is no connection. Many may have waited for it.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct NotMade {
    cause: Cause,
    endpoint: EndpointKey,
}

#[derive(Debug, Clone)]
enum Cause {
    NoDescriptor,
    Failed(Arc<io::Error>),
    TooSlow,
    Startup(Arc<Declined>),
    Tls(ConnectError),
    NotHttp2(Arc<h2::Error>),
}

impl Cause {
    fn of(error: io::Error) -> Self {
        if is_out_of_descriptors(&error) {
            Self::NoDescriptor
        } else {
            Self::Failed(Arc::new(error))
        }
    }
}

impl NotMade {
    pub(in crate::upstream) fn too_slow(endpoint: &Endpoint) -> Self {
        Self {
            cause: Cause::TooSlow,
            endpoint: endpoint.key.clone(),
        }
    }

    /// The endpoint speaks TLS, but not HTTP/2 within.
    pub(in crate::upstream) fn is_http1(&self) -> bool {
        matches!(self.cause, Cause::Tls(ConnectError::NoProtocol))
    }

    pub(in crate::upstream) fn into_no_lease(self, upstream: &Upstream) -> NoLease {
        let upstream = upstream.name().clone();
        let error = match self.cause {
            // No endpoint was asked, so none is to be named.
            Cause::NoDescriptor => return ProxyError::NoDescriptor.into(),
            Cause::TooSlow => ProxyError::ConnectTimeout { upstream },
            Cause::Failed(source) => ProxyError::Connect {
                upstream,
                source: io::Error::new(source.kind(), source),
            },
            Cause::Startup(source) => ProxyError::UpstreamStartup {
                upstream,
                source: source.into(),
            },
            Cause::Tls(source) => ProxyError::UpstreamTls {
                upstream,
                part: source.part(),
                source,
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
    /// A connection to the endpoint of `active`, or to another address of its name, for requests in this
    /// manner.
    pub(in crate::upstream) async fn make(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        manner: &Manner,
        permit: impl Sized + 'static,
        deadline: Instant,
    ) -> Result<Made, NotMade> {
        let offer = match manner.dialect {
            Dialect::Http1 => Offer::Http1,
            Dialect::Http2 => Offer::Http2,
            Dialect::Either => Offer::Either,
        };
        let first = (manner.header.as_ref(), offer);
        let Secured { stream, http2 } = self.stream(upstream, active, first, deadline).await?;
        let way = (Arc::clone(active.endpoint()), manner.header.clone());
        if !http2 {
            let stall = upstream.model.timeouts.write_stall;
            let made = Connection::new(stream, way, stall, permit, &self.tasks).await;
            return made
                .map(Made::Whole)
                .map_err(|error| not_made(active, Cause::Failed(Arc::new(error))));
        }
        let made = Channel::new(stream, way, &upstream.model, permit, &self.tasks);
        let error = match timeout_at(deadline, made).await {
            Ok(Ok(channel)) => return Ok(Made::Shared(channel)),
            Ok(Err(error)) => error,
            Err(_) => {
                self.counters.count(Counter::UpstreamConnectFailures);
                return Err(NotMade::too_slow(active.endpoint()));
            }
        };
        self.counters.count(Counter::UpstreamConnectFailures);
        let cause = match io_error(error) {
            Ok(error) => match ConnectError::behind(&error) {
                Some(error) => {
                    refused(error, upstream, active.endpoint(), &self.counters);
                    Cause::Tls(error.clone())
                }
                None => Cause::Failed(Arc::new(error)),
            },
            Err(error) => Cause::NotHttp2(Arc::new(error)),
        };
        Err(not_made(active, cause))
    }

    /// A stream to the endpoint of `active`, or to another address of its name, for whatever is spoken
    /// on it behind `header`.
    pub(in crate::upstream) async fn raw(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        header: Option<&Introduction>,
        deadline: Instant,
    ) -> Result<Stream, NotMade> {
        let first = (header, Offer::Nothing);
        let secured = self.stream(upstream, active, first, deadline);
        secured.await.map(|secured| secured.stream)
    }

    async fn stream(
        &self,
        upstream: &Upstream,
        active: &mut Active,
        (header, offer): (Option<&Introduction>, Offer),
        deadline: Instant,
    ) -> Result<Secured, NotMade> {
        let raw = offer == Offer::Nothing && upstream.tls.is_none();
        let speaks_first = !raw || header.is_some();
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
            let attempt = timeout_at(until, async {
                let target = &endpoint.goal.target;
                let settings = (&upstream.model.socket, speaks_first);
                let opening = self.connector.open(target, settings, &self.pressure);
                let mut stream = opening.await.map_err(Cause::of)?;
                if let Some(header) = header {
                    stream.write_all(header.bytes()).await.map_err(Cause::of)?;
                }
                if upstream.model.startup.is_some() && upstream.tls.is_some() {
                    let granted = ask_for_tls(&mut stream).await;
                    granted.map_err(|declined| Cause::Startup(Arc::new(declined)))?;
                }
                let secured = secure(upstream, &endpoint, offer, stream, &self.counters);
                secured.await.map_err(Cause::Tls)
            });
            let cause = match attempt.await {
                Ok(Ok(secured)) => {
                    self.counters.count(Counter::UpstreamConnections);
                    return Ok(secured);
                }
                // No endpoint's fault, and no better at the next one.
                Ok(Err(Cause::NoDescriptor)) => return Err(not_made(active, Cause::NoDescriptor)),
                Ok(Err(cause)) => cause,
                Err(_) => Cause::TooSlow,
            };
            self.counters.count(Counter::UpstreamConnectFailures);
            match next {
                Some(next) => *active = Active::new(next),
                None => return Err(not_made(active, cause)),
            }
        }
    }
}

fn not_made(active: &Active, cause: Cause) -> NotMade {
    NotMade {
        cause,
        endpoint: active.endpoint().key.clone(),
    }
}
