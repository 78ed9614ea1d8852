//! The span of a raw stream: the conventions have none, so what is there in both has the same names.
//! The name in a `ClientHello` stands in the log only.

use std::borrow::Cow;

use opentelemetry::{KeyValue, trace::Status};

use super::span::{Trace, size};
use crate::telemetry::access_log::Line;

impl Trace {
    /// The raw stream is over.
    pub fn end_stream(&mut self, line: &Line<'_>) {
        if !self.is_recorded() {
            return;
        }
        let scheme = line.scheme.unwrap_or("tcp");
        let name = match (line.route, line.rule) {
            (Some(route), Some(rule)) => format!("{scheme} {route}/{rule}"),
            _ => scheme.to_owned(),
        };
        // What a client did wrong is no error of the one it asked.
        let status = match line.verdict {
            Some(verdict) if line.failed.is_some() => Status::error(Cow::Borrowed(verdict)),
            _ => Status::Unset,
        };
        self.finish(name, (said(line), status));
    }
}

fn said(line: &Line<'_>) -> Vec<KeyValue> {
    let transport = if line.scheme == Some("udp") {
        "udp"
    } else {
        "tcp"
    };
    let mut said = vec![
        KeyValue::new("sluice.listener", line.listener.to_owned()),
        KeyValue::new("client.address", line.client.to_string()),
        KeyValue::new("network.peer.address", line.peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(line.peer.port())),
        KeyValue::new("network.transport", transport),
        KeyValue::new("sluice.stream.received", size(line.bytes_in)),
        KeyValue::new("sluice.stream.sent", size(line.bytes_out)),
    ];
    let texts = [
        ("sluice.route", line.route),
        ("sluice.rule", line.rule),
        ("sluice.upstream", line.upstream),
        ("sluice.endpoint", line.endpoint),
        ("error.type", line.verdict),
    ];
    let texts = texts.into_iter();
    said.extend(texts.filter_map(|(key, text)| Some(KeyValue::new(key, text?.to_owned()))));
    said
}
