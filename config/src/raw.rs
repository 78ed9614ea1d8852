//! What people write: the configuration as it stands in a file, before anybody checked it.
//!
//! Every field is optional and as loose as the text; `check` knows ranges, defaults and references.
//! The JSON Schema and `docs/config.md` are generated from these types and their comments, so a
//! comment here is the manual: meaning, then `Range …`, then `Default …`.

mod access_log;
mod action;
mod egress;
mod filter;
mod listener;
mod matching;
mod process;
mod route;
mod tls;
mod tracing;
mod upstream;
mod value;

use schemars::JsonSchema;
use serde::Deserialize;

pub use access_log::{AccessLog, AccessLogFields, AccessLogFile, AccessLogFilter, StatusWord};
pub use action::{PathRegex, Redirect, Respond, Target};
pub use egress::{Egress, EgressDefault, EgressFrom, EgressMode, EgressProtocol, EgressRule};
pub use filter::{
    BackOff, Fault, FaultAbort, FaultDelay, FilterSet, HeaderEdits, Hsts, HstsTerms, Retry,
    RetryOn, Rewrite, StreamLimits, Upgrade,
};
pub use listener::{
    Basic, Escapes, Http2, HttpsRedirect, KeepAlive, Listener, ListenerLimits, ListenerSocket,
    ListenerTimeouts, Normalize, ProxyProtocolIn, Startup, Udp, Underscores,
};
pub use matching::{Match, PathMatch, Ports, ValueMatch};
pub use process::Process;
pub use route::{Mode, Route, Rule};
pub use tls::{
    Acme, AcmeChallenge, AcmeDns, AcmeKey, Certificate, ClientCertificateMode, ClientCertificates,
    DnsExec, DnsWebhook, Etcd, ExternalAccount, KeyPair, ListenerCertificates, ListenerTls,
    NamesOr, OnDemand, Rfc2136, Storage, TlsVersion, TsigAlgorithm, UpstreamTls,
};
pub use tracing::{Otlp, Trace, Tracing};
pub use upstream::{
    Balance, Dns, Endpoint, GrpcCheck, HealthCheck, HttpCheck, ProxyVersion, Statuses, TcpCheck,
    Upstream, UpstreamLimits, UpstreamPool, UpstreamProtocol, UpstreamSocket, UpstreamTimeouts,
};
pub use value::{
    CountOrOff, DurationOrOff, DurationText, OneOrMany, SizeOrOff, SizeText, Switch, Table, TextOr,
};

/// The configuration of Sluice: one file, or every `*.toml` of one directory.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Root {
    /// What a mistake in an object leads to. `refuse`: the whole configuration is refused and the
    /// last good one keeps running. `contain`: the object keeps its previous version where there is
    /// one, else what it would have matched answers 503 `config_refused`; everything else is taken.
    /// Default `refuse`.
    pub on_error: Option<OnError>,
    /// Settings that hold for the life of the process; a change takes effect at the next start.
    pub process: Option<Process>,
    /// Addresses we accept on, by name. Without any there is one named `default` on `[::]:8080`.
    pub listeners: Table<Listener>,
    /// Hosts with ordered rules, by name.
    pub routes: Table<Route>,
    /// Certificates, by name.
    pub certificates: Table<Certificate>,
    /// Issuers of certificates, by name; `local` is the development CA of this machine, and no name here.
    pub acme: Table<Acme>,
    /// What several gateways share.
    pub storage: Option<Storage>,
    /// Groups of endpoints, by name.
    pub upstreams: Table<Upstream>,
    /// Who may reach what outside, through listeners with `protocol = "forward-proxy"` and `"transparent"`.
    /// Default everybody everything that is public; CONNECT to port 443 only.
    pub egress: Option<Egress>,
    /// Reusable sets of filters, by name; `use = ["NAME"]` on a listener, route or rule takes them.
    pub filters: Table<FilterSet>,
    /// Where request lines go.
    pub access_log: Option<AccessLog>,
    /// How names of endpoints are resolved.
    pub dns: Option<Dns>,
    /// Traces of requests.
    pub tracing: Option<Tracing>,
}

/// What a mistake in an object leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The whole configuration is refused.
    #[default]
    Refuse,
    /// Only the object is refused.
    Contain,
}
