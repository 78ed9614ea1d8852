//! A stream that is no request, decided as a whole: TLS by the name that is asked for, anything else by address.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::AsyncWriteExt as _;

use super::via;
use crate::{
    connection::Arrival,
    downstream::{Connection, Downstream, Hello},
    egress::{Kind, Sni, Target},
    error::ProxyError,
    http::outward::{attempt::Attempt, tunnel::ALERT},
    l4::{
        record::Record,
        stream::{carry, lend, record},
    },
    stream::Stream,
    upstream::{Place, Raw},
};

/// Connects the client to where it wants to go, if it may.
pub(super) async fn serve(
    (mut stream, ahead): (Stream, Bytes),
    hello: Option<Hello>,
    arrival: Arrival,
) {
    let connection = Arc::new(arrival.connection);
    let downstream = sender(&connection);
    let local = Rc::clone(&arrival.local);
    let mut record = record(hello.as_ref(), connection, arrival.listener, arrival.local);
    record.open();
    let (target, kind) = asked(&downstream.connection, hello.as_ref());
    let mut attempt = Attempt::at(target, downstream.connection.local.port());
    let reached = Box::pin(reach(&mut record, &mut attempt, &downstream, kind)).await;
    attempt.tell(&local.plan(), &downstream, kind);
    record.outside = Some(attempt.note());
    record.outlet = attempt.outlet().map(Arc::clone);
    match reached {
        Ok(reached) => carry(record, (stream, ahead), reached).await,
        Err(error) => {
            let is_refusal = matches!(
                error,
                ProxyError::EgressRefused { .. }
                    | ProxyError::EgressAddress
                    | ProxyError::EgressRate { .. }
            );
            record.settle(Err(error));
            if hello.is_none() || !is_refusal {
                return stream.abort();
            }
            // It is refused all the same if it has left.
            let _told = stream.write_all(ALERT).await;
        }
    }
}

/// Whom the client wants, as far as it says so; else the address.
fn asked<'h>(connection: &Connection, hello: Option<&'h Hello>) -> (Option<Target>, Kind<'h>) {
    let address = Target::Address(connection.local.ip());
    let Some(hello) = hello else {
        return (Some(address), Kind::Tcp);
    };
    match &hello.sni {
        Some(name) => {
            // What stands outside where the real name is hidden is the name of who hides it.
            let target = Target::parse(&**name, Some(connection.local.port())).ok();
            let sni = if hello.encrypted {
                Sni::Encrypted
            } else {
                Sni::Name(name)
            };
            (target.map(|(target, _)| target), Kind::Tls { name: sni })
        }
        None if hello.encrypted => (
            Some(address),
            Kind::Tls {
                name: Sni::Encrypted,
            },
        ),
        None => (Some(address), Kind::Tls { name: Sni::Absent }),
    }
}

/// A connection to where it wants to go, and what came from there already.
async fn reach(
    record: &mut Record,
    attempt: &mut Attempt,
    downstream: &Downstream,
    kind: Kind<'_>,
) -> Result<(Raw, Bytes), ProxyError> {
    let local = Rc::clone(&record.local);
    let original = downstream.connection.local;
    let plan = local.plan();
    let mut outlet = attempt.judge(&plan, downstream, kind)?;
    let (target, port) = attempt.place()?;
    if let Some(parent) = outlet.parent() {
        // It looks the name up by itself: which address was dialled is nothing to it.
        return via::open(record, parent, (&target, port)).await;
    }
    if let Target::Name(name) = &target {
        let names = plan.outlets.names().ok_or(ProxyError::Internal)?;
        let found = names.addresses(name).await.unwrap_or_else(|| Arc::from([]));
        if !found.iter().any(|it| it.to_canonical() == original.ip()) {
            outlet = attempt.doubt_address(&plan)?;
        }
    }
    let (egress, decision) = attempt.decided().ok_or(ProxyError::Internal)?;
    if egress.dialable(decision, [original.ip()]).next().is_none() {
        return Err(attempt.refuse_addresses());
    }
    let place = Place {
        rule: outlet.name().map(Box::from),
        host: match &target {
            Target::Name(name) => (**name).into(),
            Target::Address(address) => address.to_string().into(),
        },
        port,
        mark: outlet.mark(),
    };
    let upstream = local.pools.outward(&place, &[original], None);
    let raw = lend(record, &upstream, false).await?;
    Ok((raw, Bytes::new()))
}

fn sender(connection: &Arc<Connection>) -> Downstream {
    Downstream {
        connection: Arc::clone(connection),
        client: connection.peer.ip(),
        trusted: false,
        scheme: "tcp",
        request_id: HeaderValue::from_static(""),
    }
}
