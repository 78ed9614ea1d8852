//! The statuses of gRPC.

/// The statuses of gRPC that the gateway gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcStatus {
    /// 1: the caller is gone.
    Cancelled,
    /// 4: it took too long.
    DeadlineExceeded,
    /// 7: not for this caller.
    PermissionDenied,
    /// 8: larger than allowed, or more of it.
    ResourceExhausted,
    /// 12: nobody here serves it.
    Unimplemented,
    /// 13: a broken protocol or a defect.
    Internal,
    /// 14: nobody can serve it now.
    Unavailable,
    /// 16: nobody knows who calls.
    Unauthenticated,
}

impl GrpcStatus {
    /// Its number, as it is sent.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Cancelled => "1",
            Self::DeadlineExceeded => "4",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
            Self::Unauthenticated => "16",
        }
    }
}
