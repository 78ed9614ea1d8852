//! What becomes of a request on a forward proxy: who asks, whether it may go where it wants, and the way
//! there.
//!
//! What must stay true: a name is looked up once, by us, and what is connected to is one of the addresses
//! that were held against the rule; credentials for us reach nobody else; and whoever is refused by a rule
//! has cost neither a look-up nor a connection.

pub(crate) mod attempt;
pub(crate) mod tunnel;

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Uri, header, request::Parts};
use sluice_config::model;

use super::{exchange::Exchange, forward, respond, upgrade};
use crate::{
    authn::basic::{Denied, User},
    egress::{Kind, Target},
    error::{Malformed, ProxyError},
    message::{Body, Request, Response, Tunnel},
    plan::{Destination, Outlet, Split},
    telemetry::{attempt::WhyLast, metrics::Counter},
    upstream::Place,
};

/// Where a request goes, and what leads there.
struct Way {
    target: Target,
    port: u16,
    outlet: Arc<Outlet>,
}

impl Way {
    /// Its port at these addresses.
    fn at(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        let all = addresses.iter();
        all.map(|address| SocketAddr::new(*address, self.port))
            .collect()
    }
}

/// Answers a request that was normalised: sends it on, opens the tunnel that it asks for, or refuses it.
pub(crate) async fn answer(
    exchange: &mut Exchange,
    mut parts: Parts,
    body: &mut Body,
    trailers: bool,
) -> Result<Response, ProxyError> {
    exchange.kept = exchange.filters().kept(&parts.headers);
    let mut way = decide(exchange, &parts).await?;
    if parts.method == Method::CONNECT {
        if !matches!(body, Body::Empty) {
            return Err(ProxyError::BadRequest(Malformed::UpgradeBody));
        }
        return match way.outlet.via() {
            Some(via) => {
                let request = Request::from_parts(parts, Body::Empty);
                forward::forward(exchange, via, None, request).await
            }
            None => open(exchange, &mut way).await,
        };
    }
    if let Some(wish) = upgrade::asked(exchange, &parts.method)? {
        upgrade::ask(exchange, wish, &mut parts, body)?;
    } else if trailers {
        forward::want_trailers(&mut parts.headers);
    }
    if let Some(via) = way.outlet.via() {
        parts.uri = absolute(&way, &parts.uri)?;
        let request = Request::from_parts(parts, std::mem::take(body));
        return forward::forward(exchange, via, None, request).await;
    }
    let found = addresses(exchange, &mut way).await?;
    // TLS is not spoken to the port of plain HTTP.
    if way.outlet.client().is_some() && way.port == 80 {
        way.port = 443;
    }
    let addresses = way.at(&found);
    let pools = &exchange.visitor.local.pools;
    let upstream = pools.outward(&place(&way), &addresses, way.outlet.client());
    let split = Split::new([(1, Destination::Upstream(upstream))]);
    let request = Request::from_parts(parts, std::mem::take(body));
    forward::forward(exchange, &split, None, request).await
}

/// Who asks, where to, and whether that is allowed.
async fn decide(exchange: &mut Exchange, parts: &Parts) -> Result<Way, ProxyError> {
    let is_tunnel = parts.method == Method::CONNECT;
    let (host, port): (Option<Box<str>>, _) = (exchange.host().map(Box::from), exchange.port());
    if let Some(attempt) = &mut exchange.outward {
        match attempt.led_from() {
            Some(_) => attempt.name(host.as_deref(), port, is_tunnel),
            None => attempt.read(is_tunnel),
        }
    }
    let user = authenticate(exchange).await?;
    let kind = if is_tunnel {
        Kind::Tunnel
    } else {
        Kind::Http {
            method: parts.method.as_str(),
            path: parts.uri.path(),
        }
    };
    let plan = exchange.visitor.local.plan();
    let (attempt, downstream) = exchange.outside().ok_or(ProxyError::Internal)?;
    attempt.user = user;
    let (target, port) = attempt.place()?;
    let outlet = attempt.judge(&plan, downstream, kind)?;
    Ok(Way {
        target,
        port,
        outlet,
    })
}

/// The user, where the listener asks for one.
async fn authenticate(exchange: &mut Exchange) -> Result<Option<User>, ProxyError> {
    let basic = exchange.visitor.listener.basic.as_ref();
    let (Some(basic), Some(attempt)) = (basic, &mut exchange.outward) else {
        return Ok(None);
    };
    // Also for those who leave before that is found out.
    attempt.is_unknown = true;
    let values = attempt.credentials.get_all(header::PROXY_AUTHORIZATION);
    let user = basic.verify(values).await.map_err(|denied| match denied {
        Denied::Missing | Denied::Malformed | Denied::Wrong => ProxyError::ProxyAuthentication,
        Denied::Overloaded => ProxyError::AuthenticationBusy,
    })?;
    attempt.is_unknown = false;
    Ok(Some(user))
}

