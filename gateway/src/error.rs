//! Why a request ends without its upstream's answer, and what follows from it.
//!
//! [`ProxyError::verdict`] is the only table from failure to consequence.

use std::{io, time::Duration};

use http::StatusCode;
use sluice_certs::client::{ConnectError, Part};
use sluice_config::names::{ServiceName, UpstreamName};

pub use sluice_config::model::GrpcStatus;

/// Why a request was not answered by its upstream.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request breaks the protocol or a rule of normalisation.
    #[error("the request is malformed: {0}")]
    BadRequest(Malformed),
    /// `Expect` with anything but `100-continue`.
    #[error("the expectation cannot be met")]
    Expectation,
    /// More bytes in the head, or more fields, than the listener allows.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// A longer target than the listener allows.
    #[error("the request target is longer than {limit} bytes")]
    UriTooLong {
        /// `limits.uri` of the listener.
        limit: usize,
    },
    /// A larger body than the rule allows.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// `max_body`.
        limit: u64,
    },
    /// The head did not arrive within `timeouts.request_head`.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// No piece of the body arrived within `timeouts.request_body`, or less than `limits.body_rate`.
    #[error("the request body stopped arriving")]
    BodyTimeout,
    /// The client sent too many frames to no purpose, or took back too many requests.
    #[error("the client sent too much to no purpose")]
    Flood,
    /// The client went away before the answer was complete.
    #[error("the client closed the connection")]
    ClientClosed,
    /// The client accepted no byte for `timeouts.write_stall`.
    #[error("the client stopped reading")]
    ClientStalled,
    /// The host is not one that the connection was made for: its certificate is not for it, or its
    /// route asks for other client certificates than the handshake did.
    #[error("the request belongs on another connection")]
    Misdirected,
    /// No route has this host on this listener, or no rule of its routes matches.
    #[error("no route matches the request")]
    NoRoute,
    /// The object that would have answered was refused by the check and contained.
    #[error("the configuration of this rule was refused")]
    ConfigRefused,
    /// Every target of the rule has weight 0.
    #[error("every target of the rule has weight 0")]
    NoTarget,
    /// A service that nobody has told us of.
    #[error("service {service} is not known")]
    UnknownService {
        /// As written in `to`.
        service: ServiceName,
    },
    /// An upstream without a usable endpoint: none configured, none resolved, all of weight 0, or none
    /// available where that matters.
    #[error("upstream {upstream} has no usable endpoint")]
    NoEndpoint {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// `limits.pending_requests` requests are waiting already.
    #[error("too many requests wait for upstream {upstream}")]
    Overflow {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// The connection was refused or lost while it was made.
    #[error("connecting to upstream {upstream}")]
    Connect {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection within `timeouts.connect`.
    #[error("connecting to upstream {upstream} took too long")]
    ConnectTimeout {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// TLS with the endpoint came to nothing; the request was not looked at.
    #[error("no TLS with upstream {upstream}")]
    UpstreamTls {
        /// The upstream.
        upstream: UpstreamName,
        /// The part of it that failed.
        part: Part,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// The endpoint did not grant the TLS that it was asked for before it begins.
    #[error("upstream {upstream} grants no TLS")]
    UpstreamStartup {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The connection ended before the response's head.
    #[error("upstream {upstream} closed the connection before it answered")]
    UpstreamReset {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// What came back was no HTTP response.
    #[error("upstream {upstream} answered with something that is no HTTP")]
    UpstreamProtocol {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The endpoint refused the request without looking at it (HTTP/2).
    #[error("upstream {upstream} took no more requests on this connection")]
    StreamRefused {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// No response head within `timeouts.response_head`.
    #[error("upstream {upstream} did not answer in time")]
    ResponseTimeout {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// No response head within `retry.per_try_timeout`.
    #[error("the attempt took longer than its rule allows")]
    TryTimeout,
    /// The endpoint accepted no byte of the request for `timeouts.write_stall`.
    #[error("upstream {upstream} stopped reading")]
    UpstreamStalled {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// The response body ended early, broke its framing, or paused for `timeouts.response_body`.
    #[error("the response of upstream {upstream} broke off")]
    ResponseBroken {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The request took longer than `timeout` of its rule.
    #[error("the request took longer than its rule allows")]
    RequestTimeout,
    /// The process holds as much memory as `process.memory` allows.
    #[error("the gateway holds too much memory")]
    Overloaded,
    /// The process has no file descriptor left for a connection to an endpoint.
    #[error("there is no file descriptor left for a connection to an endpoint")]
    NoDescriptor,
    /// CONNECT, with a protocol or without, that the rule does not allow.
    #[error("the rule does not allow what CONNECT asks for")]
    ProtocolRefused,
    /// An upgrade for an endpoint that speaks HTTP/2 without `SETTINGS_ENABLE_CONNECT_PROTOCOL`.
    #[error(
        "upstream {upstream} takes no upgrades over HTTP/2 (no SETTINGS_ENABLE_CONNECT_PROTOCOL)"
    )]
    ProtocolUnsupported {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// Nothing moved on an upgraded connection for `upgrade.idle_timeout`.
    #[error("nothing moved on the upgraded connection for too long")]
    UpgradeIdle,
    /// An upgraded connection lasted for `upgrade.max_duration`.
    #[error("the upgraded connection lasted longer than allowed")]
    UpgradeExpired,
    /// Nothing moved on a raw stream for `stream.idle_timeout`.
    #[error("nothing moved on the stream for too long")]
    StreamIdle,
    /// A raw stream lasted for `stream.max_duration`.
    #[error("the stream lasted longer than allowed")]
    StreamExpired,
    /// A client of a forward proxy said neither by password nor by certificate who it is.
    #[error("the client has not said who it is")]
    ProxyAuthentication,
    /// So many passwords are being verified that another one has to wait for too long.
    #[error("too many passwords are being verified")]
    AuthenticationBusy,
    /// What a client of a forward proxy asks for can be nobody's name, or is asked for in another form.
    #[error("the target of the forward proxy cannot be read")]
    EgressTarget,
    /// No rule of `[egress]` allows it.
    #[error("no rule allows to go there ({why})")]
    EgressRefused {
        /// The word for what was missing, as the access log has it.
        why: &'static str,
    },
    /// The name stands for nothing but addresses that are not public and that the rule does not list.
    #[error("the target has no address that may be connected to")]
    EgressAddress,
    /// The `rate` of the rule of `[egress]` is spent.
    #[error("the rate of the rule is spent")]
    EgressRate {
        /// When it is worth asking again.
        after: Duration,
    },
    /// `fault` of the rule, by chance and on purpose.
    #[error("the rule lets requests fail on purpose")]
    Fault {
        /// What HTTP is told.
        status: StatusCode,
        /// What gRPC is told.
        grpc: GrpcStatus,
    },
    /// The gateway is stopping, or the object that served the request is gone and its grace over.
    #[error("the gateway is draining")]
    Draining,
    /// A defect of the gateway: the request's task panicked.
    #[error("the gateway failed")]
    Internal,
}

/// A cause from a library that has no common type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What makes a request malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The HTTP codec could not read it.
    #[error("it is no HTTP")]
    Syntax,
    /// HTTP/1.1 without `Host`.
    #[error("there is no host")]
    NoHost,
    /// `Host` twice, or another in the request target.
    #[error("there is more than one host")]
    ManyHosts,
    /// A host or port that cannot be.
    #[error("the host is malformed")]
    BadHost,
    /// A transfer coding other than `chunked`.
    #[error("the transfer coding is unknown")]
    TransferCoding,
    /// `Content-Length` that cannot be, or several.
    #[error("the content length is malformed")]
    ContentLength,
    /// A path with a character or an escape that the listener refuses, or that leaves the root.
    #[error("the path is refused")]
    Path,
    /// A header name with `_` where the listener refuses it.
    #[error("a header name contains an underscore")]
    Underscore,
    /// A target form that this listener does not serve (authority form, or `*` without OPTIONS).
    #[error("the request target has a form that is not served here")]
    Target,
    /// The body broke its framing.
    #[error("the body is malformed")]
    Body,
    /// A request for an upgrade with a body: nobody could tell where the protocol begins.
    #[error("a request for an upgrade has a body")]
    UpgradeBody,
}

/// Everything the rest of the gateway wants to know about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What the client is told; 499 and 0-like outcomes never reach the wire.
    pub status: StatusCode,
    /// Stable word for logs and metrics.
    pub reason: &'static str,
    /// The response flag that other proxies write in such a case, where there is one; else one of ours.
    pub flags: &'static str,
    /// Whose fault it is; decides which counter moves.
    pub blame: Blame,
    /// Whether the upstream can have seen the request.
    pub retry: Retry,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client's.
    Downstream,
    /// Ours or the operator's.
    Gateway,
    /// The origin's.
    Upstream,
}

/// Whether a request may be sent again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The upstream cannot have seen it.
    Always,
    /// The upstream may have seen it: only when the method is idempotent and the body untouched.
    IfIdempotent,
    /// It would not help, or would do harm.
    Never,
}

impl ProxyError {
    /// The one table from failure to consequence. No wildcard arm: a new variant must choose.
    #[must_use]
    #[rustfmt::skip] // a table is read as a table
    pub const fn verdict(&self) -> Verdict {
        use Blame::{Downstream, Gateway, Upstream};
        use Retry::{Always, IfIdempotent, Never};

        let (status, reason, flags, blame, retry) = match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request", "DPE", Downstream, Never),
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "expectation_failed", "EF", Downstream, Never),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "HL", Downstream, Never),
            Self::UriTooLong { .. } => (StatusCode::URI_TOO_LONG, "uri_too_long", "UL", Downstream, Never),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "BL", Downstream, Never),
            Self::HeadTimeout => (StatusCode::REQUEST_TIMEOUT, "head_timeout", "HT", Downstream, Never),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "SI", Downstream, Never),
            Self::Flood => (StatusCode::TOO_MANY_REQUESTS, "flood", "FL", Downstream, Never),
            Self::ClientClosed => (CLIENT_CLOSED, "client_closed", "DC", Downstream, Never),
            Self::ClientStalled => (CLIENT_CLOSED, "client_stalled", "DS", Downstream, Never),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "misdirected", "MD", Downstream, Never),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no_route", "NR", Gateway, Never),
            Self::ConfigRefused => (StatusCode::SERVICE_UNAVAILABLE, "config_refused", "CR", Gateway, Never),
            Self::NoTarget => (StatusCode::SERVICE_UNAVAILABLE, "no_target", "NT", Gateway, Never),
            Self::UnknownService { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unknown_service", "NC", Gateway, Never),
            Self::NoEndpoint { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", "UH", Upstream, Never),
            Self::Overflow { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overflow", "UO", Upstream, Never),
            Self::Connect { .. } => (StatusCode::BAD_GATEWAY, "connect", "UF", Upstream, Always),
            Self::ConnectTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "connect_timeout", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Name, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_name", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Issuer, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_issuer", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Validity, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_validity", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Certificate, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_certificate", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::ClientCertificate, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_client_certificate", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Alpn, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls_alpn", "UF", Upstream, Always),
            Self::UpstreamTls { part: Part::Handshake, .. } => (StatusCode::BAD_GATEWAY, "upstream_tls", "UF", Upstream, Always),
            Self::UpstreamStartup { .. } => (StatusCode::BAD_GATEWAY, "upstream_startup", "UF", Upstream, Always),
            Self::UpstreamReset { .. } => (StatusCode::BAD_GATEWAY, "upstream_reset", "UC", Upstream, IfIdempotent),
            Self::UpstreamProtocol { .. } => (StatusCode::BAD_GATEWAY, "upstream_protocol", "UPE", Upstream, Never),
            Self::StreamRefused { .. } => (StatusCode::SERVICE_UNAVAILABLE, "stream_refused", "UR", Upstream, Always),
            Self::ResponseTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "response_timeout", "UT", Upstream, Never),
            Self::TryTimeout => (StatusCode::GATEWAY_TIMEOUT, "try_timeout", "UT", Upstream, IfIdempotent),
            Self::UpstreamStalled { .. } => (StatusCode::GATEWAY_TIMEOUT, "upstream_stalled", "UT", Upstream, Never),
            Self::ResponseBroken { .. } => (StatusCode::BAD_GATEWAY, "response_broken", "UC", Upstream, Never),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, "request_timeout", "UT", Upstream, Never),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "OM", Gateway, Never),
            Self::NoDescriptor => (StatusCode::SERVICE_UNAVAILABLE, "no_descriptor", "NF", Gateway, Never),
            Self::ProtocolRefused => (StatusCode::NOT_IMPLEMENTED, "protocol_refused", "PR", Downstream, Never),
            Self::ProtocolUnsupported { .. } => (StatusCode::BAD_GATEWAY, "protocol_unsupported", "PU", Upstream, Never),
            Self::UpgradeIdle => (StatusCode::SWITCHING_PROTOCOLS, "upgrade_idle", "SI", Downstream, Never),
            Self::UpgradeExpired => (StatusCode::SWITCHING_PROTOCOLS, "upgrade_expired", "DT", Gateway, Never),
            Self::StreamIdle => (StatusCode::OK, "stream_idle", "SI", Downstream, Never),
            Self::StreamExpired => (StatusCode::OK, "stream_expired", "DT", Gateway, Never),
            Self::ProxyAuthentication => (StatusCode::PROXY_AUTHENTICATION_REQUIRED, "proxy_authentication", "PA", Downstream, Never),
            Self::AuthenticationBusy => (StatusCode::SERVICE_UNAVAILABLE, "authentication_busy", "AB", Gateway, Never),
            Self::EgressTarget => (StatusCode::BAD_REQUEST, "egress_target", "ET", Downstream, Never),
            Self::EgressRefused { .. } => (StatusCode::FORBIDDEN, "egress_refused", "ER", Downstream, Never),
            Self::EgressAddress => (StatusCode::FORBIDDEN, "egress_address", "EA", Downstream, Never),
            Self::EgressRate { .. } => (StatusCode::TOO_MANY_REQUESTS, "egress_rate", "RL", Downstream, Never),
            Self::Fault { status, .. } => (*status, "fault", "FI", Gateway, Never),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "GD", Gateway, Never),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "GE", Gateway, Never),
        };
        Verdict { status, reason, flags, blame, retry }
    }

    /// What a gRPC client is told: the same table once more, since the statuses of HTTP say too little
    /// there. No wildcard arm: a new variant must choose.
    #[must_use]
    pub const fn grpc_status(&self) -> GrpcStatus {
        match self {
            Self::ClientClosed
            | Self::ClientStalled
            | Self::UpgradeIdle
            | Self::UpgradeExpired
            | Self::StreamIdle
            | Self::StreamExpired => GrpcStatus::Cancelled,
            Self::HeadTimeout
            | Self::BodyTimeout
            | Self::ResponseTimeout { .. }
            | Self::TryTimeout
            | Self::UpstreamStalled { .. }
            | Self::RequestTimeout => GrpcStatus::DeadlineExceeded,
            Self::Flood
            | Self::HeadTooLarge
            | Self::UriTooLong { .. }
            | Self::BodyTooLarge { .. }
            | Self::EgressRate { .. } => GrpcStatus::ResourceExhausted,
            Self::ProxyAuthentication => GrpcStatus::Unauthenticated,
            Self::EgressRefused { .. } | Self::EgressAddress => GrpcStatus::PermissionDenied,
            Self::NoRoute | Self::ProtocolRefused | Self::ProtocolUnsupported { .. } => {
                GrpcStatus::Unimplemented
            }
            Self::BadRequest(_) | Self::Expectation | Self::EgressTarget | Self::Internal => {
                GrpcStatus::Internal
            }
            // No endpoint can have seen the call, so that the client's own retries may repeat it; or
            // what one saw is lost, and the client decides.
            Self::ConfigRefused
            | Self::NoTarget
            | Self::UnknownService { .. }
            | Self::NoEndpoint { .. }
            | Self::Overflow { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::UpstreamTls { .. }
            | Self::UpstreamStartup { .. }
            | Self::UpstreamReset { .. }
            | Self::UpstreamProtocol { .. }
            | Self::StreamRefused { .. }
            | Self::ResponseBroken { .. }
            | Self::Misdirected
            | Self::Overloaded
            | Self::NoDescriptor
            | Self::AuthenticationBusy
            | Self::Draining => GrpcStatus::Unavailable,
            Self::Fault { grpc, .. } => *grpc,
        }
    }
}

/// nginx's status for a client that left; it appears in logs only.
const CLIENT_CLOSED: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
