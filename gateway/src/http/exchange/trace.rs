//! The trace of an exchange: what is told to it, and through it to endpoints.

use http::{HeaderMap, StatusCode};

use super::Exchange;
use crate::{telemetry::trace::AttemptFacts, upstream::EndpointKey};

impl Exchange {
    /// An attempt begins.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt.begin();
        if let Some(trace) = &mut self.trace {
            trace.begin_attempt();
        }
    }

    /// Tells an endpoint which span calls it.
    pub(crate) fn tell_trace(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.tell(headers);
        }
    }

    /// The head of the response is here.
    pub(crate) fn attempt_answered(&mut self, status: StatusCode) {
        self.attempt.answered(self.started);
        if let Some(trace) = &mut self.trace {
            trace.attempt_answered(status.as_u16());
        }
    }

    /// The attempt failed for `reason`, and another one follows.
    pub(crate) fn attempt_failed(&mut self, reason: &'static str) {
        if let Some(trace) = &mut self.trace {
            trace.attempt_failed(reason);
        }
        self.end_attempt();
    }

    /// The request is over, and its last attempt with it.
    pub(super) fn end_trace(&mut self) {
        if self.trace.is_none() {
            return;
        }
        self.end_attempt();
        let Some(mut trace) = self.trace.take() else {
            return;
        };
        if trace.decide(self.filters().trace()) {
            trace.end(&self.line());
        }
    }

    fn end_attempt(&mut self) {
        let Some(mut trace) = self.trace.take() else {
            return;
        };
        let endpoint = self.endpoint.as_ref().map(EndpointKey::as_str);
        let facts = endpoint.zip(self.upstream.as_ref());
        trace.end_attempt(facts.map(|(endpoint, upstream)| AttemptFacts {
            method: Some(self.method.as_str()),
            upstream: upstream.as_str(),
            endpoint,
            number: self.attempts,
            reused: self.reused,
        }));
        self.trace = Some(trace);
    }
}
