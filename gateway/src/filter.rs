//! Step 7: Filters change a request before it goes upstream and a response on its way back.
//!
//! Each key stands on listener, route or rule, and the nearest wins whole; a [`Chain`] is what is
//! left of that for one rule on one listener, compiled with the plan. What must stay true: nothing
//! a peer says can end a header line, leave the path it is put into, or touch the framing. Pure.

mod edits;
mod fault;
mod grpc_web;
mod hsts;
mod redirect;
mod rewrite;
mod template;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use sluice_config::model::{self, Filters, PathMatch, Share, StreamLimits, Template};

use self::{edits::Edits, template::Filled};
use crate::downstream::Downstream;

pub use self::{
    grpc_web::{Base64, Rpc, trailer_frame},
    redirect::{https_redirect, redirect},
};
pub use fault::Harm;

/// What templates may speak of: the request as it was normalised, before any filter.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub downstream: &'a Downstream,
    /// The method.
    pub method: &'a str,
    /// The host without port.
    pub host: Option<&'a str>,
    /// The port that stood beside the host.
    pub port: Option<u16>,
    /// The normalised path.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// The request's headers, or, once the request is on its way, what [`Chain::kept`] gave.
    pub headers: &'a HeaderMap,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name; empty when none was found.
    pub route: &'a str,
    /// The rule's name; empty when none was found.
    pub rule: &'a str,
    /// The upstream's name, once one is chosen.
    pub upstream: Option<&'a str>,
    /// The condition on the path that held: prefixes are replaced by it, captures come from it.
    pub path_match: Option<&'a PathMatch>,
}

/// The filters of one rule on one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    request: Edits,
    response: Edits,
    rewrite: Option<model::Rewrite>,
    max_body: Option<u64>,
    upgrade: model::Upgrade,
    grpc_web: bool,
    hsts: Option<HeaderValue>,
    trace: Option<Share>,
    retry: Option<Arc<model::Retry>>,
    fault: Option<model::Fault>,
    stream: StreamLimits,
    /// What response templates want to know of the request.
    wanted: Vec<HeaderName>,
}

impl Chain {
    /// Settles, key by key, which level speaks.
    pub fn compile(listener: &model::Listener, route: &model::Route, rule: &model::Rule) -> Self {
        Self::settle(&[&rule.filters, &route.filters, &listener.filters])
    }

    /// The filters of a request that found no rule: its refusal passes the response filters too.
    pub fn of_listener(listener: &model::Listener) -> Self {
        Self::settle(&[&listener.filters])
    }

    /// `levels`: the nearest first.
    fn settle(levels: &[&Filters]) -> Self {
        fn nearest<'a, T>(
            levels: &[&'a Filters],
            key: impl Fn(&'a Filters) -> Option<&'a T>,
        ) -> Option<&'a T> {
            levels.iter().copied().find_map(key)
        }
        let response = nearest(levels, |level| level.response_headers.as_ref());
        let max_body = nearest(levels, |level| level.max_body.as_ref());
        Self {
            request: Edits::compile(nearest(levels, |level| level.request_headers.as_ref())),
            response: Edits::compile(response),
            rewrite: nearest(levels, |level| level.rewrite.as_ref()).cloned(),
            max_body: max_body.copied().unwrap_or(Filters::MAX_BODY).get(),
            upgrade: nearest(levels, |level| level.upgrade.as_ref())
                .cloned()
                .unwrap_or_default(),
            grpc_web: nearest(levels, |level| level.grpc_web.as_ref()) == Some(&true),
            hsts: hsts::compile(nearest(levels, |level| level.hsts.as_ref())),
            trace: nearest(levels, |level| level.trace.as_ref()).map(|trace| trace.sample),
            retry: nearest(levels, |level| level.retry.as_ref()).cloned(),
            fault: fault::compile(nearest(levels, |level| level.fault.as_ref())),
            stream: StreamLimits::nearest(levels),
            wanted: response.map(edits::wanted).unwrap_or_default(),
        }
    }

