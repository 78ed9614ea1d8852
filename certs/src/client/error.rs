//! Why there is no TLS with an endpoint, by the part that failed.

use std::{error::Error, io, sync::Arc};

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// Why there is no TLS with an endpoint. Cheap to clone: many may have waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The certificate is somebody else's.
    #[error("its certificate is for {}, not for {expected}", list(presented))]
    Name {
        /// What was asked for.
        expected: String,
        /// What the certificate says.
        presented: Vec<String>,
    },
    /// Nobody who is trusted has issued its certificate.
    #[error("the issuer of its certificate is not trusted")]
    UnknownIssuer,
    /// Its certificate has ended.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate has not begun.
    #[error("its certificate is not valid yet: is the clock right?")]
    NotYetValid,
    /// Its certificate, or what it signed with it, is not acceptable for another reason.
    #[error("its certificate is not acceptable")]
    Certificate(#[source] rustls::Error),
    /// It refused us.
    #[error("it refused with the alert {0:?}")]
    Alert(AlertDescription),
    /// It demands a certificate of ours, or does not take the one it got.
    #[error("it refused our certificate, or the lack of one, with the alert {0:?}")]
    ClientCertificate(AlertDescription),
    /// It chose none of the protocols that it was offered.
    #[error("it speaks none of the protocols that it was offered")]
    NoProtocol,
    /// There is no version that both sides speak.
    #[error("it speaks no version of TLS that is allowed here")]
    Version,
    /// What came was no TLS, or broke its rules.
    #[error("what it said is no TLS")]
    Protocol(#[source] rustls::Error),
    /// The connection ended meanwhile.
    #[error("the connection ended during the handshake")]
    Closed(#[source] Arc<io::Error>),
}

/// The part of TLS that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The name in the endpoint's certificate.
    Name,
    /// Who issued it.
    Issuer,
    /// When it is valid.
    Validity,
    /// Something else about it.
    Certificate,
    /// Our own certificate.
    ClientCertificate,
    /// The protocol inside.
    Alpn,
    /// Everything else.
    Handshake,
}

impl ConnectError {
    /// Which part failed.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self {
            Self::Name { .. } => Part::Name,
            Self::UnknownIssuer => Part::Issuer,
            Self::Expired | Self::NotYetValid => Part::Validity,
            Self::Certificate(_) => Part::Certificate,
            Self::ClientCertificate(_) => Part::ClientCertificate,
            Self::NoProtocol => Part::Alpn,
            Self::Alert(_) | Self::Version | Self::Protocol(_) | Self::Closed(_) => Part::Handshake,
        }
    }

    /// What an endpoint said about TLS after the handshake, if that is why `error` came. In TLS 1.3 it
    /// judges our certificate only then.
    pub fn behind<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<io::Error>() {
                // What it holds is not its source, but that which has the same text.
                Some(error) => error.get_ref().map(|inner| {
                    let inner: &(dyn Error + 'static) = inner;
                    inner
                }),
                None => error.source(),
            };
        }
        None
    }

    /// What the failure of a handshake means.
    pub(super) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|it| it.downcast_ref());
        inner.map_or_else(
            || Self::Closed(Arc::new(io::Error::new(error.kind(), error.to_string()))),
            Self::meant,
        )
    }

    pub(super) fn meant(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => Self::certificate(reason),
            rustls::Error::AlertReceived(alert) => Self::alert(*alert),
            rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            rustls::Error::NoCertificatesPresented => Self::Certificate(error.clone()),
            other => Self::Protocol(other.clone()),
        }
    }

    fn alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::NoApplicationProtocol => Self::NoProtocol,
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::ClientCertificate(alert),
            other => Self::Alert(other),
        }
    }

    fn certificate(reason: &CertificateError) -> Self {
        match reason {
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::Name {
                expected: expected.to_str().into_owned(),
                presented: presented.clone(),
            },
            // The latter comes of a trusted issuer that was made anew under its old name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            other => Self::Certificate(rustls::Error::InvalidCertificate(other.clone())),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}
