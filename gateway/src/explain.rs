//! What would become of one request: the steps of the data path, taken without a network.
//!
//! Each step is the one that the running gateway takes, in the same order, on the same types; only
//! the connection is made up. So what is shown here is what happens. Pure.

mod egress;
mod listener;
mod print;
mod report;
mod stream;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use sluice_config::{
    Snapshot,
    model::{self, Destination, Mode, Protocol},
    names::{ListenerName, UpstreamName},
};

use crate::{
    downstream::{Connection, Downstream},
    error::ProxyError,
    filter::{self, Chain, Facts},
    http::{
        forward, forwarded,
        normalize::{Normalized, normalize},
    },
    route::{Found, Opening, Question, Table},
};

pub use egress::{
    AskedEgress, EgressAnswer, EgressCandidate, EgressInside, EgressReport, Refusal, explain_egress,
};
pub use report::{Answer, Endpoint, Filter, Report, Sent, StreamAnswer, StreamReport, Target};
pub use stream::{AskedStream, Hello, explain_stream};

/// A request as somebody asks about it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// A whole URL, or a target in origin form beside a `host` header.
    pub url: Uri,
    /// In order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The connected peer; `127.0.0.1` when not given.
    pub client: Option<IpAddr>,
    /// Where it comes in; found by the URL when not given.
    pub listener: Option<ListenerName>,
    /// Our side of the connection; the address of the listener when not given.
    pub destination: Option<SocketAddr>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    /// `--listener` names none.
    #[error("there is no listener named {name}; there are: {known}")]
    NoListener {
        /// As asked for.
        name: ListenerName,
        /// Those that are.
        known: String,
    },
    /// Nothing accepts where somebody would connect to.
    #[error("no such listener accepts at {to}; there are: {known}")]
    NothingThere {
        /// As asked for.
        to: String,
        /// Those that are.
        known: String,
    },
    /// A stream was asked for where datagrams come, or the other way round.
    #[error("listener {name} speaks {}; datagrams are asked for with --udp, all else with --tcp", .protocol.as_str())]
    OtherTransport {
        /// The listener.
        name: ListenerName,
        /// What it speaks.
        protocol: Protocol,
    },
    /// A request was asked for where nobody reads any.
    #[error("listener {name} speaks {}, so that there are no requests: ask with --tcp, --sni or --udp", .protocol.as_str())]
    NoRequests {
        /// The listener.
        name: ListenerName,
        /// What it speaks.
        protocol: Protocol,
    },
    /// Nobody goes out that way.
    #[error(
        "there is no such listener that speaks {}; CONNECT and requests come to forward-proxy, TLS and TCP to \
         transparent",
        .protocol.as_str()
    )]
    NoEgress {
        /// What it would have to speak.
        protocol: Protocol,
    },
    /// Nobody looks at TLS handshakes.
    #[error("there is no https, tls or auto listener")]
    NoTls,
    /// The configuration has none for requests.
    #[error("there is no listener for requests")]
    NoListeners,
    /// A user name or password stands in the URL, which no client sends.
    #[error("the URL holds a user name")]
    UserInfo,
}

/// Says what would become of `asked`.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Result<Report, Unexplained> {
    let table = Table::compile(snapshot, None);
    let mut notes = Vec::new();
    let listener = listener::choose(snapshot, &table, asked, &mut notes)?;
    let mut parts = request(asked)?;
    let connection = connection(asked, listener, &mut parts, &mut notes);
    let mut report = Report::new(listener, &parts);
    report.notes = notes;
    walk(snapshot, &table, listener, &connection, parts, &mut report);
    Ok(report)
}

