//! The statuses of gRPC.

use serde::{Serialize, Serializer};

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $word:literal, $http:literal;)*) => {
        /// A status of gRPC.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum GrpcStatus {
            $($(#[doc = $doc])+ $variant),*
        }

        impl GrpcStatus {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its number, as it is sent.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code),*
                }
            }

            /// Its name in the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }

            /// The status of HTTP that stands for it.
            #[must_use]
            pub const fn http(self) -> u16 {
                match self {
                    $(Self::$variant => $http),*
                }
            }
        }
    };
}

statuses! {
    /// 0: all is well.
    Ok = "0", "ok", 200;
    /// 1: the caller is gone.
    Cancelled = "1", "cancelled", 499;
    /// 2: nobody knows.
    Unknown = "2", "unknown", 500;
    /// 3: the call makes no sense.
    InvalidArgument = "3", "invalid-argument", 400;
    /// 4: it took too long.
    DeadlineExceeded = "4", "deadline-exceeded", 504;
    /// 5: what was asked for is not there.
    NotFound = "5", "not-found", 404;
    /// 6: what was to be made is there already.
    AlreadyExists = "6", "already-exists", 409;
    /// 7: not for this caller.
    PermissionDenied = "7", "permission-denied", 403;
    /// 8: larger than allowed, or more of it.
    ResourceExhausted = "8", "resource-exhausted", 429;
    /// 9: things are not as the call needs them.
    FailedPrecondition = "9", "failed-precondition", 400;
    /// 10: somebody else was at it.
    Aborted = "10", "aborted", 409;
    /// 11: beyond the end.
    OutOfRange = "11", "out-of-range", 400;
    /// 12: nobody here serves it.
    Unimplemented = "12", "unimplemented", 501;
    /// 13: a broken protocol or a defect.
    Internal = "13", "internal", 500;
    /// 14: nobody can serve it now.
    Unavailable = "14", "unavailable", 503;
    /// 15: what was kept is lost.
    DataLoss = "15", "data-loss", 500;
    /// 16: nobody knows who calls.
    Unauthenticated = "16", "unauthenticated", 401;
}

impl GrpcStatus {
    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|status| status.word() == word).copied()
    }

    /// What stands for a status of HTTP, by gRPC's own table for answers that say no more.
    #[must_use]
    pub const fn of_http(status: u16) -> Self {
        match status {
            200 => Self::Ok,
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl Serialize for GrpcStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
