//! A raw stream: finds its route, gets it a connection to an endpoint, and joins both.
//!
//! What must stay true: no byte of the client goes anywhere before an endpoint is connected, so that
//! another one can be tried; and who broke off is told to the other side as a reset, never as an end.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use sluice_config::model::Mode;
use tokio::time::timeout;

use super::{
    copy::{self, Bounds, End, Parted},
    record::Record,
};
use crate::{
    downstream::{Connection, Hello},
    drain::Tasks,
    error::{ProxyError, Retry},
    plan::{self, Action, Destination, Local, Opening},
    stream::{Stream, WriteStall},
    upstream::{Choice, Key, NoLease, Raw, Upstream, ask_for_tls},
};

/// How many endpoints are tried, one after the other, each for as long as the upstream allows.
const MOST_ATTEMPTS: u32 = 3;

/// Joins a client with an endpoint until both are done. `ahead` was read of it already and goes first;
/// `hello` is what the client said where its TLS is not ended here but passes through.
pub(crate) async fn serve(
    stream: Stream,
    ahead: Bytes,
    hello: Option<Box<Hello>>,
    connection: Arc<Connection>,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) {
    let mut record = record(hello.as_deref(), connection, listener, local);
    record.open();
    // Boxed, so that a stream that is under way has no room for how it got there.
    let dialled = Box::pin(dial(&mut record, hello)).await;
    match dialled {
        Ok(raw) => carry(record, (stream, ahead), (raw, Bytes::new())).await,
        Err(error) => {
            record.settle(Err(error));
            // Who broke off is to be seen as that, as far as the socket can tell.
            stream.abort();
        }
    }
}

/// The record of a stream whose `ClientHello`, if it was looked at, says `hello`.
pub(crate) fn record(
    hello: Option<&Hello>,
    connection: Arc<Connection>,
    listener: Arc<plan::Listener>,
    local: Rc<Local>,
) -> Box<Record> {
    let secured = hello.is_some() || connection.tls.is_some();
    let scheme = if secured { "tls" } else { "tcp" };
    let mut record = Record::new(connection, listener, local, scheme);
    record.sni = hello.and_then(|hello| hello.sni.clone());
    record
}

/// Finds the route of a stream, and connects to an endpoint of its upstream; where one cannot be
/// reached, to another.
pub(crate) async fn dial(
    record: &mut Record,
    hello: Option<Box<Hello>>,
) -> Result<Raw, ProxyError> {
    let upstream = choose(record, hello.as_deref())?;
    let startup = hello.is_some_and(|hello| hello.asked || upstream.model().startup.is_some());
    lend(record, &upstream, startup).await
}

/// Connects to an endpoint of `upstream`. With `startup`, `PostgreSQL` is asked for its TLS there.
pub(crate) async fn lend(
    record: &mut Record,
    upstream: &Arc<Upstream>,
    startup: bool,
) -> Result<Raw, ProxyError> {
    record.send_to(upstream);
    let local = Rc::clone(&record.local);
    let header = upstream.introduction(&record.connection);
    let mut choice = Choice::Of(Key::of_client(record.connection.peer.ip()));
    let mut tried = Vec::new();
    loop {
        record.begin_attempt();
        let raw = local.pools.raw(upstream, &choice, header.clone());
        let lent = match raw.await {
            Ok(raw) if startup => granted(raw, upstream).await,
            lent => lent,
        };
        let no = match lent {
            Ok(raw) => {
                record.tried(Some(raw.endpoint().clone()), true);
                return Ok(raw);
            }
            Err(no) => no,
        };
        record.tried(no.endpoint.clone(), false);
        tried.extend(no.endpoint);
        let verdict = no.error.verdict();
        let others = || upstream.endpoints().iter().any(|it| !tried.contains(it));
        if verdict.retry != Retry::Always || record.attempts() >= MOST_ATTEMPTS || !others() {
            return Err(no.error);
        }
        record.tries_again(verdict.reason);
        choice = Choice::Avoid(tried.clone());
    }
}

/// Asks an endpoint of `PostgreSQL` for the TLS that passes through.
async fn granted(mut raw: Raw, upstream: &Upstream) -> Result<Raw, NoLease> {
    let limit = upstream.model().timeouts.connect;
    let error = match timeout(limit, ask_for_tls(raw.stream())).await {
        Ok(Ok(())) => return Ok(raw),
        Ok(Err(source)) => ProxyError::UpstreamStartup {
            upstream: upstream.name().clone(),
            source: source.into(),
        },
        Err(_) => ProxyError::ConnectTimeout {
            upstream: upstream.name().clone(),
        },
    };
    Err(NoLease {
        error,
        endpoint: Some(raw.endpoint().clone()),
    })
}

