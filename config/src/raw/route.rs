//! `[routes.NAME]` and `[[routes.NAME.rules]]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ClientCertificates, DurationOrOff, Fault, HeaderEdits, Hsts, Match, OneOrMany, Redirect,
    Respond, Retry, Rewrite, SizeOrOff, StreamLimits, Target, TextOr, Trace, Upgrade,
};

/// Hosts and ordered rules. The first rule with a match that holds decides.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Route {
    /// The listeners it is bound to, by name. Default all `http`, `https` and `auto` listeners; with
    /// `mode = "passthrough"` all `https`, `tls` and `auto` ones; with `tcp` and `udp` they must be named.
    pub listeners: Option<OneOrMany<String>>,
    /// What its listeners hand it. Each of them must be able to. Default `http` on `http`, `https` and `auto`
    /// listeners, `tcp` on `tcp` and `tls`, `udp` on `udp`.
    pub mode: Option<Mode>,
    /// The hosts it answers: `shop.example.com`, `*.example.com` (one or more labels before it), or
    /// `*`. The exact one wins, then the longest wildcard, then `*`. With `mode = "passthrough"`, and on
    /// `tls` listeners, the name that the client asks for in its TLS handshake; who asks for none has `*`.
    /// Raw streams without TLS, and datagrams, name no host, so that only `*` can be written. Default `["*"]`.
    pub hosts: Option<OneOrMany<String>>,
    /// Whose certificates clients of its hosts are asked for, on listeners that end TLS; routes that
    /// share a host and a listener ask for the same. Default what the listener says.
    pub client_certificates: Option<ClientCertificates>,
    /// Where routes share a host, the rules of the one with the higher priority come first.
    /// Range -1000000 to 1000000. Default `0`.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: Option<i64>,
    /// How long a request may take as a whole, for rules that do not say (504), or `off`.
    /// Range `1ms` to `24h`. Default `off`.
    pub timeout: Option<DurationOrOff>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
    /// Where requests go that no rule took: an address (`10.0.0.5:8080`, `[::1]:80`, `name:8080`,
    /// `http://name`, `https://name`, `unix:/path`), the name of an upstream, a table, or a list of tables with
    /// weights. At most one of `to`, `redirect`, `respond`.
    pub to: Option<OneOrMany<TextOr<Target>>>,
    /// The redirect that answers requests that no rule took.
    pub redirect: Option<Redirect>,
    /// The answer to requests that no rule took.
    pub respond: Option<Respond>,
    /// `true` answers what no rule took with 503 `config_refused`. The canonical form says so of a
    /// route that was refused and contained. Default `false`.
    pub refused: Option<bool>,
    /// Sets of filters from `[filters.NAME]`, for every rule that does not say otherwise. Where two
    /// sets have the same key the later one wins; a key written here wins over all of them.
    #[serde(rename = "use")]
    pub uses: Option<OneOrMany<String>>,
    /// Edits of the request's headers before it goes upstream. Default those of the listener.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream. Default those of the listener.
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream. Default those of the listener.
    pub rewrite: Option<Rewrite>,
    /// The largest request body (413), or `off`. Range `0B` to `1TiB`. Default that of the listener.
    pub max_body: Option<SizeOrOff>,
    /// Which protocols a connection may go over to, and how long. Default what the listener says.
    pub upgrade: Option<Upgrade>,
    /// Whether browsers are told to come by https only (`Strict-Transport-Security`), on answers over TLS:
    /// `true`, for how long, or a table that says more. What the origin says is replaced; `false` lets it
    /// pass.
    /// Default what the listener says.
    pub hsts: Option<Hsts>,
    /// Whether calls in gRPC-Web, as browsers make them, become gRPC for the upstream, and its answers
    /// gRPC-Web. Default that of the listener.
    pub grpc_web: Option<bool>,
    /// The share of requests whose traces are recorded, where they begin here: `trace = { sample = 0.1 }`.
    /// Default that of the listener.
    pub trace: Option<Trace>,
    /// When a request is sent once more: `retry = { attempts = 3, on = ["connect-failure", 503] }`. Default that of the listener.
    pub retry: Option<Retry>,
    /// Failures on purpose: `fault = { abort = { percent = 5, status = 503 } }`. Default that of the listener.
    pub fault: Option<Fault>,
    /// How long raw streams last. Not with `mode = "http"`. Default what the listener says.
    pub stream: Option<StreamLimits>,
}

