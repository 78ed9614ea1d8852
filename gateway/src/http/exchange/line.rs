//! What the access log is told about an exchange.

use std::borrow::Cow;

use http::{HeaderValue, Version};
use sluice_config::names::UpstreamName;

use super::Exchange;
use crate::{
    http::outward::attempt::Attempt,
    telemetry::{access_log::Line, attempt::WhyLast, trace::Trace},
    upstream::EndpointKey,
};

/// Stands for a route where the validating server of an issuer was answered. No route has this name.
const VALIDATION: &str = "@acme-challenge";

impl Exchange {
    pub(super) fn line(&self) -> Line<'_> {
        let chosen = self.chosen.as_ref();
        let user_agent = self.user_agent.as_ref();
        let (bytes_in, bytes_out) = self.bytes();
        let verdict = self.verdict.as_deref();
        Line {
            scheme: Some(self.downstream.scheme),
            method: Some(self.method.as_str()),
            host: self.host(),
            path: Some(self.uri.path()),
            protocol: Some(match self.protocol {
                Version::HTTP_2 => "HTTP/2.0",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }),
            verdict: verdict.map(|verdict| verdict.reason),
            flags: verdict.map(|verdict| verdict.flags),
            bytes_in,
            bytes_out,
            duration: self.started.elapsed(),
            connect: self.attempt.connect(),
            first_byte: self.attempt.first_byte(),
            failed: self.attempt.failed(),
            route: match chosen {
                Some(chosen) => Some(chosen.route.model.name.as_str()),
                None => self.validates.then_some(VALIDATION),
            },
            rule: chosen.map(|chosen| chosen.rule.model.name.as_str()),
            upstream: self.upstream.as_ref().map(UpstreamName::as_str),
            endpoint: self.endpoint.as_ref().map(EndpointKey::as_str),
            attempts: self.attempts,
            delayed: self.delayed,
            reused: self.reused,
            retry: self.attempt.why_last().map(WhyLast::word),
            request_id: Some(self.downstream.request_id()).filter(|id| !id.is_empty()),
            trace_id: self.trace.as_deref().map(Trace::id),
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes())),
            referer: self.referer.as_ref().map(without_query),
            version: chosen.map(|chosen| chosen.version.as_str()),
            status: self.status.map_or(0, |status| status.as_u16()),
            egress: self.outward.as_deref().map(Attempt::facts),
            ..Line::blank(self.time, &self.downstream)
        }
    }
}

/// A referer without its query, which carries secrets like any other.
fn without_query(referer: &HeaderValue) -> Cow<'_, str> {
    let mut pieces = referer.as_bytes().split(|byte| matches!(byte, b'?' | b'#'));
    String::from_utf8_lossy(pieces.next().unwrap_or_default())
}
