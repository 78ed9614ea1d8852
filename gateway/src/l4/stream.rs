//! A raw stream from a listener that ended its TLS: finds the route by the name that the client asked
//! for, and joins the stream with an endpoint.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;

use http::HeaderValue;
use sluice_config::model::{self, Mode};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::copy::{self, Bounds, Carried, End, Parted};
use crate::{
    downstream::{Connection, Downstream},
    error::{ProxyError, Verdict},
    plan::{self, Action, Destination, Local, Opening, Route, Rule},
    stream::{Stream, WriteStall},
    telemetry::access_log::Line,
    upstream::Upstream,
};

/// How long a stream goes on when its listener or route has other settings or is gone, or the gateway
/// stops.
const GRACE: Duration = Duration::from_secs(30);

/// What became of a stream, for its line.
#[derive(Debug, Default)]
struct Told {
    rule: Option<(Arc<Route>, Arc<Rule>)>,
    version: Option<sluice_config::Version>,
    upstream: Option<Arc<Upstream>>,
    endpoint: Option<String>,
    carried: Carried,
}

/// Joins a client with an endpoint until both are done.
pub(crate) async fn serve(
    stream: Stream,
    connection: Arc<Connection>,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) {
    let (time, started) = (OffsetDateTime::now_utc(), Instant::now());
    let mut told = Told::default();
    let outcome = carry(stream, &connection, &listener, &local, &mut told).await;
    let verdict = outcome.err().map(|error| {
        let cause: &dyn std::error::Error = &error;
        tracing::debug!(connection = connection.id, cause, "the stream ended");
        error.verdict()
    });
    write_line(&told, verdict, &connection, &local, (time, started));
}

async fn carry(
    stream: Stream,
    connection: &Connection,
    listener: &plan::Listener,
    local: &Local,
    told: &mut Told,
) -> Result<(), ProxyError> {
    let upstream = choose(connection, local, told)?;
    let lent = local.pools.raw(&upstream).await;
    told.upstream = Some(Arc::clone(&upstream));
    let lent = lent.inspect_err(|no| {
        told.endpoint = no.endpoint.as_ref().map(|key| key.as_str().to_owned());
    })?;
    told.endpoint = Some(lent.endpoint().to_owned());
    let (theirs, hold) = lent.into_parts();

    let ends = listener.streams.drained();
    let route = told.rule.as_ref().map(|(route, _)| route.streams.drained());
    let end = async move {
        match route {
            Some(route) => tokio::select! { () = ends => {} () = route => {} },
            None => ends.await,
        }
        tokio::time::sleep(GRACE).await;
    };
    let limits = model::Upgrade::default();
    let bounds = Bounds {
        idle: limits.idle_timeout.get(),
        whole: limits.max_duration.get(),
    };
    let downstream = End {
        stream: WriteStall::new(stream, listener.model.timeouts.write_stall),
        ahead: Bytes::new(),
    };
    let theirs = End {
        stream: theirs,
        ahead: Bytes::new(),
    };
    let parted = copy::join(downstream, theirs, bounds, &told.carried, end).await;
    // Both sockets are closed by now.
    drop(hold);
    failure(parted, &upstream).map_or(Ok(()), Err)
}

/// The upstream of the route for the name that the client asked for.
fn choose(
    connection: &Connection,
    local: &Local,
    told: &mut Told,
) -> Result<Arc<Upstream>, ProxyError> {
    let plan = local.plan();
    let session = connection.tls.as_ref();
    let agreed = session.and_then(|session| session.protocol.as_deref());
    let opening = Opening {
        destination: connection.local,
        alpn: agreed.as_slice(),
        sni: session.and_then(|session| session.sni.as_deref()),
    };
    let question = opening.question(Mode::Tcp, connection.peer.ip());
    let found = plan.table.find(&connection.listener, &question);
    let found = found.ok_or(ProxyError::NoRoute)?;
    let name = &found.route.name;
    let (route, rule) = plan.rule(name, found.rule).ok_or(ProxyError::Internal)?;
    told.version = Some(plan.version.clone());
    told.rule = Some((Arc::clone(route), Arc::clone(rule)));
    // The plan may be newer than the handshake.
    let listener = plan.listeners.get(&connection.listener);
    let asks = listener.and_then(|listener| listener.tls.as_ref()?.policy(name));
    if session.and_then(|session| session.policy) != asks {
        return Err(ProxyError::Misdirected);
    }
    match &rule.action {
        Action::Forward(split) => match split.pick(local.random()) {
            Some(Destination::Upstream(upstream)) => Ok(Arc::clone(upstream)),
            Some(Destination::UnknownService(service)) => Err(ProxyError::UnknownService {
                service: service.clone(),
            }),
            None => Err(ProxyError::NoTarget),
        },
        Action::Redirect(_) | Action::Respond(_) | Action::Refused => {
            Err(ProxyError::ConfigRefused)
        }
    }
}

fn failure(parted: Parted, upstream: &Upstream) -> Option<ProxyError> {
    let upstream = || upstream.name().clone();
    match parted {
        Parted::Closed => None,
        Parted::Idle => Some(ProxyError::UpgradeIdle),
        Parted::Expired => Some(ProxyError::UpgradeExpired),
        Parted::Told => Some(ProxyError::Draining),
        Parted::Downstream(error) if copy::is_stalled(&error) => Some(ProxyError::ClientStalled),
        Parted::Downstream(_) => Some(ProxyError::ClientClosed),
        Parted::Upstream(error) if copy::is_stalled(&error) => Some(ProxyError::UpstreamStalled {
            upstream: upstream(),
        }),
        Parted::Upstream(error) => Some(ProxyError::UpstreamReset {
            upstream: upstream(),
            source: error.into(),
        }),
    }
}

fn write_line(
    told: &Told,
    verdict: Option<Verdict>,
    connection: &Arc<Connection>,
    local: &Local,
    (time, started): (OffsetDateTime, Instant),
) {
    let plan = local.plan();
    if !plan.access_log.is_on() {
        return;
    }
    let downstream = Downstream {
        connection: Arc::clone(connection),
        client: connection.peer.ip(),
        trusted: false,
        scheme: "tls",
        request_id: HeaderValue::from_static(""),
    };
    let session = connection.tls.as_ref();
    let line = Line {
        scheme: Some(downstream.scheme),
        host: session.and_then(|session| session.sni.as_deref()),
        verdict: verdict.map(|verdict| verdict.reason),
        flags: verdict.map(|verdict| verdict.flags),
        bytes_in: told.carried.inward.get(),
        bytes_out: told.carried.outward.get(),
        duration: started.elapsed(),
        route: told
            .rule
            .as_ref()
            .map(|(route, _)| route.model.name.as_str()),
        rule: told.rule.as_ref().map(|(_, rule)| rule.model.name.as_str()),
        upstream: told
            .upstream
            .as_ref()
            .map(|upstream| upstream.name().as_str()),
        endpoint: told.endpoint.as_deref(),
        attempts: u32::from(told.endpoint.is_some()),
        version: told.version.as_ref().map(sluice_config::Version::as_str),
        ..Line::blank(time, &downstream)
    };
    plan.access_log.write(local.worker, &line);
}
