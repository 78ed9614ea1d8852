//! `[access_log]`: one line per request.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    model::canonical,
    unit::{duration, duration_text},
};

/// Where access log lines go, which there are, and what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessLog {
    /// The sink.
    pub output: AccessLogOutput,
    /// How a line is written.
    pub format: LogFormat,
    /// Which requests have one.
    #[serde(skip_serializing_if = "LogFilter::is_empty")]
    pub filter: LogFilter,
    /// What is left out or hidden.
    #[serde(skip_serializing_if = "LogFields::is_empty")]
    pub fields: LogFields,
    /// Lines that may wait for the sink, per process; further ones are dropped and counted.
    pub queue: usize,
}

/// The sink of the access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogOutput {
    /// None.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// How a line is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFormat {
    /// A JSON object.
    Json,
    /// NCSA's common format.
    Common,
    /// The same with referer and user agent.
    Combined,
    /// The operator's own.
    Parts(Vec<LogPart>),
}

/// A piece of the operator's own format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    /// As it is.
    Text(String),
    /// The value of a field.
    Field(LogField),
}

/// Which requests have a line: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LogFilter {
    /// One of these is its status; none: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusClass>,
    /// It took at least this long.
    #[serde(
        skip_serializing_if = "Duration::is_zero",
        serialize_with = "canonical::time"
    )]
    pub min_duration: Duration,
}

/// A status, or a hundred of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// 100 to 599.
    One(u16),
    /// 1 to 5: the first digit.
    Class(u16),
}

/// What is left out or hidden. No field is in both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LogFields {
    /// Left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<LogField>,
    /// Hidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<LogField>,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What a line can tell. The names are part of the language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogField {
            $($(#[$doc])* $variant),*
        }

        impl LogField {
            /// Every field, in the order of a JSON line.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

fields! {
    /// When the request's head had arrived: RFC 3339, UTC, milliseconds.
    Time = "time",
    /// The listener it came in by.
    Listener = "listener",
    /// The client's address, as trusted proxies tell it.
    Client = "client",
    /// The connected peer.
    Peer = "peer",
    /// The id of its connection, unique in the process.
    Connection = "connection",
    /// `http` or `https`, as the client sees it.
    Scheme = "scheme",
    /// The method.
    Method = "method",
    /// The host without its port, normalised.
    Host = "host",
    /// The path, normalised, before rewriting, without the query.
    Path = "path",
    /// The protocol of the request.
    Protocol = "protocol",
    /// What the client was told.
    Status = "status",
    /// Why the gateway answered or broke off.
    Verdict = "verdict",
    /// The alias of the verdict: a response flag.
    Flags = "flags",
    /// Bytes of the request body.
    BytesIn = "bytes_in",
    /// Bytes of the response body.
    BytesOut = "bytes_out",
    /// From the request's head to the end of the response's body.
    Duration = "duration_ms",
    /// How long the last attempt waited for its new connection.
    Connect = "connect_ms",
    /// From the request's head to the head of the upstream's response.
    FirstByte = "first_byte_ms",
    /// From the beginning of the last attempt to its failure.
    Failed = "failed_ms",
    /// The route.
    Route = "route",
    /// The rule of it.
    Rule = "rule",
    /// The upstream.
    Upstream = "upstream",
    /// The endpoint of the last attempt.
    Endpoint = "endpoint",
    /// How often it was sent.
    Attempts = "attempts",
    /// Whether the last attempt took a connection that had served before.
    Reused = "reused",
    /// Why the last attempt, which failed, was not repeated.
    Retry = "retry",
    /// `X-Request-Id`
    RequestId = "request_id",
    /// That of the trace it belongs to.
    TraceId = "trace_id",
    /// `User-Agent`
    UserAgent = "user_agent",
    /// `Referer` without its query.
    Referer = "referer",
    /// The version of the configuration it was served under.
    Version = "version",
    /// The version of TLS.
    TlsVersion = "tls_version",
    /// The cipher suite.
    TlsCipher = "tls_cipher",
    /// The host that the client asked for in its handshake.
    Sni = "sni",
    /// What was agreed to be spoken inside TLS.
    Alpn = "alpn",
    /// Who the client is by its certificate: its first URI or host, else its subject.
    ClientCertificate = "client_certificate",
    /// Datagrams from the client; only a session of datagrams has this and the next.
    DatagramsIn = "datagrams_in",
    /// Datagrams from the endpoint.
    DatagramsOut = "datagrams_out",
    /// The port that was asked for; only what wants outside has this and the next.
    Port = "port",
    /// The user whose password was verified.
    User = "user",
    /// The rule of `[egress.allow]`.
    Egress = "egress",
    /// What was missing in it.
    EgressReason = "egress_reason",
    /// Whether it was refused in the log only.
    Shadow = "shadow",
    /// How long `fault` of its rule held it back.
    Delayed = "delayed_ms",
}

impl LogField {
    /// Whether a JSON line without a value has no such key. They are the last ones.
    pub const fn is_optional(self) -> bool {
        matches!(
            self,
            Self::DatagramsIn
                | Self::DatagramsOut
                | Self::Port
                | Self::User
                | Self::Egress
                | Self::EgressReason
                | Self::Shadow
                | Self::Delayed
        )
    }

    /// The field of that name.
    pub fn new(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|field| field.name() == name)
    }
}

impl AccessLog {
    /// About 4 MiB of ordinary lines.
    pub const QUEUE: usize = 8192;
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            output: AccessLogOutput::Stdout,
            format: LogFormat::Json,
            filter: LogFilter::default(),
            fields: LogFields::default(),
            queue: Self::QUEUE,
        }
    }
}

