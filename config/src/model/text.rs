//! Texts with variables: `"{client.ip}"`, captures `"{1}"`, literal `"{{"`.

use std::fmt;

use serde::{Serialize, Serializer};

use super::HeaderName;

/// A text with holes, filled per request. Never empty of meaning: an empty text has no parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// In order.
    pub parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// Filled from the request.
    Variable(Variable),
    /// A capture group of the regular expression that applies, 1 to 9.
    Capture(usize),
}

/// What a template can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `client.ip`: the client's address after `trusted_proxies`.
    ClientIp,
    /// `client.port`: the port of the connected peer.
    ClientPort,
    /// `client.certificate.…`: of the certificate that the client showed; empty without one.
    ClientCertificate(CertificatePart),
    /// `tls.…`: of the client's connection; empty without TLS.
    Tls(TlsPart),
    /// `request.id`
    RequestId,
    /// `request.method`
    RequestMethod,
    /// `request.scheme`: as the client sees it.
    RequestScheme,
    /// `request.host`: without the port.
    RequestHost,
    /// `request.path`: normalised, before rewriting.
    RequestPath,
    /// `request.query`: without `?`; empty when there is none.
    RequestQuery,
    /// `request.header.NAME`: the joined value; empty when there is none.
    RequestHeader(HeaderName),
    /// `listener`: its name.
    Listener,
    /// `route`: its name.
    Route,
    /// `rule`: its name.
    Rule,
    /// `upstream`: its name; empty before one is chosen.
    Upstream,
}

/// What of a client's certificate a template can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatePart {
    /// `subject`: the distinguished name (RFC 4514).
    Subject,
    /// `issuer`: that of whoever signed it.
    Issuer,
    /// `san`: its first URI, else its first host.
    San,
    /// `serial`: in hexadecimal.
    Serial,
    /// `fingerprint`: the SHA-256 in hexadecimal.
    Fingerprint,
}

/// What of a client's TLS a template can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPart {
    /// `version`: `TLSv1.3`.
    Version,
    /// `cipher`: the suite by its registered name.
    Cipher,
    /// `sni`: the host that the client asked for.
    Sni,
}

impl Template {
    /// A text without holes.
    pub fn literal(text: &str) -> Self {
        match text {
            "" => Self::default(),
            text => Self {
                parts: vec![Part::Text(text.to_owned())],
            },
        }
    }

    /// The text, when it has no holes.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The highest capture it refers to; 0 when none.
    pub fn highest_capture(&self) -> usize {
        let captures = self.parts.iter().map(|part| match part {
            Part::Capture(number) => *number,
            Part::Text(_) | Part::Variable(_) => 0,
        });
        captures.max().unwrap_or(0)
    }
}

/// The text as one would write it: `{{` for a brace, `{name}` for a hole.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{"))?,
                Part::Variable(variable) => write!(f, "{{{variable}}}")?,
                Part::Capture(number) => write!(f, "{{{number}}}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientIp => "client.ip",
            Self::ClientPort => "client.port",
            Self::ClientCertificate(CertificatePart::Subject) => "client.certificate.subject",
            Self::ClientCertificate(CertificatePart::Issuer) => "client.certificate.issuer",
            Self::ClientCertificate(CertificatePart::San) => "client.certificate.san",
            Self::ClientCertificate(CertificatePart::Serial) => "client.certificate.serial",
            Self::ClientCertificate(CertificatePart::Fingerprint) => {
                "client.certificate.fingerprint"
            }
            Self::Tls(TlsPart::Version) => "tls.version",
            Self::Tls(TlsPart::Cipher) => "tls.cipher",
            Self::Tls(TlsPart::Sni) => "tls.sni",
            Self::RequestId => "request.id",
            Self::RequestMethod => "request.method",
            Self::RequestScheme => "request.scheme",
            Self::RequestHost => "request.host",
            Self::RequestPath => "request.path",
            Self::RequestQuery => "request.query",
            Self::RequestHeader(name) => return write!(f, "request.header.{}", name.as_str()),
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Upstream => "upstream",
        })
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
