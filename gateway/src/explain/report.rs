//! What there is to tell about a request, for people and for programs.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderValue, request::Parts};
use serde::Serialize;
use sluice_config::{
    model::{
        Balance, Bind, Destination, Listener, Mode, Protocol, RespondBody, StreamLimits,
        Target as Written, Upstream,
    },
    names::ListenerName,
};

use crate::{error::ProxyError, filter::Level, http::normalize::Normalized, route::Explanation};

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where it comes in.
    pub listener: ListenerName,
    /// The address of the listener.
    pub address: Bind,
    /// The client, after trusted proxies have been heard.
    pub client: IpAddr,
    /// Whether the connected peer is one of `trusted_proxies`.
    pub trusted: bool,
    /// The method.
    pub method: String,
    /// The host, normalised.
    pub host: Option<String>,
    /// The path and query, normalised.
    pub target: String,
    /// The way through the routes; none when it did not come that far.
    pub route: Option<Explanation>,
    /// The filters that run.
    pub filters: Vec<Filter>,
    /// The largest body that is let through, in bytes.
    pub max_body: Option<u64>,
    /// How long the request may take as a whole.
    #[serde(serialize_with = "seconds")]
    pub timeout: Option<Duration>,
    /// What the origin sees; none when no origin is asked.
    pub sent: Option<Sent>,
    /// What the client gets.
    pub answer: Answer,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// A filter, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Its key.
    pub key: &'static str,
    /// The level that spoke.
    pub from: Level,
}

/// A request as an origin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// In order.
    pub headers: Vec<(String, String)>,
}

/// Where the answer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Answer {
    /// From one of these.
    Forward {
        /// By weight.
        targets: Vec<Target>,
    },
    /// A redirect.
    Redirect {
        /// Its status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// From the configuration.
    Respond {
        /// Its status.
        status: u16,
        /// In order.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Option<RespondBody>,
    },
    /// A refusal.
    Refuse {
        /// Its status.
        status: u16,
        /// The word in the access log.
        reason: &'static str,
        /// The same for people.
        why: String,
    },
}

/// A weighted target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is called.
    pub name: String,
    /// As written.
    pub weight: u32,
    /// Its share in percent, rounded down.
    pub percent: u64,
    /// How an endpoint is chosen; none for what is not known.
    pub balance: Option<Balance>,
    /// In order.
    pub endpoints: Vec<Endpoint>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where.
    pub address: String,
    /// Its share among the endpoints.
    pub weight: u32,
}

impl Report {
    pub(super) fn new(listener: &Listener, parts: &Parts) -> Self {
        Self {
            listener: listener.name.clone(),
            address: listener.address.clone(),
            client: IpAddr::from([127, 0, 0, 1]),
            trusted: false,
            method: parts.method.to_string(),
            host: None,
            target: parts.uri.to_string(),
            route: None,
            filters: Vec::new(),
            max_body: None,
            timeout: None,
            sent: None,
            answer: Answer::refused(&ProxyError::NoRoute),
            notes: Vec::new(),
        }
    }

    pub(super) fn learn_request(&mut self, parts: &Parts, normalized: &Normalized) {
        self.host = normalized.host.as_deref().map(str::to_owned);
        self.target = parts.uri.to_string();
        if normalized.underscores_dropped > 0 {
            self.notes.push(format!(
                "{} header fields were dropped for the underscore in their names",
                normalized.underscores_dropped
            ));
        }
    }

    /// Whether the request reaches a rule, or an answer of its listener.
    pub fn matches(&self) -> bool {
        let chosen = self.route.as_ref().is_some_and(|it| it.chosen.is_some());
        chosen || matches!(self.answer, Answer::Redirect { .. })
    }
}

impl Answer {
    pub(super) fn refused(error: &ProxyError) -> Self {
        let verdict = error.verdict();
        Self::Refuse {
            status: verdict.status.as_u16(),
            reason: verdict.reason,
            why: error.to_string(),
        }
    }

