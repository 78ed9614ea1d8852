//! The trace of one request, in the words of OpenTelemetry's semantic conventions for HTTP.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::SystemTime};

use http::HeaderMap;
use opentelemetry::{
    KeyValue, SpanId, TraceId,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sluice_config::model::Share;

use super::{
    Kit,
    context::{self, Parent},
    new_span, new_trace,
    propagation::Caller,
};
use crate::telemetry::access_log::Line;

/// The trace of one request.
#[derive(Debug)]
pub struct Trace {
    kit: Arc<Kit>,
    id: TraceId,
    /// `id` in digits, for the log.
    text: Box<str>,
    caller: Caller,
    /// None: nobody has decided yet.
    recorded: Option<bool>,
    span: SpanId,
    started: SystemTime,
    attempt: Option<Attempt>,
}

/// An attempt under way.
#[derive(Debug)]
struct Attempt {
    span: SpanId,
    started: SystemTime,
    status: Option<u16>,
    error: Option<&'static str>,
}

/// What an attempt was, now that it is over.
#[derive(Debug, Clone, Copy)]
pub struct AttemptFacts<'a> {
    /// The method; none of a raw stream, which only wants a connection.
    pub method: Option<&'a str>,
    /// The upstream.
    pub upstream: &'a str,
    /// The endpoint.
    pub endpoint: &'a str,
    /// Which attempt it was, from 1.
    pub number: u32,
    /// Whether its connection had served before.
    pub reused: bool,
}

impl Trace {
    pub(super) fn new(kit: Arc<Kit>, caller: Caller) -> Self {
        let id = caller.parent.map_or_else(new_trace, |parent| parent.trace);
        Self {
            kit,
            id,
            text: id.to_string().into_boxed_str(),
            caller,
            recorded: None,
            span: new_span(),
            started: SystemTime::now(),
            attempt: None,
        }
    }

    /// The id of the trace in 32 digits.
    pub fn id(&self) -> &str {
        &self.text
    }

    /// Decides whether it is recorded; `share` is what its rule says. The first decision holds.
    pub fn decide(&mut self, share: Option<Share>) -> bool {
        if let Some(recorded) = self.recorded {
            return recorded;
        }
        let recorded = self.kit.records(self.id, self.caller.sampled, share);
        self.recorded = Some(recorded);
        recorded
    }

    /// An attempt begins.
    pub fn begin_attempt(&mut self) {
        if self.recorded == Some(true) {
            self.attempt = Some(Attempt {
                span: new_span(),
                started: SystemTime::now(),
                status: None,
                error: None,
            });
        }
    }

    /// Tells the endpoint which span calls it. A caller that is not recorded here is passed on as it
    /// came.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let recorded = self.recorded == Some(true);
        let propagation = &self.kit.propagation;
        match self.caller.parent {
            Some(parent) if !recorded => propagation.pass_on(parent, &self.caller, headers),
            _ => {
                let attempt = self.attempt.as_ref();
                let own = Parent {
                    trace: self.id,
                    span: attempt.map_or(self.span, |attempt| attempt.span),
                };
                propagation.tell(own, recorded, &self.caller, headers);
            }
        }
    }

    /// The attempt under way was answered with this status.
    pub fn attempt_answered(&mut self, status: u16) {
        if let Some(attempt) = &mut self.attempt {
            attempt.status = Some(status);
        }
    }

    /// The attempt under way failed.
    pub fn attempt_failed(&mut self, reason: &'static str) {
        if let Some(attempt) = &mut self.attempt {
            attempt.error.get_or_insert(reason);
        }
    }

    /// The attempt under way is over. Without an endpoint there was none.
    pub fn end_attempt(&mut self, facts: Option<AttemptFacts<'_>>) {
        if let (Some(attempt), Some(facts)) = (self.attempt.take(), facts) {
            let said = attempt_said(&attempt, facts);
            let span = self.data(
                (attempt.span, self.span, false),
                SpanKind::Client,
                Cow::Owned(facts.method.unwrap_or("connect").to_owned()),
                attempt.started,
                said,
            );
            self.kit.queue.take(span);
        }
    }

    /// The request is over.
    pub fn end(&mut self, line: &Line<'_>) {
        if self.recorded != Some(true) {
            return;
        }
        let method = line.method.unwrap_or("HTTP");
        let name = match (line.route, line.rule) {
            (Some(route), Some(rule)) => format!("{method} {route}/{rule}"),
            _ => method.to_owned(),
        };
        let error = line.verdict.map(Cow::Borrowed).or_else(|| {
            let status = line.status;
            (status >= 500).then(|| Cow::Owned(status.to_string()))
        });
        let status = match &error {
            // What a client did wrong is no error of the one it asked; an upstream that failed is, also
            // after the client was told that all is well.
            Some(error) if line.status >= 500 || line.failed.is_some() => {
                Status::error(error.clone())
            }
            _ => Status::Unset,
        };
        let said = (request_said(line, error), status);
        self.finish(name, said);
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recorded == Some(true)
    }

    /// The span of the whole is done.
    pub(super) fn finish(&self, name: String, said: (Vec<KeyValue>, Status)) {
        let (parent, remote) = match self.caller.parent {
            Some(parent) => (parent.span, true),
            None => (SpanId::INVALID, false),
        };
        let span = self.data(
            (self.span, parent, remote),
            SpanKind::Server,
            Cow::Owned(name),
            self.started,
            said,
        );
        self.kit.queue.take(span);
    }

    fn data(
        &self,
        (span, parent, remote): (SpanId, SpanId, bool),
        kind: SpanKind,
        name: Cow<'static, str>,
        started: SystemTime,
        (attributes, status): (Vec<KeyValue>, Status),
    ) -> SpanData {
        SpanData {
            span_context: context::own(self.id, span, true, self.caller.state.clone()),
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind,
            name,
            start_time: started,
            end_time: SystemTime::now().max(started),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.kit.scope.clone(),
        }
    }
}

