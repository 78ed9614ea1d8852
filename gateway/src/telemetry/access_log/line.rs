//! What one line says.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sluice_config::model::LogField;
use time::OffsetDateTime;

use crate::downstream::Downstream;

/// What one line says. Absent facts are `null` in JSON, so that every line has the same keys but those of
/// datagrams.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// When the request's head had arrived: RFC 3339, UTC, milliseconds.
    pub time: OffsetDateTime,
    /// The listener it came in by.
    pub listener: &'a str,
    /// The client's address, as trusted proxies tell it.
    pub client: IpAddr,
    /// The connected peer.
    pub peer: SocketAddr,
    /// The id of its connection, unique in this process.
    pub connection: u64,
    /// `http` or `https`, as the client sees it; `tcp`, `tls` or `udp` for raw streams.
    pub scheme: Option<&'a str>,
    /// The method; none when the head could not be read.
    pub method: Option<&'a str>,
    /// The host without its port, normalised.
    pub host: Option<&'a str>,
    /// The path, normalised, before rewriting. The query is never logged: it carries secrets.
    pub path: Option<&'a str>,
    /// `HTTP/1.0` or `HTTP/1.1`
    pub protocol: Option<&'static str>,
    /// What the client was told; 499 when it left before that.
    pub status: u16,
    /// Why the gateway answered or broke off; null when the upstream's answer went out whole.
    pub verdict: Option<&'static str>,
    /// The alias of the verdict.
    pub flags: Option<&'static str>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the end of the request's head to the end of the response's body.
    pub duration: Duration,
    /// How long the last attempt waited for a new connection.
    pub connect: Option<Duration>,
    /// From the end of the request's head to the head of the upstream's response.
    pub first_byte: Option<Duration>,
    /// From the beginning of the last attempt to its failure.
    pub failed: Option<Duration>,
    /// The route.
    pub route: Option<&'a str>,
    /// The rule of it.
    pub rule: Option<&'a str>,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether the last attempt took a connection that had served before.
    pub reused: bool,
    /// Why the last attempt, which failed, was not repeated.
    pub retry: Option<&'static str>,
    /// `X-Request-Id`
    pub request_id: Option<&'a str>,
    /// That of the trace it belongs to.
    pub trace_id: Option<&'a str>,
    /// `User-Agent`, with what is no UTF-8 replaced.
    pub user_agent: Option<Cow<'a, str>>,
    /// `Referer` without its query, with what is no UTF-8 replaced.
    pub referer: Option<Cow<'a, str>>,
    /// The version of the configuration it was served under.
    pub version: Option<&'a str>,
    /// The version of TLS.
    pub tls_version: Option<&'a str>,
    /// The cipher suite.
    pub tls_cipher: Option<&'a str>,
    /// The host that the client asked for in its handshake.
    pub sni: Option<&'a str>,
    /// What was agreed to be spoken inside.
    pub alpn: Option<Cow<'a, str>>,
    /// Who the client is by its certificate: its first URI or host, else its subject.
    pub client_certificate: Option<&'a str>,
    /// Datagrams from the client and from the endpoint, where that is what was carried.
    pub datagrams: Option<(u64, u64)>,
    /// How long `fault` of its rule held it back.
    pub delayed: Option<Duration>,
    /// Of what wanted outside: where to, for whom, and by which rule.
    pub egress: Option<EgressFacts<'a>>,
}

/// What is told of whoever wanted outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct EgressFacts<'a> {
    /// The port that was asked for.
    pub port: Option<u16>,
    /// The user whose password was verified.
    pub user: Option<&'a str>,
    /// The rule of `[egress.allow]`.
    pub rule: Option<&'a str>,
    /// What was missing in it.
    pub reason: Option<&'static str>,
    /// It was refused in the log only.
    pub shadow: bool,
}

/// The same of a stream that nobody asked for a user, to be kept until it ends.
#[derive(Debug, Clone, Default)]
pub struct EgressNote {
    /// The port that it is for.
    pub port: Option<u16>,
    /// The rule of `[egress.allow]`.
    pub rule: Option<Box<str>>,
    /// What was missing in it.
    pub reason: Option<&'static str>,
    /// It was refused in the log only.
    pub shadow: bool,
}

impl EgressNote {
    /// As lines have it.
    pub fn facts(&self) -> EgressFacts<'_> {
        EgressFacts {
            port: self.port,
            user: None,
            rule: self.rule.as_deref(),
            reason: self.reason,
            shadow: self.shadow,
        }
    }
}

/// What a field says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Nothing,
    Text(&'a str),
    Number(u64),
    Truth(bool),
    Address(IpAddr),
    Socket(SocketAddr),
    Moment(OffsetDateTime),
    Time(Duration),
}