/// What a route takes from its listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests. On `http`, `https` and `auto` listeners.
    Http,
    /// Raw streams, on a `tls` listener what is inside TLS. On `tcp`, `tls` and `auto` listeners.
    Tcp,
    /// TLS that is passed on as it came, by the name that is asked for. On `https`, `tls` and `auto`
    /// listeners; there it comes before everything that ends TLS.
    Passthrough,
    /// Datagrams. On `udp` listeners.
    Udp,
}

/// Which requests, and what happens to them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Rule {
    /// A name for logs and metrics, unique in its route. Default `#1`, `#2`, … by position.
    pub name: Option<String>,
    /// Conditions: a table all of whose keys must hold, or a list of such tables, any of which must.
    /// Default every request.
    #[serde(rename = "match")]
    pub matches: Option<OneOrMany<Match>>,
    /// Where the request goes: an address (`10.0.0.5:8080`, `[::1]:80`, `name:8080`, `http://name`,
    /// `unix:/path`), the name of an upstream, a table, or a list of tables with weights. Exactly one
    /// of `to`, `redirect`, `respond`.
    pub to: Option<OneOrMany<TextOr<Target>>>,
    /// Answers with a redirect.
    pub redirect: Option<Redirect>,
    /// Answers from the configuration.
    pub respond: Option<Respond>,
    /// `true` answers with 503 `config_refused`. The canonical form says so of a rule that was
    /// refused and contained. Default `false`.
    pub refused: Option<bool>,
    /// How long a request may take as a whole (504), or `off`. Range `1ms` to `24h`.
    /// Default that of the route.
    pub timeout: Option<DurationOrOff>,
    /// Sets of filters from `[filters.NAME]`. Where two sets have the same key the later one wins; a
    /// key written here wins over all of them.
    #[serde(rename = "use")]
    pub uses: Option<OneOrMany<String>>,
    /// Edits of the request's headers before it goes upstream. Default those of the route.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream. Default those of the route.
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream. Default those of the route.
    pub rewrite: Option<Rewrite>,
    /// The largest request body (413), or `off`. Range `0B` to `1TiB`. Default that of the route.
    pub max_body: Option<SizeOrOff>,
    /// Which protocols a connection may go over to, and how long. Default what the route says.
    pub upgrade: Option<Upgrade>,
    /// Whether browsers are told to come by https only (`Strict-Transport-Security`), on answers over TLS:
    /// `true`, for how long, or a table that says more. What the origin says is replaced; `false` lets it
    /// pass.
    /// Default what the route says.
    pub hsts: Option<Hsts>,
    /// Whether calls in gRPC-Web, as browsers make them, become gRPC for the upstream, and its answers
    /// gRPC-Web. Default that of the route.
    pub grpc_web: Option<bool>,
    /// The share of requests whose traces are recorded, where they begin here: `trace = { sample = 0.1 }`.
    /// Default that of the route.
    pub trace: Option<Trace>,
    /// When a request is sent once more: `retry = { attempts = 3, on = ["connect-failure", 503] }`. Default that of the route.
    pub retry: Option<Retry>,
    /// Failures on purpose: `fault = { abort = { percent = 5, status = 503 } }`. Default that of the route.
    pub fault: Option<Fault>,
    /// How long raw streams last. Not with `mode = "http"`. Default what the route says.
    pub stream: Option<StreamLimits>,
}
