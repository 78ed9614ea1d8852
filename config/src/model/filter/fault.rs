//! The filter key `fault`: failures on purpose.

use std::time::Duration;

use serde::Serialize;

use crate::model::{GrpcStatus, HeaderName, Percent, canonical};

/// Failures on purpose, to see whether clients bear them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fault {
    /// Some requests are held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Some requests are answered instead of sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
    /// Only those with this header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
}

/// Which requests are held back, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FaultDelay {
    /// So many of them, by chance.
    pub percent: Percent,
    /// For that long.
    #[serde(serialize_with = "canonical::time")]
    pub duration: Duration,
}

/// Which requests are answered, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FaultAbort {
    /// So many of them, by chance.
    pub percent: Percent,
    /// With that.
    #[serde(flatten)]
    pub with: FaultStatus,
}

/// What a request is answered with; the other protocol is told what stands for it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultStatus {
    /// A status of HTTP, 200 to 599.
    Status(u16),
    /// A status of gRPC.
    Grpc(GrpcStatus),
}

impl FaultStatus {
    /// What HTTP is told.
    pub fn http(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Grpc(status) => status.http(),
        }
    }

    /// What gRPC is told.
    pub fn grpc(self) -> GrpcStatus {
        match self {
            Self::Status(status) => GrpcStatus::of_http(status),
            Self::Grpc(status) => status,
        }
    }
}
