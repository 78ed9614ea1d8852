//! The filter key `retry`: when a request is sent once more.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::{GrpcStatus, HeaderName, Limit, canonical};

/// When a request is sent once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// How often at most, after the first attempt.
    pub attempts: u32,
    /// How long one attempt may take up to the head of its response.
    #[serde(serialize_with = "canonical::time_or_off")]
    pub per_try_timeout: Limit<Duration>,
    /// After what.
    pub on: Vec<RetryOn>,
    /// Also after a response that has one of these headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderName>,
    /// How long to wait in between.
    pub back_off: BackOff,
    /// The largest request body that is kept for it.
    #[serde(serialize_with = "canonical::size")]
    pub max_body: usize,
    /// Whether what is not idempotent may be repeated when the endpoint may have acted on it.
    pub non_idempotent: bool,
}

impl Default for Retry {
    /// What no endpoint can have seen.
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: Limit::Off,
            on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream],
            headers: Vec::new(),
            back_off: BackOff::default(),
            max_body: 64 << 10,
            non_idempotent: false,
        }
    }
}

/// How long to wait between attempts: by chance up to a bound that doubles each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BackOff {
    /// The first bound.
    #[serde(serialize_with = "canonical::time")]
    pub base: Duration,
    /// The last one.
    #[serde(serialize_with = "canonical::time")]
    pub max: Duration,
}

impl BackOff {
    /// The last bound where only the first is said.
    pub const FACTOR: u32 = 10;
}

impl Default for BackOff {
    fn default() -> Self {
        let base = Duration::from_millis(25);
        Self {
            base,
            max: base * Self::FACTOR,
        }
    }
}

/// A condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// Any answer of 500 or above, or none.
    ServerError,
    /// 502, 503, 504, or no answer.
    GatewayError,
    /// The connection was lost, or the attempt took too long, before an answer.
    Reset,
    /// As `Reset`, and no byte of the request was sent.
    ResetBeforeRequest,
    /// No connection could be made.
    ConnectFailure,
    /// 409.
    Conflict,
    /// The endpoint refused the request without looking at it (HTTP/2).
    RefusedStream,
    /// A call of gRPC was answered with this.
    Grpc(GrpcStatus),
    /// This very status.
    Status(u16),
}

impl RetryOn {
    /// Statuses of gRPC that may be conditions.
    pub const GRPC: &'static [GrpcStatus] = &[
        GrpcStatus::Cancelled,
        GrpcStatus::DeadlineExceeded,
        GrpcStatus::Internal,
        GrpcStatus::ResourceExhausted,
        GrpcStatus::Unavailable,
    ];

    const NAMED: &'static [(&'static str, Self)] = &[
        ("5xx", Self::ServerError),
        ("gateway-error", Self::GatewayError),
        ("reset", Self::Reset),
        ("reset-before-request", Self::ResetBeforeRequest),
        ("connect-failure", Self::ConnectFailure),
        ("retriable-4xx", Self::Conflict),
        ("refused-stream", Self::RefusedStream),
    ];

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let named = Self::NAMED.iter().map(|(name, _)| *name);
        named.chain(Self::GRPC.iter().map(|status| status.word()))
    }

    /// The condition of this name.
    pub fn named(name: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(known, _)| *known == name);
        let grpc = || Self::GRPC.iter().find(|status| status.word() == name);
        named
            .map(|(_, condition)| *condition)
            .or_else(|| grpc().copied().map(Self::Grpc))
    }

    /// Whether it holds only where no endpoint can have seen the request.
    pub const fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::ConnectFailure | Self::RefusedStream | Self::ResetBeforeRequest
        )
    }

    fn name(self) -> &'static str {
        if let Self::Grpc(status) = self {
            return status.word();
        }
        let mut named = Self::NAMED.iter();
        let found = named.find(|(_, condition)| *condition == self);
        found.map_or("", |(name, _)| *name)
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => serializer.serialize_u16(*status),
            named => serializer.serialize_str(named.name()),
        }
    }
}
