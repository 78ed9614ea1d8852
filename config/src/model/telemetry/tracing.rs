//! `[tracing]`: where spans of requests go, and which there are.

use serde::{Serialize, Serializer};

use crate::model::{HeaderName, Secret, canonical};

/// What the configuration says about traces; the environment may say the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tracing {
    /// The receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    /// The share of traces that begin here and are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Share>,
    /// The name of this gateway in traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
}

/// A receiver of spans.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Otlp {
    /// Its URL, with the scheme http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How it is spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<OtlpProtocol>,
    /// Headers of every export.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub headers: Vec<(HeaderName, Secret)>,
}

/// Why a URL cannot be that of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverUrlError {
    /// Another scheme, or none.
    #[error("{0:?} does not begin with http:// or https://")]
    Scheme(String),
    /// No host, or a character that no URL has.
    #[error("{0:?} is no URL of a receiver")]
    Url(String),
    /// A port that cannot be.
    #[error("{port:?} in {url:?} is no port")]
    Port {
        /// The port.
        port: String,
        /// Where it stands.
        url: String,
    },
}

impl Otlp {
    /// Whether this can be the URL of a receiver, wherever it is written.
    pub fn check_url(url: &str) -> Result<(), ReceiverUrlError> {
        let rest = url.strip_prefix("http://");
        let rest = rest.or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| ReceiverUrlError::Scheme(url.to_owned()))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let strange =
            |c: char| !c.is_ascii_graphic() || matches!(c, '@' | '"' | '<' | '>' | '\\' | '^');
        if authority.is_empty() || rest.contains(strange) {
            return Err(ReceiverUrlError::Url(url.to_owned()));
        }
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        match port.filter(|port| !port.ends_with(']')) {
            Some(port) if port.parse::<u16>().is_err() => Err(ReceiverUrlError::Port {
                port: port.to_owned(),
                url: url.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// How a receiver of spans is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// POST requests with protobuf.
    #[serde(rename = "http/protobuf")]
    Http,
}

impl OtlpProtocol {
    /// The protocol of that name.
    pub fn new(name: &str) -> Option<Self> {
        match name {
            "grpc" => Some(Self::Grpc),
            "http/protobuf" => Some(Self::Http),
            _ => None,
        }
    }
}

/// Whether requests are traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The share of traces that begin here and are recorded.
    pub sample: Share,
}

/// A number from 0 to 1, kept in millionths, so that it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// All.
    pub const ALL: Self = Self(1_000_000);
    /// None.
    pub const NONE: Self = Self(0);

    /// None when it is beyond 0 to 1.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0)
            .contains(&share)
            .then(|| Self((share * 1_000_000.0).round() as u32))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1_000_000.0)
    }
}
