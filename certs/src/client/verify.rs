//! Whether a certificate is the endpoint's.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::Roots;

/// A name that a certificate has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct San {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A host or an address.
    Name(ServerName<'static>),
    /// Any host that ends like this, the dot included.
    Below(String),
    /// A URI.
    Uri(String),
    /// Any URI that begins like this.
    UriBelow(String),
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither a host, nor an address, nor a URI")]
pub struct SanError;

impl San {
    /// A host, `*.` and a host for any below it, an address, a URI, or a URI that ends with `*` for any
    /// that begins like it.
    pub fn new(text: &str) -> Result<Self, SanError> {
        let kind = if text.contains("://") {
            match text.strip_suffix('*') {
                Some(start) => Kind::UriBelow(start.to_owned()),
                None => Kind::Uri(text.to_owned()),
            }
        } else {
            let lower = text.to_ascii_lowercase();
            let bare = lower.strip_prefix("*.").unwrap_or(&lower);
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| SanError)?;
            match (lower.strip_prefix('*'), name) {
                (None, name) => Kind::Name(name),
                (Some(below), ServerName::DnsName(_)) => Kind::Below(below.to_owned()),
                (Some(_), _) => return Err(SanError),
            }
        };
        let text = text.to_owned();
        Ok(Self { text, kind })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn is_in(&self, certificate: &ParsedCertificate<'_>, names: &[Presented<'_>]) -> bool {
        match &self.kind {
            Kind::Name(name) => verify_server_name(certificate, name).is_ok(),
            Kind::Below(end) => names.iter().any(|name| {
                // A wildcard in the certificate covers hosts below, too.
                matches!(name, Presented::Host(host) if ends_with(host, end))
            }),
            Kind::Uri(wanted) => {
                let wanted = wanted.as_str();
                names
                    .iter()
                    .any(|name| matches!(name, Presented::Uri(uri) if *uri == wanted))
            }
            Kind::UriBelow(start) => names
                .iter()
                .any(|name| matches!(name, Presented::Uri(uri) if begins_with(uri, start))),
        }
    }
}

fn ends_with(host: &str, end: &str) -> bool {
    let at = host.len().checked_sub(end.len()).filter(|&at| at > 0);
    at.and_then(|at| host.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

fn begins_with(uri: &str, start: &str) -> bool {
    uri.len() > start.len() && uri.starts_with(start)
}

/// A name in a certificate.
enum Presented<'c> {
    Host(&'c str),
    Uri(&'c str),
}

impl Presented<'_> {
    fn text(&self) -> String {
        match self {
            Self::Host(text) | Self::Uri(text) => (*text).to_owned(),
        }
    }
}

/// Verifies the certificates of endpoints.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Nobody: everybody is believed.
    trust: Option<Roots>,
    names: Vec<San>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(provider: &CryptoProvider, trust: Option<Roots>, names: Vec<San>) -> Self {
        Self {
            trust,
            names,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Whether the certificate has a name that was asked for.
    fn names_fit(
        &self,
        leaf: &CertificateDer<'_>,
        certificate: &ParsedCertificate<'_>,
        asked: &ServerName<'_>,
    ) -> Result<(), Error> {
        let Some(first) = self.names.first() else {
            return verify_server_name(certificate, asked);
        };
        let malformed = || Error::from(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| malformed())?;
        let extension = parsed.subject_alternative_name().map_err(|_| malformed())?;
        let general = extension.iter().flat_map(|it| &it.value.general_names);
        let names: Vec<_> = general
            .filter_map(|name| match name {
                GeneralName::DNSName(host) => Some(Presented::Host(host)),
                GeneralName::URI(uri) => Some(Presented::Uri(uri)),
                _ => None,
            })
            .collect();
        if self
            .names
            .iter()
            .any(|name| name.is_in(certificate, &names))
        {
            return Ok(());
        }
        // The error has no room for a URI: what was asked of the endpoint stands for it.
        let expected = match &first.kind {
            Kind::Name(name) => name.clone(),
            Kind::Below(_) | Kind::Uri(_) | Kind::UriBelow(_) => asked.to_owned(),
        };
        Err(Error::from(CertificateError::NotValidForNameContext {
            expected,
            presented: names.iter().map(Presented::text).collect(),
        }))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &trust.at(now),
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.names_fit(leaf, &certificate, asked)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