impl<'a> Line<'a> {
    /// What is known of everybody who comes in, however little of a request arrives.
    pub fn blank(time: OffsetDateTime, downstream: &'a Downstream) -> Self {
        let connection = &*downstream.connection;
        let session = connection.tls.as_ref();
        let peer = session.and_then(|session| session.peer.as_ref());
        Self {
            time,
            listener: connection.listener.as_str(),
            client: downstream.client,
            peer: connection.peer,
            connection: connection.id,
            scheme: None,
            method: None,
            host: None,
            path: None,
            protocol: None,
            status: 0,
            verdict: None,
            flags: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            connect: None,
            first_byte: None,
            failed: None,
            route: None,
            rule: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            reused: false,
            retry: None,
            request_id: None,
            trace_id: None,
            user_agent: None,
            referer: None,
            version: None,
            tls_version: session.map(|session| session.version),
            tls_cipher: session.map(|session| session.cipher),
            sni: session.and_then(|session| session.sni.as_deref()),
            alpn: session
                .and_then(|session| session.protocol.as_deref())
                .map(String::from_utf8_lossy),
            client_certificate: peer
                .map(|peer| peer.name().unwrap_or_else(|| &peer.facts().subject)),
            datagrams: None,
            delayed: None,
            egress: None,
        }
    }
}

impl Line<'_> {
    pub(super) fn value(&self, field: LogField) -> Value<'_> {
        let text = |text: Option<&'static str>| text.map_or(Value::Nothing, Value::Text);
        match field {
            LogField::Time => Value::Moment(self.time),
            LogField::Listener => Value::Text(self.listener),
            LogField::Client => Value::Address(self.client),
            LogField::Peer => Value::Socket(self.peer),
            LogField::Connection => Value::Number(self.connection),
            LogField::Scheme => Value::text(self.scheme),
            LogField::Method => Value::text(self.method),
            LogField::Host => Value::text(self.host),
            LogField::Path => Value::text(self.path),
            LogField::Protocol => text(self.protocol),
            LogField::Status => Value::Number(u64::from(self.status)),
            LogField::Verdict => text(self.verdict),
            LogField::Flags => text(self.flags),
            LogField::BytesIn => Value::Number(self.bytes_in),
            LogField::BytesOut => Value::Number(self.bytes_out),
            LogField::Duration => Value::Time(self.duration),
            LogField::Connect => Value::time(self.connect),
            LogField::FirstByte => Value::time(self.first_byte),
            LogField::Failed => Value::time(self.failed),
            LogField::Route => Value::text(self.route),
            LogField::Rule => Value::text(self.rule),
            LogField::Upstream => Value::text(self.upstream),
            LogField::Endpoint => Value::text(self.endpoint),
            LogField::Attempts => Value::Number(u64::from(self.attempts)),
            LogField::Reused => Value::Truth(self.reused),
            LogField::Retry => text(self.retry),
            LogField::RequestId => Value::text(self.request_id),
            LogField::TraceId => Value::text(self.trace_id),
            LogField::UserAgent => Value::text(self.user_agent.as_deref()),
            LogField::Referer => Value::text(self.referer.as_deref()),
            LogField::Version => Value::text(self.version),
            LogField::TlsVersion => Value::text(self.tls_version),
            LogField::TlsCipher => Value::text(self.tls_cipher),
            LogField::Sni => Value::text(self.sni),
            LogField::Alpn => Value::text(self.alpn.as_deref()),
            LogField::ClientCertificate => Value::text(self.client_certificate),
            LogField::DatagramsIn => Value::number(self.datagrams.map(|(inward, _)| inward)),
            LogField::DatagramsOut => Value::number(self.datagrams.map(|(_, outward)| outward)),
            LogField::Port => Value::number(self.egress.and_then(|it| it.port).map(u64::from)),
            LogField::User => Value::text(self.egress.and_then(|it| it.user)),
            LogField::Egress => Value::text(self.egress.and_then(|it| it.rule)),
            LogField::EgressReason => text(self.egress.and_then(|it| it.reason)),
            LogField::Shadow => match self.egress {
                Some(EgressFacts { shadow: true, .. }) => Value::Truth(true),
                Some(_) | None => Value::Nothing,
            },
            LogField::Delayed => Value::time(self.delayed),
        }
    }
}

impl<'a> Value<'a> {
    fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Nothing, Self::Text)
    }

    fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Nothing, Self::Number)
    }

    fn time(time: Option<Duration>) -> Self {
        time.map_or(Self::Nothing, Self::Time)
    }

    /// The same, hidden: whether there is something stays visible.
    pub(super) fn hidden(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            _ => Self::Text("redacted"),
        }
    }
}