/// What may be connected to of what the target stands for. It may change what leads there.
async fn addresses(exchange: &mut Exchange, way: &mut Way) -> Result<Vec<IpAddr>, ProxyError> {
    let found: Arc<[IpAddr]> = match &way.target {
        Target::Address(address) => Arc::from([*address]),
        Target::Name(name) => {
            let plan = exchange.visitor.local.plan();
            let names = plan.outlets.names().ok_or(ProxyError::Internal)?;
            let found = names.addresses(name).await;
            found.ok_or_else(|| ProxyError::NoEndpoint {
                upstream: place(way).name(false),
            })?
        }
    };
    let plan = exchange.visitor.local.plan();
    let attempt = exchange.outward.as_mut().ok_or(ProxyError::Internal)?;
    let led = attempt.led_from();
    let led: Option<Arc<[IpAddr]>> = led.map(|led| Arc::from([led.ip()]));
    let found: Arc<[IpAddr]> = match led {
        Some(led) if *led != *found => {
            // Another address than the one that was dialled is connected to for nobody.
            if !found.iter().any(|it| led.contains(&it.to_canonical())) {
                way.outlet = attempt.doubt_address(&plan)?;
            }
            led
        }
        Some(_) | None => found,
    };
    let (egress, decision) = attempt.decided().ok_or(ProxyError::Internal)?;
    let allowed = egress.dialable(decision, found.iter().copied());
    let allowed: Vec<_> = allowed.collect();
    if allowed.is_empty() {
        return Err(attempt.refuse_addresses());
    }
    Ok(allowed)
}

/// Opens a tunnel to the target itself.
async fn open(exchange: &mut Exchange, way: &mut Way) -> Result<Response, ProxyError> {
    let found = addresses(exchange, way).await?;
    let addresses = way.at(&found);
    let place = place(way);
    let local = Rc::clone(&exchange.visitor.local);
    exchange.upstream = Some(place.name(false));
    exchange.begin_attempt();
    exchange.attempts = 1;
    local.counters.count(Counter::UpstreamAttempts);
    let limit = model::UpstreamTimeouts::default().connect;
    let reached = local.pools.reach(&place, &addresses, limit).await;
    exchange.attempt.connected(false);
    let (stream, endpoint) = match reached {
        Ok(reached) => reached,
        Err(no) => {
            exchange.endpoint = no.endpoint;
            exchange.attempt.give_up(WhyLast::NotConnected);
            return Err(no.error);
        }
    };
    if let Some(attempt) = &mut exchange.outward {
        attempt.dialled = endpoint.as_str().parse().ok();
    }
    exchange.endpoint = Some(endpoint);
    let tunnel = Tunnel {
        protocol: None,
        stream,
        ahead: Bytes::new(),
        hold: Box::new(()),
    };
    Ok(Response::new(Body::Tunnel(Box::new(tunnel))))
}

/// What a client is told that is not let out: which kind of reason, and what it may do.
pub(crate) fn refusal(exchange: &Exchange, error: &ProxyError) -> Response {
    let status = error.verdict().status;
    let detail = match error {
        ProxyError::EgressRefused { why } => Some(*why),
        ProxyError::EgressAddress => Some("address"),
        ProxyError::EgressTarget => Some("target"),
        _ => None,
    };
    let mut response = respond::detailed(status, detail, exchange.accept.as_ref());
    let headers = response.headers_mut();
    match (error, &exchange.visitor.listener.basic) {
        (ProxyError::ProxyAuthentication, Some(basic)) => {
            headers.insert(header::PROXY_AUTHENTICATE, basic.challenge().clone());
        }
        (ProxyError::EgressRate { after }, _) => {
            // In whole seconds, and not too early.
            let seconds = after.as_secs().saturating_add(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        _ => {}
    }
    response
}

fn place(way: &Way) -> Place {
    Place {
        rule: way.outlet.name().map(Box::from),
        host: match &way.target {
            Target::Name(name) => (**name).into(),
            Target::Address(address) => address.to_string().into(),
        },
        port: way.port,
        mark: way.outlet.mark(),
    }
}

/// The target as another proxy has to be told it.
fn absolute(way: &Way, path: &Uri) -> Result<Uri, ProxyError> {
    let host = match &way.target {
        Target::Name(name) => name.to_string(),
        Target::Address(IpAddr::V6(address)) => format!("[{address}]"),
        Target::Address(address) => address.to_string(),
    };
    let authority = match way.port {
        80 => host,
        port => format!("{host}:{port}"),
    };
    let path = path.path_and_query().map_or("/", |it| it.as_str());
    let uri = Uri::builder().scheme("http").authority(authority);
    let uri = uri.path_and_query(path).build();
    uri.map_err(|_| ProxyError::BadRequest(Malformed::Target))
}