    /// Rewrites path and host, then edits headers. `facts.headers` is not looked at: templates
    /// read the headers of `parts` as they were before this call.
    pub fn on_request(&self, facts: &Facts<'_>, parts: &mut Parts) {
        if self.rewrite.is_none() && self.request.is_empty() {
            return;
        }
        let (host, values, uri);
        {
            let filled = Filled::new(facts, &parts.headers);
            let rewrite = self.rewrite.as_ref();
            uri = rewrite.and_then(|it| rewrite::uri(it.path.as_ref()?, &filled));
            host = rewrite.and_then(|it| rewrite::host(it.host.as_ref()?, &filled));
            values = self.request.render(&filled);
        }
        if let Some(uri) = uri {
            parts.uri = uri;
        }
        if let Some(host) = host {
            parts.headers.insert(http::header::HOST, host);
        }
        self.request.apply(values, &mut parts.headers);
    }

    /// Edits the headers of an answer, whoever gave it.
    pub fn on_response(&self, facts: &Facts<'_>, headers: &mut HeaderMap) {
        // Before the edits, so that they have the last word.
        if let Some(value) = &self.hsts {
            hsts::apply(value, facts.downstream.scheme, headers);
        }
        if self.response.is_empty() {
            return;
        }
        let values = self.response.render(&Filled::new(facts, facts.headers));
        self.response.apply(values, headers);
    }

    /// The few request headers that [`Chain::on_response`] will ask for; mostly none.
    pub fn kept(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in &self.wanted {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    /// The largest request body, in bytes.
    pub fn max_body(&self) -> Option<u64> {
        self.max_body
    }

    /// Which protocols a connection may go over to, and how long.
    pub fn upgrade(&self) -> &model::Upgrade {
        &self.upgrade
    }

    /// Whether calls in gRPC-Web become gRPC.
    pub fn grpc_web(&self) -> bool {
        self.grpc_web
    }

    /// When a request is sent once more; none: what is usual.
    pub fn retry(&self) -> Option<&Arc<model::Retry>> {
        self.retry.as_ref()
    }

    /// What the rule does to this request on purpose; mostly nothing.
    pub fn harm(&self, headers: &HeaderMap, random: impl FnMut() -> u64) -> Option<Harm> {
        fault::harm(self.fault.as_ref()?, headers, random)
    }

    /// How long raw streams last.
    pub fn stream(&self) -> StreamLimits {
        self.stream
    }

    /// The share of traces that begin here and are recorded; none: what the tracer says.
    pub fn trace(&self) -> Option<Share> {
        self.trace
    }
}

/// One value from a template: what would end a header line is left out.
pub fn value(template: &Template, facts: &Facts<'_>) -> HeaderValue {
    Filled::new(facts, facts.headers).value(template)
}

/// Which level a key was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rule says so.
    Rule,
    /// The route says so.
    Route,
    /// The listener says so.
    Listener,
}

/// The keys that take effect for one rule on one listener, and where each was written.
pub fn sources(
    listener: &model::Listener,
    route: &model::Route,
    rule: &model::Rule,
) -> Vec<(&'static str, Level)> {
    let levels = [
        (Level::Rule, &rule.filters),
        (Level::Route, &route.filters),
        (Level::Listener, &listener.filters),
    ];
    let nearest = |key, says: fn(&Filters) -> bool| {
        let (level, _) = levels.iter().find(|(_, filters)| says(filters))?;
        Some((key, *level))
    };
    let keys = [
        nearest("max_body", |level| level.max_body.is_some()),
        nearest("upgrade", |level| level.upgrade.is_some()),
        nearest("grpc_web", |level| level.grpc_web.is_some()),
        nearest("hsts", |level| level.hsts.is_some()),
        nearest("trace", |level| level.trace.is_some()),
        nearest("retry", |level| level.retry.is_some()),
        nearest("fault", |level| level.fault.is_some()),
        nearest("stream", |level| level.stream.is_some()),
        nearest("rewrite", |level| level.rewrite.is_some()),
        nearest("request_headers", |level| level.request_headers.is_some()),
        nearest("response_headers", |level| level.response_headers.is_some()),
    ];
    keys.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
