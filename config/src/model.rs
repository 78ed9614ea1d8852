//! What is true: the checked configuration. Every invariant is in the types; nobody asks again.
//!
//! Made only by `check`; compared by `diff`; compiled by the gateway. Knows nothing of files.
//! Serializes to the canonical form that `sluice check --print` shows and the wire will carry.

mod action;
mod canonical;
mod egress;
mod filter;
mod listener;
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
pub use egress::{
    Egress, EgressDefault, EgressFrom, EgressHost, EgressMode, EgressProtocols, EgressRule,
    IdentityPattern,
};
pub use filter::{
    BackOff, Fault, FaultAbort, FaultDelay, FaultStatus, Filters, HeaderEdits, Hsts, HstsTerms,
    Retry, RetryOn, Rewrite, StreamLimits, Upgrade, UpgradeProtocol,
};
pub use listener::{
    Basic, BasicError, Bind, Escapes, Http2, HttpsRedirect, KeepAlive, Listener, ListenerLimits,
    ListenerSocket, ListenerTimeouts, Normalize, PasswordHash, PasswordHashError, Protocol,
    ProxyProtocolIn, Startup, Udp, Underscores, UpstreamSocket,
};
pub use process::{ControlAddress, ControlAddressError, Process};
pub use route::order;
pub use route::{HeaderMatch, HostPattern, Match, Mode, PathMatch, Route, Rule, ValueMatch};
pub use telemetry::{
    AccessLog, AccessLogOutput, LogField, LogFields, LogFilter, LogFormat, LogPart, Otlp,
    OtlpProtocol, ReceiverUrlError, Share, StatusClass, Trace, Tracing,
};
pub use text::{CertificatePart, Part, Template, TlsPart, Variable};
pub(crate) use tls::is_address;
pub use tls::{
    Acme, AcmeChallenge, AcmeDns, AcmeKey, Alpn, Certificate, CertificateNames, CertificateSource,
    ClientCertificateMode, ClientCertificates, DnsExec, DnsWebhook, Etcd, EtcdLogin,
    ExternalAccount, KeyPairFiles, ListenerCertificates, ListenerTls, OnDemand, Rate, Rfc2136,
    SanPattern, Secret, SecretText, SpkiPin, Storage, TlsTerms, TlsVersion, TsigAlgorithm,
    UpstreamTls,
};
pub use upstream::{
    Balance, Dns, Endpoint, GrpcCheck, HealthCheck, HttpCheck, ProxyVersion, Question, TcpCheck,
    Upstream, UpstreamLimits, UpstreamPool, UpstreamProtocol, UpstreamTimeouts,
};
pub use value::{GrpcStatus, HeaderName, Limit, Method, Pattern, PatternError, Percent};