/// Joins both streams until they part. Each comes with what was read of it already.
pub(crate) async fn carry(
    mut record: Box<Record>,
    (stream, ahead): (Stream, Bytes),
    (raw, answered): (Raw, Bytes),
) {
    let stall = record.listener.model.timeouts.write_stall;
    let mut client = WriteStall::new(stream, stall);
    let (mut theirs, hold) = raw.into_parts();
    let limits = record.filters().stream();
    let ends = record.listener.streams.drained();
    let route = record.owner().map(Tasks::drained);
    let told = async move {
        match route {
            Some(route) => tokio::select! { () = ends => {} () = route => {} },
            None => ends.await,
        }
        tokio::time::sleep(limits.drain).await;
    };
    let bounds = Bounds {
        idle: limits.idle_timeout.get(),
        whole: limits.max_duration.get(),
    };
    let downstream = End {
        stream: &mut client,
        ahead,
    };
    let upstream = End {
        stream: &mut theirs,
        ahead: answered,
    };
    let pressure = &record.local.pressure;
    let carried = (&record.carried, || record.account());
    let parted = copy::join((downstream, upstream), bounds, carried, pressure, told).await;
    let outcome = failure(parted, &record);
    part(client.into_inner(), theirs.into_inner(), &outcome, &record);
    record.settle(outcome);
    // Both sockets are closed by now.
    drop(hold);
}

/// Closes both sides, each so that it does not take what it got for the whole where it is not.
fn part(client: Stream, theirs: Stream, outcome: &Result<(), ProxyError>, record: &Record) {
    let (cuts_client, cuts_endpoint) = match outcome {
        Ok(()) => (false, false),
        Err(ProxyError::UpstreamReset { .. } | ProxyError::UpstreamStalled { .. }) => {
            (!record.carried.whole.get(), true)
        }
        // What waits for it would wait on in the kernel.
        Err(ProxyError::ClientStalled) => (true, true),
        // In order towards the client, who still gets what is on its way.
        Err(_) => (false, true),
    };
    if cuts_endpoint {
        theirs.abort();
    }
    if cuts_client {
        client.abort();
    }
}

/// Whether some route wants the TLS of a client that says `hello` as it is.
pub(crate) fn is_passed(connection: &Connection, local: &Local, hello: &Hello) -> bool {
    let offered: Vec<&[u8]> = hello.protocols().collect();
    let opening = Opening {
        destination: connection.local,
        alpn: &offered,
        sni: hello.sni.as_deref(),
    };
    let question = opening.question(Mode::Passthrough, connection.peer.ip());
    let plan = local.plan();
    plan.find(&connection.listener, &question).is_ok()
}

/// The upstream of the route for the name that the client asked for.
fn choose(record: &mut Record, hello: Option<&Hello>) -> Result<Arc<Upstream>, ProxyError> {
    let (connection, local) = (Arc::clone(&record.connection), Rc::clone(&record.local));
    let plan = local.plan();
    let session = connection.tls.as_ref();
    let agreed = session.and_then(|session| session.protocol.as_deref());
    let offered: Option<Vec<&[u8]>> = hello.map(|hello| hello.protocols().collect());
    let asked = session.and_then(|session| session.sni.as_deref());
    let opening = Opening {
        destination: connection.local,
        alpn: offered.as_deref().unwrap_or(agreed.as_slice()),
        sni: hello.map_or(asked, |hello| hello.sni.as_deref()),
    };
    let mode = hello.map_or(Mode::Tcp, |_| Mode::Passthrough);
    let question = opening.question(mode, connection.peer.ip());
    let found = plan.find(&connection.listener, &question)?;
    record.choose(found, &plan.version);
    if !plan.admits(found.route, &connection, &record.listener) {
        return Err(ProxyError::Misdirected);
    }
    match &found.rule.action {
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

fn failure(parted: Parted, record: &Record) -> Result<(), ProxyError> {
    let upstream = || record.upstream().ok_or(ProxyError::Internal);
    Err(match parted {
        Parted::Closed => return Ok(()),
        Parted::Idle => ProxyError::StreamIdle,
        Parted::Expired => ProxyError::StreamExpired,
        Parted::Told => ProxyError::Draining,
        Parted::Downstream(error) if copy::is_stalled(&error) => ProxyError::ClientStalled,
        Parted::Downstream(_) => ProxyError::ClientClosed,
        Parted::Upstream(error) if copy::is_stalled(&error) => ProxyError::UpstreamStalled {
            upstream: upstream()?,
        },
        Parted::Upstream(error) => ProxyError::UpstreamReset {
            upstream: upstream()?,
            source: error.into(),
        },
    })
}
