//! What the admin address tells about the gateway, as JSON.

use std::time::SystemTime;

use serde_json::{Value, json};
use sluice_config::model;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Admin;
use crate::{
    plan::{Action, Destination, Plan, Rule},
    telemetry::metrics::{Counter, Event, Traffic},
    upstream::EndpointReport,
};

/// Whether requests should come here; to those on this machine also why, and how it stands.
pub(super) fn ready(admin: &Admin, detailed: bool) -> Value {
    let status = admin.status.borrow().clone();
    let live = admin.view.live();
    let version = live.as_ref().map(|live| live.snapshot.version.as_str());
    let mut report = json!({
        "ready": admin.is_ready(),
        "draining": admin.is_draining(),
        "version": version,
        "refused": status.refused.is_some(),
    });
    if !detailed {
        return report;
    }
    let uptime = SystemTime::now().duration_since(admin.started);
    let metrics = admin.view.metrics();
    let details = json!({
        "problems": status.refused.as_deref(),
        "program": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "uptime_seconds": uptime.unwrap_or_default().as_secs(),
        "workers": metrics.workers(),
        "listeners": live.as_ref().map(|live| live.plan.listeners.len()),
        "routes": live.as_ref().map(|live| live.plan.routes.len()),
        "upstreams": live.as_ref().map(|live| live.plan.upstreams.len()),
        "certificates": live.as_ref().map(|live| certificates(&live.plan)),
        "connections": live.as_ref().map(|live| {
            let open = live.plan.listeners.values().map(|listener| listener.census.len());
            open.fold(0, usize::saturating_add)
        }),
        "requests": metrics.sum(Counter::Requests),
        "reloads": {
            "applied": metrics.sum(Counter::ReloadsApplied),
            "refused": metrics.sum(Counter::ReloadsRefused),
        },
    });
    if let (Value::Object(report), Value::Object(details)) = (&mut report, details) {
        report.extend(details);
    }
    report
}

/// How many certificates there are, and which of them were refused when they changed.
fn certificates(plan: &Plan) -> Value {
    let slots = plan.certificates.list();
    let refused = slots.iter().filter_map(|slot| {
        let problem = slot.problem()?;
        Some(json!({ "name": slot.name(), "problem": &*problem.what }))
    });
    json!({ "known": slots.len(), "refused": refused.collect::<Vec<_>>() })
}

/// Every listener, by name.
pub(super) fn listeners(admin: &Admin) -> Value {
    let Some(live) = admin.view.live() else {
        return json!([]);
    };
    let bound = admin.view.applied().addresses;
    let listeners = live.snapshot.listeners.iter().map(|(name, model)| {
        let listener = live.plan.listeners.get(name);
        json!({
            "name": name,
            "address": model.address.to_string(),
            "bound": bound.get(name).map(ToString::to_string),
            "protocol": model.protocol,
            "https_redirect": model.https_redirect.is_some(),
            "connections": listener.map(|it| it.census.len()),
            "requests": listener.map(|it| requests(&it.traffic)),
        })
    });
    listeners.collect()
}

/// Every route, by name.
pub(super) fn routes(admin: &Admin) -> Value {
    let Some(live) = admin.view.live() else {
        return json!([]);
    };
    let routes = live.snapshot.routes.iter().map(|(name, model)| {
        let route = live.plan.routes.get(name);
        let rules = route.iter().flat_map(|route| &route.rules);
        json!({
            "name": name,
            "hosts": model.hosts,
            "listeners": model.listeners,
            "priority": model.priority,
            "rules": rules.map(|rule| self::rule(rule)).collect::<Vec<_>>(),
            "requests": route.map(|it| requests(&it.traffic)),
        })
    });
    routes.collect()
}

fn rule(rule: &Rule) -> Value {
    let action = match &rule.action {
        Action::Forward(split) => {
            let to = split.destinations().map(|destination| match destination {
                Destination::Upstream(upstream) => upstream.name().to_string(),
                Destination::UnknownService(service) => service.to_string(),
            });
            json!({ "to": to.collect::<Vec<_>>() })
        }
        Action::Redirect(redirect) => json!({ "redirect": redirect.status }),
        Action::Respond(respond) => json!({ "respond": respond.status.as_u16() }),
        Action::Refused => json!({ "refused": true }),
    };
    json!({ "name": rule.model.name, "matches": rule.model.matches, "action": action })
}

/// Every upstream that a rule can choose, by name, with what each endpoint has to do.
pub(super) fn upstreams(admin: &Admin) -> Value {
    let Some(live) = admin.view.live() else {
        return json!([]);
    };
    let mut upstreams: Vec<_> = live.plan.upstreams.values().collect();
    upstreams.sort_by_key(|upstream| upstream.name().clone());
    let upstreams = upstreams.into_iter().map(|upstream| {
        let model: &model::Upstream = upstream.model();
        let connections = upstream.connections();
        let reading = upstream.traffic().read();
        let endpoints = upstream.report().into_iter().map(endpoint);
        json!({
            "name": upstream.name(),
            "balance": model.balance,
            "protocol": model.protocol,
            "tls_refused": live.plan.tls_clients.get(upstream.name()).and_then(|tls| tls.refused.as_deref()),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "watched": model.is_watched(),
            "panicking": upstream.is_panicking(),
            "connections": {
                "open": connections.open,
                "idle": connections.idle,
                "busy": connections.open.saturating_sub(connections.idle),
            },
            "waiting": connections.waiting,
            "attempts": reading.events(Event::Attempt),
            "retries": reading.events(Event::Retry),
            "requests": requests(upstream.traffic()),
        })
    });
    upstreams.collect()
}

fn endpoint(endpoint: EndpointReport) -> Value {
    let health = endpoint.health;
    json!({
        "address": endpoint.key.as_str(),
        "active": endpoint.active,
        "state": health.state.word(),
        "since": OffsetDateTime::from(health.since).format(&Rfc3339).ok(),
        "why": health.why.as_deref(),
    })
}

fn requests(traffic: &Traffic) -> Value {
    let reading = traffic.read();
    json!({
        "active": reading.active,
        "total": reading.requests(),
        "failures": reading.reasons,
    })
}