    pub(super) fn redirect(status: u16, location: &HeaderValue) -> Self {
        Self::Redirect {
            status,
            location: text(location),
        }
    }
}

impl Sent {
    pub(super) fn of(parts: &Parts) -> Self {
        let header = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), text(value))
        };
        Self {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: parts.headers.iter().map(header).collect(),
        }
    }
}

impl Target {
    pub(super) fn of(written: &Written, upstream: Option<&Upstream>, sum: u64) -> Self {
        let name = match &written.destination {
            Destination::Upstream(name) => name.to_string(),
            Destination::Address(address) => address.to_string(),
            Destination::Service { name, port } => {
                format!("service {name}:{port} (unknown: answers 503 unknown_service)")
            }
        };
        let endpoints = upstream.map_or_else(Vec::new, |upstream| {
            let endpoint = |endpoint: &sluice_config::model::Endpoint| Endpoint {
                address: endpoint.address.to_string(),
                weight: endpoint.weight,
            };
            upstream.endpoints.iter().map(endpoint).collect()
        });
        Self {
            name,
            weight: written.weight,
            percent: u64::from(written.weight)
                .saturating_mul(100)
                .checked_div(sum)
                .unwrap_or_default(),
            balance: upstream.map(|upstream| upstream.balance),
            endpoints,
        }
    }
}

/// What would become of a raw stream or datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Where it comes in.
    pub listener: ListenerName,
    /// The address of the listener.
    pub address: Bind,
    /// What the listener speaks.
    pub protocol: Protocol,
    /// The client.
    pub client: IpAddr,
    /// Our side of the connection.
    pub destination: SocketAddr,
    /// The name that is asked for in the TLS handshake.
    pub sni: Option<String>,
    /// What is offered there.
    pub alpn: Vec<String>,
    /// Whether TLS is ended here.
    pub ended: bool,
    /// What is looked for among the routes.
    pub mode: Mode,
    /// The way through the routes; none when it did not come that far.
    pub route: Option<Explanation>,
    /// How long it lasts.
    pub stream: Option<StreamLimits>,
    /// Where it goes.
    pub answer: StreamAnswer,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// Where a raw stream goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum StreamAnswer {
    /// To one of these.
    Forward {
        /// By weight.
        targets: Vec<Target>,
    },
    /// It is read as requests.
    Requests,
    /// It goes out, where `[egress]` allows that.
    Egress,
    /// It is closed.
    Refuse {
        /// The word in the access log.
        reason: &'static str,
        /// The same for people.
        why: String,
    },
}

impl StreamReport {
    pub(super) fn new(listener: &Listener, client: IpAddr, destination: SocketAddr) -> Self {
        Self {
            listener: listener.name.clone(),
            address: listener.address.clone(),
            protocol: listener.protocol,
            client,
            destination,
            sni: None,
            alpn: Vec::new(),
            ended: false,
            mode: Mode::of(listener.protocol),
            route: None,
            stream: None,
            answer: StreamAnswer::refused(&ProxyError::NoRoute),
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub(super) fn hello(&mut self, hello: &super::Hello) {
        self.sni.clone_from(&hello.sni);
        self.alpn.clone_from(&hello.alpn);
    }

    /// Whether it goes anywhere.
    pub fn matches(&self) -> bool {
        let chosen = self.route.as_ref().is_some_and(|it| it.chosen.is_some());
        chosen || matches!(self.answer, StreamAnswer::Requests | StreamAnswer::Egress)
    }
}

impl StreamAnswer {
    pub(super) fn refused(error: &ProxyError) -> Self {
        Self::Refuse {
            reason: error.verdict().reason,
            why: error.to_string(),
        }
    }
}

/// A header value for people: what is no text is replaced.
pub(super) fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn seconds<S: serde::Serializer>(
    timeout: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    timeout
        .map(|timeout| timeout.as_secs_f64())
        .serialize(serializer)
}