fn request_said(line: &Line<'_>, error: Option<Cow<'static, str>>) -> Vec<KeyValue> {
    let mut said = vec![
        KeyValue::new("sluice.listener", line.listener.to_owned()),
        KeyValue::new("client.address", line.client.to_string()),
        KeyValue::new("network.peer.address", line.peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(line.peer.port())),
        KeyValue::new("http.response.status_code", i64::from(line.status)),
        KeyValue::new("http.request.body.size", size(line.bytes_in)),
        KeyValue::new("http.response.body.size", size(line.bytes_out)),
    ];
    let version = line.protocol.and_then(|name| name.strip_prefix("HTTP/"));
    let version = version.map(|version| if version == "2.0" { "2" } else { version });
    let route = line.route.zip(line.rule);
    let texts = [
        ("url.scheme", line.scheme),
        ("url.path", line.path),
        ("server.address", line.host),
        ("network.protocol.version", version),
        ("user_agent.original", line.user_agent.as_deref()),
        ("sluice.route", line.route),
        ("sluice.rule", line.rule),
        ("sluice.upstream", line.upstream),
        ("sluice.request_id", line.request_id),
    ];
    let texts = texts.into_iter();
    said.extend(texts.filter_map(|(key, text)| Some(KeyValue::new(key, text?.to_owned()))));
    if let Some(method) = line.method {
        push_method(&mut said, method);
    }
    if let Some((route, rule)) = route {
        said.push(KeyValue::new("http.route", format!("{route}/{rule}")));
    }
    if let Some(error) = error {
        said.push(KeyValue::new("error.type", error));
    }
    said
}

fn attempt_said(attempt: &Attempt, facts: AttemptFacts<'_>) -> (Vec<KeyValue>, Status) {
    let mut said = vec![
        KeyValue::new("sluice.upstream", facts.upstream.to_owned()),
        KeyValue::new("sluice.connection_reused", facts.reused),
    ];
    if let Some(method) = facts.method {
        push_method(&mut said, method);
    }
    if let Ok(address) = facts.endpoint.parse::<SocketAddr>() {
        let ip = address.ip().to_string();
        said.push(KeyValue::new("server.address", ip.clone()));
        said.push(KeyValue::new("server.port", i64::from(address.port())));
        said.push(KeyValue::new("network.peer.address", ip));
        said.push(KeyValue::new(
            "network.peer.port",
            i64::from(address.port()),
        ));
    } else {
        said.push(KeyValue::new("server.address", facts.endpoint.to_owned()));
    }
    if facts.number > 1 {
        let again = i64::from(facts.number.saturating_sub(1));
        said.push(KeyValue::new("http.request.resend_count", again));
    }
    if let Some(status) = attempt.status {
        said.push(KeyValue::new(
            "http.response.status_code",
            i64::from(status),
        ));
    }
    // To a client, a refusal is a failure as well.
    let refused = attempt.status.filter(|status| *status >= 400);
    let error = attempt.error.map(Cow::Borrowed);
    let error = error.or_else(|| refused.map(|status| Cow::Owned(status.to_string())));
    let status = match error {
        Some(error) => {
            said.push(KeyValue::new("error.type", error.clone()));
            Status::error(error)
        }
        None => Status::Unset,
    };
    (said, status)
}

/// A method that the conventions know stands as it is; any other would be a name chosen by the client.
fn push_method(said: &mut Vec<KeyValue>, method: &str) {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    let known = KNOWN.iter().find(|known| **known == method);
    said.push(KeyValue::new(
        "http.request.method",
        known.copied().unwrap_or("_OTHER"),
    ));
    if known.is_none() {
        let original = method.to_owned();
        said.push(KeyValue::new("http.request.method_original", original));
    }
}

pub(super) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
