//! `health_check`: how endpoints are asked whether they are well.

use std::{ops::RangeInclusive, time::Duration};

use serde::Serialize;

use crate::model::{Method, canonical};

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(flatten)]
    pub question: Question,
    /// From the beginning of one check to that of the next.
    #[serde(serialize_with = "canonical::time")]
    pub interval: Duration,
    /// How long a check may take.
    #[serde(serialize_with = "canonical::time")]
    pub timeout: Duration,
    /// By how many percent an interval may be longer or shorter.
    pub jitter: u32,
    /// How many checks in a row have to pass before an unhealthy endpoint is healthy.
    pub healthy: u32,
    /// How many checks in a row have to fail before a healthy endpoint is unhealthy.
    pub unhealthy: u32,
    /// The port that is asked instead of the endpoint's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl HealthCheck {
    /// Often enough that a dead endpoint is known within a minute, seldom enough to cost nothing.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// Who takes longer to say that all is well is not.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// Parts the gateways of a site within a few rounds.
    pub const JITTER: u32 = 10;
    /// One good answer may be luck.
    pub const HEALTHY: u32 = 2;
    /// Two lost answers may be, too.
    pub const UNHEALTHY: u32 = 3;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// By a request.
    Http(HttpCheck),
    /// By a connection.
    Tcp(TcpCheck),
    /// By a call of `grpc.health.v1.Health/Check`.
    Grpc(GrpcCheck),
}

/// A check by a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// Begins with a slash.
    pub path: String,
    /// The method.
    pub method: Method,
    /// The host that is asked for, instead of the endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The statuses that will do.
    #[serde(serialize_with = "canonical::ports")]
    pub expected: Vec<RangeInclusive<u16>>,
    /// A text that has to be in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl HttpCheck {
    /// Every success.
    pub const EXPECTED: RangeInclusive<u16> = 200..=299;
}

/// A check by a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TcpCheck {
    /// A text to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// A text that has to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// A check by a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GrpcCheck {
    /// The service that is asked about; empty for the whole server.
    pub service: String,
    /// The host that is asked for, instead of the endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
