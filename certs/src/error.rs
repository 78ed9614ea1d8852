//! Why a handshake came to nothing.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::acme::Denied;

/// Why a handshake came to nothing. [`Self::reason`] is its stable word.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The client asked for a name that no certificate is for, or for none where there is no default.
    #[error("there is no certificate for {}", .0.as_deref().unwrap_or("a client that names no host"))]
    UnrecognizedName(Option<Box<str>>),
    /// The client asked for a name that no certificate is for, and that cannot have one now.
    #[error("there is no certificate for {0}, and none is ordered")]
    NotIssued(Box<str>, #[source] Denied),
    /// None of the protocols that the client offers is spoken here.
    #[error("the client offers no protocol that is spoken here")]
    NoApplicationProtocol,
    /// The client speaks only versions that are not allowed.
    #[error("the client speaks no version that is allowed")]
    ProtocolVersion,
    /// Both sides have no cipher, group or signature in common.
    #[error("there is nothing in common with the client")]
    NothingInCommon(#[source] Error),
    /// The client showed no certificate where it has to.
    #[error("the client showed no certificate")]
    CertificateRequired,
    /// The client's certificate is not valid now.
    #[error("the client's certificate is not valid now")]
    CertificateExpired,
    /// The client's certificate was revoked.
    #[error("the client's certificate was revoked")]
    CertificateRevoked,
    /// Nobody said whether the client's certificate was revoked, or what they said is out of date.
    #[error("nobody vouches that the client's certificate was not revoked")]
    CertificateStatus,
    /// The client's certificate is signed by nobody known.
    #[error("the client's certificate is signed by nobody known")]
    CertificateAuthority,
    /// The client's certificate has none of the names or keys that are asked for.
    #[error("the client's certificate is not one of those that are asked for")]
    CertificateNotNamed,
    /// The client's certificate is broken.
    #[error("the client's certificate cannot be used")]
    CertificateInvalid(#[source] Error),
    /// The client broke off and said why.
    #[error("the client broke off: {0:?}")]
    Alert(AlertDescription),
    /// The client spoke HTTP without TLS.
    #[error("the client speaks HTTP without TLS")]
    PlainHttp,
    /// The client spoke something else.
    #[error("the client does not speak TLS")]
    NotTls,
    /// The client broke the rules of TLS.
    #[error("the client breaks the rules of TLS")]
    Malformed(#[source] Error),
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Timeout,
    /// The client closed the connection before the handshake was complete.
    #[error("the client closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl AcceptError {
    /// The stable word for it in metrics and logs. No wildcard arm: a new variant must choose.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnrecognizedName(_) => "unrecognized_name",
            Self::NotIssued(..) => "not_issued",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::ProtocolVersion => "protocol_version",
            Self::NothingInCommon(_) => "nothing_in_common",
            Self::CertificateRequired => "certificate_required",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateStatus => "certificate_status",
            Self::CertificateAuthority => "certificate_authority",
            Self::CertificateNotNamed => "certificate_not_named",
            Self::CertificateInvalid(_) => "certificate_invalid",
            Self::Alert(_) => "alert",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Malformed(_) => "malformed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Io(_) => "io",
        }
    }
}

impl From<Error> for AcceptError {
    fn from(error: Error) -> Self {
        use PeerIncompatible as Peer;
        match error {
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::NoCertificatesPresented => Self::CertificateRequired,
            Error::AlertReceived(alert) => Self::Alert(alert),
            Error::InvalidCertificate(found) => found.into(),
            Error::PeerIncompatible(
                Peer::SupportedVersionsExtensionRequired
                // What every client of TLS 1.2 sends, and older ones do not know.
                | Peer::SignatureAlgorithmsExtensionRequired
                | Peer::Tls12NotOffered
                | Peer::Tls12NotOfferedOrEnabled
                | Peer::Tls13RequiredForQuic
                | Peer::ServerDoesNotSupportTls12Or13,
            ) => Self::ProtocolVersion,
            error @ Error::PeerIncompatible(_) => Self::NothingInCommon(error),
            error => Self::Malformed(error),
        }
    }
}

impl From<CertificateError> for AcceptError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::CertificateStatus,
            CertificateError::UnknownIssuer => Self::CertificateAuthority,
            CertificateError::ApplicationVerificationFailure => Self::CertificateNotNamed,
            error => Self::CertificateInvalid(Error::InvalidCertificate(error)),
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some::<&Error>(tls) = inner {
            return tls.clone().into();
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