/// The steps of `http/handle.rs`, in its order.
fn walk(
    snapshot: &Snapshot,
    table: &Table,
    listener: &model::Listener,
    connection: &Arc<Connection>,
    mut parts: Parts,
    report: &mut Report,
) {
    let normalized = match normalize(&mut parts, listener) {
        Ok(normalized) => normalized,
        Err(error) => return report.answer = Answer::refused(&error),
    };
    report.learn_request(&parts, &normalized);
    let downstream = forwarded::downstream(&mut parts, connection, listener, || {
        HeaderValue::from_static("made-for-each-request")
    });
    report.client = downstream.client;
    report.trusted = downstream.trusted;

    let host = normalized.host.as_deref();
    let location = listener.https_redirect.and_then(|redirect| {
        let location = filter::https_redirect(redirect, &downstream, host, &parts.uri)?;
        Some((redirect.status, location))
    });
    if let Some((status, location)) = location {
        return report.answer = Answer::redirect(status, &location);
    }

    let question = Question {
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: parts.method.as_str(),
        headers: &parts.headers,
        client: downstream.client,
        mode: Mode::Http,
        opening: Opening::plain(connection.local),
    };
    report.route = Some(table.explain(&listener.name, &question));
    let Some(found) = table.find(&listener.name, &question) else {
        return report.answer = Answer::refused(&ProxyError::NoRoute);
    };
    let way = Way {
        snapshot,
        listener,
        downstream: &downstream,
        normalized: &normalized,
        found,
        secured: connection.scheme == "https",
    };
    way.follow(&parts, report);
}

/// A request that has a rule.
struct Way<'a> {
    snapshot: &'a Snapshot,
    listener: &'a model::Listener,
    downstream: &'a Downstream,
    normalized: &'a Normalized,
    found: Found<'a>,
    /// Whether it came over TLS that was ended here.
    secured: bool,
}

impl Way<'_> {
    fn follow(&self, parts: &Parts, report: &mut Report) {
        let Some(rule) = self.found.rule() else {
            return;
        };
        let route = self.found.route;
        report.filters = filter::sources(self.listener, route, rule)
            .into_iter()
            .map(|(key, from)| Filter { key, from })
            .collect();
        if route.demands_certificate_on(self.listener) {
            if !self.secured {
                return report.answer = Answer::refused(&ProxyError::Misdirected);
            }
            let note = "its client has to show a certificate in the handshake";
            report.notes.push(note.to_owned());
        }
        let chain = Chain::compile(self.listener, route, rule);
        report.max_body = chain.max_body();
        report.timeout = rule.timeout.or(route.timeout).and_then(model::Limit::get);
        let uri = parts.uri.clone();
        let facts = self.facts(&uri, &parts.method, &parts.headers, rule);
        report.answer = match &rule.action {
            model::Action::Redirect(redirect) => {
                Answer::redirect(redirect.status, &filter::redirect(redirect, &facts))
            }
            model::Action::Respond(respond) => respond_with(respond, &facts),
            model::Action::Refused => Answer::refused(&ProxyError::ConfigRefused),
            model::Action::Forward(targets) => {
                report.sent = Some(self.send(&chain, targets, rule, parts.clone()));
                self.forward(targets)
            }
        };
    }

    fn facts<'f>(
        &'f self,
        uri: &'f Uri,
        method: &'f Method,
        headers: &'f HeaderMap,
        rule: &'f model::Rule,
    ) -> Facts<'f> {
        Facts {
            downstream: self.downstream,
            method: method.as_str(),
            host: self.normalized.host.as_deref(),
            port: self.normalized.port,
            path: uri.path(),
            query: uri.query(),
            headers,
            listener: self.listener.name.as_str(),
            route: self.found.route.name.as_str(),
            rule: rule.name.as_str(),
            upstream: None,
            path_match: self.found.path_match(),
        }
    }

    /// What the origin sees; of several upstreams, what the first of them sees.
    fn send(
        &self,
        chain: &Chain,
        targets: &[model::Target],
        rule: &model::Rule,
        mut parts: Parts,
    ) -> Sent {
        if self.normalized.trailers {
            forward::want_trailers(&mut parts.headers);
        }
        let (host, port) = (self.normalized.host.as_deref(), self.normalized.port);
        forwarded::announce(&mut parts, self.downstream, host, port);
        let chosen = targets.iter().find(|target| target.weight > 0);
        let upstream = chosen.and_then(|target| upstream_of(&target.destination));
        let (uri, method, none) = (parts.uri.clone(), parts.method.clone(), HeaderMap::new());
        let mut facts = self.facts(&uri, &method, &none, rule);
        facts.upstream = upstream.as_ref().map(UpstreamName::as_str);
        chain.on_request(&facts, &mut parts);
        Sent::of(&parts)
    }

    fn forward(&self, split: &[model::Target]) -> Answer {
        match targets(self.snapshot, split) {
            Some(targets) => Answer::Forward { targets },
            None => Answer::refused(&ProxyError::NoTarget),
        }
    }
}

