//! What is true: the checked configuration. Every invariant is in the types; nobody asks again.
//!
//! Made only by `check`; compared by `diff`; compiled by the gateway. Knows nothing of files.
//! Serializes to the canonical form that `sluice check --print` shows and the wire will carry.

mod action;
mod canonical;
mod filter;
mod listener;
pub mod order;
mod process;
mod route;
mod telemetry;
mod text;
mod tls;
mod upstream;
mod value;

pub use action::{
    Action, Address, Destination, Host, HostPort, PathChange, Redirect, Respond, RespondBody,
    Scheme, Target,
};
pub use filter::{Filters, HeaderEdits, Hsts, HstsTerms, Rewrite, Upgrade, UpgradeProtocol};
pub use listener::{
    Escapes, Http2, HttpsRedirect, Listener, ListenerLimits, ListenerTimeouts, Normalize, Protocol,
    Underscores,
};
pub use process::{ControlAddress, ControlAddressError, Process};
pub use route::{HeaderMatch, HostPattern, Match, PathMatch, Route, Rule, ValueMatch};
pub use telemetry::{
    AccessLog, AccessLogOutput, LogField, LogFields, LogFilter, LogFormat, LogPart, Otlp,
    OtlpProtocol, Secret, Share, StatusClass, Trace, Tracing,
};
pub use text::{Part, Template, Variable};
pub use tls::{
    Alpn, Certificate, CertificateNames, CertificateSource, ClientCertificateMode,
    ClientCertificates, KeyPairFiles, ListenerCertificates, ListenerTls, SanPattern, SpkiPin,
    TlsTerms, TlsVersion, UpstreamTls,
};
pub use upstream::{
    Balance, Dns, Endpoint, Upstream, UpstreamLimits, UpstreamPool, UpstreamProtocol,
    UpstreamTimeouts,
};
pub use value::{HeaderName, Limit, Method, Pattern, PatternError};
