//! What a DNS name stands for, kept up to date in the background.
//!
//! The only home of the resolver library. A name that cannot be resolved keeps the addresses it
//! had; one that never could has none, and its upstream answers 503 until it can.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};
use parking_lot::Mutex;
use sluice_config::model::Dns;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Upstream;
use crate::{
    drain::Tasks,
    telemetry::metrics::{Counter, Shard},
};

/// A name that is looked up again and again until dropped.
#[derive(Debug)]
pub(super) struct Resolved {
    name: String,
    dns: Dns,
    /// Nothing before the first answer or failure.
    addresses: ArcSwapOption<Box<[IpAddr]>>,
    told: Mutex<Vec<Weak<Upstream>>>,
    _stop: DropGuard,
}

/// Why a look-up gave no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("the look-up failed")]
    Net(#[from] NetError),
    #[error("no answer in time")]
    Timeout,
    #[error("the name has no address")]
    Nothing,
}

impl Resolved {
    /// Starts to look `name` up, with what is known of it.
    pub(super) fn start(
        name: &str,
        dns: &Dns,
        known: Option<Arc<Box<[IpAddr]>>>,
        control: &Tasks,
        counters: &Shard,
    ) -> Arc<Self> {
        let stop = CancellationToken::new();
        let resolved = Arc::new(Self {
            name: name.to_owned(),
            dns: dns.clone(),
            addresses: ArcSwapOption::new(known),
            told: Mutex::new(Vec::new()),
            _stop: stop.clone().drop_guard(),
        });
        let keep = keep_fresh(Arc::downgrade(&resolved), counters.clone());
        let drained = control.drained();
        control.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = drained => {}
                () = keep => {}
            }
        });
        resolved
    }

    /// What it was started with.
    pub(super) fn settings(&self) -> &Dns {
        &self.dns
    }

    /// The addresses; nothing before the first answer or failure.
    pub(super) fn known(&self) -> Guard<Option<Arc<Box<[IpAddr]>>>> {
        self.addresses.load()
    }

    /// Tells `upstream` of every change.
    pub(super) fn tell(&self, upstream: &Arc<Upstream>) {
        let mut told = self.told.lock();
        told.retain(|upstream| upstream.strong_count() > 0);
        told.push(Arc::downgrade(upstream));
    }

    fn learn(&self, addresses: Box<[IpAddr]>) {
        let known = self.known();
        if known.as_deref().is_some_and(|known| *known == addresses) {
            return;
        }
        self.addresses.store(Some(Arc::new(addresses)));
        // Refreshing happens outside the lock: an upstream may go away in it.
        let told: Vec<_> = self.told.lock().iter().filter_map(Weak::upgrade).collect();
        for upstream in told {
            upstream.refresh();
        }
    }
}

/// Looks the name up until nobody holds it.
async fn keep_fresh(resolved: Weak<Resolved>, counters: Shard) {
    let mut failing = false;
    loop {
        let Some((name, dns)) = resolved.upgrade().map(|r| (r.name.clone(), r.dns.clone())) else {
            return;
        };
        let outcome = tokio::time::timeout(dns.timeout, look_up(&name, &dns))
            .await
            .unwrap_or(Err(LookupError::Timeout));
        let Some(resolved) = resolved.upgrade() else {
            return;
        };
        let pause = match outcome {
            Ok((addresses, ttl)) => {
                if failing {
                    tracing::info!(name, "the name of an endpoint resolves again");
                }
                failing = false;
                resolved.learn(addresses);
                ttl
            }
            Err(error) => {
                counters.count(Counter::DnsFailures);
                if !failing {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(name, error, "the name of an endpoint does not resolve");
                }
                failing = true;
                if resolved.known().is_none() {
                    resolved.learn(Box::default());
                }
                dns.min_refresh
            }
        };
        drop(resolved);
        tokio::time::sleep(pause.max(dns.min_refresh).min(dns.max_refresh)).await;
    }
}

/// What one kind of address gets once the other is there. Some servers never answer for IPv6.
const GRACE: Duration = Duration::from_millis(500);

/// One look-up: every address of the name, and how long they are good for.
///
/// The resolver is made anew each time: it keeps nothing we need, and the system's configuration
/// may have changed.
pub(super) async fn look_up(
    name: &str,
    dns: &Dns,
) -> Result<(Box<[IpAddr]>, Duration), LookupError> {
    let resolver = resolver(dns)?;
    let answers = match select(
        pin!(resolver.lookup(name, RecordType::A)),
        pin!(resolver.lookup(name, RecordType::AAAA)),
    )
    .await
    {
        Either::Left((first, other)) | Either::Right((first, other)) => match first {
            Ok(first) => {
                let other = tokio::time::timeout(GRACE, other).await;
                [Some(first), other.ok().and_then(Result::ok)]
            }
            Err(_) => [Some(other.await?), None],
        },
    };
    let records = || answers.iter().flatten().flat_map(Lookup::answers);
    let mut addresses: Vec<IpAddr> = records()
        .filter_map(|record| record.data.ip_addr())
        .collect();
    if addresses.is_empty() {
        return Err(LookupError::Nothing);
    }
    // Servers rotate their answers; that is no change.
    addresses.sort_unstable();
    addresses.dedup();
    let ttl = records().map(|record| record.ttl).min().unwrap_or(0);
    Ok((addresses.into(), Duration::from_secs(u64::from(ttl))))
}

fn resolver(dns: &Dns) -> Result<TokioResolver, NetError> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // Without servers `/etc/hosts` still counts, and any other name fails.
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "the system's resolver configuration cannot be read");
            let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        })
    } else {
        let servers = dns
            .servers
            .iter()
            .map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                    .into_iter()
                    .map(|mut connection| {
                        connection.port = server.port();
                        connection
                    })
                    .collect();
                NameServerConfig::new(server.ip(), true, connections)
            })
            .collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    // Half, so that a lost datagram leaves time for a second.
    options.timeout = options.timeout.min(dns.timeout / 2);
    builder.build()
}