/// Where a split leads; none where every weight is 0.
fn targets(snapshot: &Snapshot, split: &[model::Target]) -> Option<Vec<Target>> {
    if split.iter().all(|target| target.weight == 0) {
        return None;
    }
    let sum: u64 = split.iter().map(|it| u64::from(it.weight)).sum();
    let target = |target: &model::Target| {
        let name = upstream_of(&target.destination);
        let named = name.and_then(|name| snapshot.upstreams.get(&name).cloned());
        let upstream = match &target.destination {
            Destination::Address(address) => Some(Arc::new(model::Upstream::of_address(address))),
            Destination::Upstream(_) => named,
            Destination::Service { .. } => None,
        };
        Target::of(target, upstream.as_deref(), sum)
    };
    Some(split.iter().map(target).collect())
}

/// Every listener, for whoever named none of them.
fn known(snapshot: &Snapshot) -> String {
    let names = snapshot.listeners.keys().map(ListenerName::as_str);
    names.collect::<Vec<_>>().join(", ")
}

fn upstream_of(destination: &Destination) -> Option<UpstreamName> {
    match destination {
        Destination::Upstream(name) => Some(name.clone()),
        Destination::Address(address) => Some(UpstreamName::of_address(address)),
        Destination::Service { .. } => None,
    }
}

fn respond_with(respond: &model::Respond, facts: &Facts<'_>) -> Answer {
    let headers = respond
        .headers
        .iter()
        .map(|(name, template)| {
            let value = filter::value(template, facts);
            (name.as_str().to_owned(), report::text(&value))
        })
        .collect();
    Answer::Respond {
        status: respond.status,
        headers,
        body: respond.body.clone(),
    }
}

/// The request as a client sends it: the URL's host in `Host`, unless that is given.
fn request(asked: &Asked) -> Result<Parts, Unexplained> {
    let authority = asked.url.authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Unexplained::UserInfo);
    }
    let target = asked.url.path_and_query().cloned();
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = asked.method.clone();
    parts.uri = Uri::from(target);
    for (name, value) in &asked.headers {
        parts.headers.append(name, value.clone());
    }
    let host = authority.map(Authority::as_str).map(HeaderValue::from_str);
    if !parts.headers.contains_key(header::HOST)
        && let Some(Ok(host)) = host
    {
        parts.headers.insert(header::HOST, host);
    }
    Ok(parts)
}

/// The made-up connection. For an `https` URL it comes from a trusted proxy that ended TLS, where
/// the listener has one.
fn connection(
    asked: &Asked,
    listener: &model::Listener,
    parts: &mut Parts,
    notes: &mut Vec<String>,
) -> Arc<Connection> {
    let client = asked.client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut peer = client;
    let says = |name| parts.headers.contains_key(name);
    let https = asked.url.scheme_str() == Some("https");
    let auto = listener.protocol == Protocol::Auto;
    let ends = listener.tls.is_some() && (https || !auto);
    if https && !ends && !says("x-forwarded-proto") && !says("forwarded") {
        match listener.trusted_proxies.first() {
            Some(proxies) => {
                peer = proxies.addr();
                notes.push(format!(
                    "taken as sent over TLS to the trusted proxy {peer}"
                ));
                parts
                    .headers
                    .insert("x-forwarded-proto", HeaderValue::from_static("https"));
                if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
                    parts.headers.append("x-forwarded-for", client);
                }
            }
            None => notes.push(
                "taken as sent without TLS: this listener ends none, and has no trusted_proxies \
                 that could have"
                    .to_owned(),
            ),
        }
    }
    let peer = SocketAddr::new(peer, 0);
    let name = listener.name.clone();
    let ours = asked.destination.unwrap_or(listener.address.nominal());
    let mut connection = Connection::new(0, name, peer, ours);
    connection.scheme = if ends { "https" } else { "http" };
    Arc::new(connection)
}

#[cfg(test)]
mod tests;
