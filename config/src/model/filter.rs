//! Filters: what changes a request or a response on its way. Keys on listener, route or rule;
//! the nearest wins whole.

mod fault;
mod hsts;
mod retry;
mod stream;

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{HeaderName, Limit, PathChange, Template, Trace, canonical, value::is_token};

pub use fault::{Fault, FaultAbort, FaultDelay, FaultStatus};
pub use hsts::{Hsts, HstsTerms};
pub use retry::{BackOff, Retry, RetryOn};
pub use stream::StreamLimits;

/// One level's filters, `use` already resolved. `None`: this level says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Filters {
    /// Edits of the request's headers before it goes upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream, refusals included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// The largest request body, in bytes.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_size_or_off"
    )]
    pub max_body: Option<Limit<u64>>,
    /// Which protocols a connection may go over to, and how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// What browsers are told of https; none means nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Whether calls in gRPC-Web become gRPC; none means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<bool>,
    /// Which requests are traced; none means what `[tracing]` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// When a request is sent once more; none means the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Arc<Retry>>,
    /// Failures on purpose; none means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// How long raw streams last; none means the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamLimits>,
}

impl Filters {
    /// Whether something changes, bounds or answers requests.
    pub fn change_requests(&self) -> bool {
        let streams = Self {
            trace: self.trace,
            stream: self.stream,
            ..Self::default()
        };
        *self != streams
    }

    /// Bodies are streamed, so this protects origins, not the gateway's memory.
    pub const MAX_BODY: Limit<u64> = Limit::At(1 << 30);
}

/// Edits of headers, applied in the order remove, set, add.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HeaderEdits {
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Replaces every value of that name.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub set: Vec<(HeaderName, Template)>,
    /// Appended to what is there.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::lines"
    )]
    pub add: Vec<(HeaderName, Template)>,
}

/// Changes of path and host before the request goes upstream. The query is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rewrite {
    /// The new path; none keeps it.
    #[serde(flatten)]
    pub path: Option<PathChange>,
    /// The new `Host`; none keeps the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Template>,
}

/// Which protocols a connection may go over to, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upgrade {
    /// The protocols; with none there are no upgrades.
    pub protocols: Vec<UpgradeProtocol>,
    /// How long nothing may move in either direction.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub idle_timeout: Limit<Duration>,
    /// How long an upgraded connection may last.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub max_duration: Limit<Duration>,
}

impl Upgrade {
    /// Whether a connection may go over to what `Upgrade` names so.
    pub fn allows(&self, protocol: &str) -> bool {
        let mut protocols = self.protocols.iter();
        protocols.any(|allowed| allowed.0.eq_ignore_ascii_case(protocol))
    }
}

impl Default for Upgrade {
    /// WebSocket, and an hour without a byte: browsers keep quiet connections open for that long.
    fn default() -> Self {
        Self {
            protocols: UpgradeProtocol::new("websocket").into_iter().collect(),
            idle_timeout: Limit::At(Duration::from_hours(1)),
            max_duration: Limit::Off,
        }
    }
}

/// A protocol that `Upgrade` may name: a lower-case token, and never HTTP itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpgradeProtocol(Arc<str>);

impl UpgradeProtocol {
    /// Lower-cases `text` and refuses what is no token, and `h2c`: a tunnel through which HTTP
    /// requests pass that no rule has seen.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        (is_token(&text) && text != "h2c").then(|| Self(Arc::from(text)))
    }

    /// The name, lower-case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpgradeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
