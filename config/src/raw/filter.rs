//! Filter keys, and `[filters.NAME]`

mod fault;
mod hsts;
mod retry;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationOrOff, DurationText, OneOrMany, PathRegex, SizeOrOff, Table, Trace};

pub use fault::{Fault, FaultAbort, FaultDelay};
pub use hsts::{Hsts, HstsTerms};
pub use retry::{BackOff, Retry, RetryOn};

/// A reusable set of filters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct FilterSet {
    /// Edits of the request's headers before it goes upstream.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream, refusals included.
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream.
    pub rewrite: Option<Rewrite>,
    /// The largest request body (413), or `off`. Range `0B` to `1TiB`.
    pub max_body: Option<SizeOrOff>,
    /// Which protocols a connection may go over to, and how long.
    pub upgrade: Option<Upgrade>,
    /// Whether browsers are told to come by https only (`Strict-Transport-Security`), on answers over TLS:
    /// `true`, for how long, or a table that says more. What the origin says is replaced; `false` lets it
    /// pass.
    pub hsts: Option<Hsts>,
    /// Whether calls in gRPC-Web, as browsers make them, become gRPC for the upstream, and its answers
    /// gRPC-Web.
    pub grpc_web: Option<bool>,
    /// The share of requests whose traces are recorded, where they begin here: `trace = { sample = 0.1 }`.
    pub trace: Option<Trace>,
    /// When a request is sent once more: `retry = { attempts = 3, on = ["connect-failure", 503] }`.
    pub retry: Option<Retry>,
    /// Failures on purpose: `fault = { abort = { percent = 5, status = 503 } }`.
    pub fault: Option<Fault>,
    /// How long raw streams last. For what passes raw streams or datagrams only.
    pub stream: Option<StreamLimits>,
}

/// Edits of headers, applied in the order remove, set, add. Variables such as `{client.ip}` and
/// captures `{1}` are filled in; `{{` is a brace.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct HeaderEdits {
    /// Headers to replace, by name.
    pub set: Option<Table<String>>,
    /// Headers to append to what is there, by name; a list stands for several lines.
    pub add: Option<Table<OneOrMany<String>>>,
    /// Names of headers to take away.
    pub remove: Option<OneOrMany<String>>,
}

/// Changes of path and host before the request goes upstream. The query is kept. At most one of
/// `path`, `prefix`, `regex`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Rewrite {
    /// The new path; variables and captures are filled in.
    pub path: Option<String>,
    /// Instead of the prefix that the rule matched; the rest of the path is kept. Every match of the
    /// rule must have a path prefix.
    pub prefix: Option<String>,
    /// Replaces the whole path where an expression matches it.
    pub regex: Option<PathRegex>,
    /// The new `Host`; variables and captures are filled in. Default the client's.
    pub host: Option<String>,
}

/// Which protocols a connection may go over to (`Upgrade`), and how long. Wins whole: what is not
/// written here has its default, whatever stands further away.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Upgrade {
    /// Names of protocols, their case does not count; `[]` switches upgrades off. A request for
    /// another goes on as an ordinary one; over HTTP/2 (extended CONNECT) it is refused. `connect` is no
    /// protocol but allows CONNECT, which is sent on. `h2c` is never allowed. Default `["websocket"]`.
    pub protocols: Option<OneOrMany<String>>,
    /// How long nothing may move in either direction, or `off`. Range `1ms` to `24h`. Default `1h`.
    pub idle_timeout: Option<DurationOrOff>,
    /// How long an upgraded connection may last, or `off`. Range `1ms` to `24h`. Default `off`.
    pub max_duration: Option<DurationOrOff>,
}

/// How long raw streams last. Wins whole: what is not written here has its default, whatever stands
/// further away.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct StreamLimits {
    /// How long nothing may move in either direction, or `off`. Range `1ms` to `24h`. Default `1h`.
    pub idle_timeout: Option<DurationOrOff>,
    /// How long a stream may last, or `off`. Range `1ms` to `24h`. Default `off`.
    pub max_duration: Option<DurationOrOff>,
    /// How long a stream goes on when its listener or route has changed or is gone, or the gateway stops
    /// (verdict `draining`). Range `0s` to `24h`. Default `30s`.
    pub drain: Option<DurationText>,
}