impl StatusClass {
    /// `404`, or `4xx`.
    pub fn new(text: &str) -> Option<Self> {
        if let Some(digit) = text.strip_suffix("xx") {
            let digit = digit.parse().ok()?;
            (1..=5).contains(&digit).then_some(Self::Class(digit))
        } else {
            let status = text.parse().ok()?;
            (100..=599).contains(&status).then_some(Self::One(status))
        }
    }
}

impl LogFilter {
    /// The largest `min_duration`.
    pub const LONGEST: Duration = Duration::from_hours(24);

    /// The filter that an operator writes on a command line: `all`, or statuses, classes of them and
    /// one duration with commas between them.
    pub fn new(text: &str) -> Option<Self> {
        let mut filter = Self::default();
        if text == "all" {
            return Some(filter);
        }
        for word in text.split(',').map(str::trim) {
            if let Some(class) = StatusClass::new(word) {
                filter.status.push(class);
                continue;
            }
            let least = duration(word).filter(|least| *least <= Self::LONGEST)?;
            if !std::mem::replace(&mut filter.min_duration, least).is_zero() {
                return None;
            }
        }
        Some(filter)
    }

    /// Whether every request has a line.
    pub fn is_empty(&self) -> bool {
        self.status.is_empty() && self.min_duration.is_zero()
    }

    /// Whether a request that ended like this has a line.
    pub fn admits(&self, status: u16, duration: Duration) -> bool {
        let of = |class: &StatusClass| match class {
            StatusClass::One(one) => *one == status,
            StatusClass::Class(digit) => status / 100 == *digit,
        };
        duration >= self.min_duration && (self.status.is_empty() || self.status.iter().any(of))
    }
}

impl LogFields {
    /// Whether every field stands as it is.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.redact.is_empty()
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = match self {
            Self::Json => return f.write_str("json"),
            Self::Common => return f.write_str("common"),
            Self::Combined => return f.write_str("combined"),
            Self::Parts(parts) => parts,
        };
        for part in parts {
            match part {
                LogPart::Text(text) => f.write_str(&text.replace('{', "{{"))?,
                LogPart::Field(field) => write!(f, "{{{}}}", field.name())?,
            }
        }
        Ok(())
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for LogField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for StatusClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(status) => serializer.serialize_u16(*status),
            Self::Class(_) => serializer.collect_str(self),
        }
    }
}

impl fmt::Display for StatusClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => status.fmt(f),
            Self::Class(digit) => write!(f, "{digit}xx"),
        }
    }
}

/// As [`LogFilter::new`] reads it.
impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<_> = self.status.iter().map(ToString::to_string).collect();
        if !self.min_duration.is_zero() {
            words.push(duration_text(self.min_duration));
        }
        if words.is_empty() {
            words.push("all".to_owned());
        }
        f.write_str(&words.join(","))
    }
}
