//! Which endpoints of each upstream can take requests, and what has been found out.

use std::collections::BTreeMap;

use crate::{
    plan::Plan,
    telemetry::metrics::text::{Kind, Text},
    upstream::{HealthState, Upstream},
};

/// By the names of the upstreams that are watched.
pub(super) fn write(text: &mut Text, plan: &Plan) {
    let all = plan.upstreams.iter();
    let watched: BTreeMap<&str, &Upstream> = all
        .filter(|(_, it)| it.model().is_watched())
        .map(|(name, it)| (name.as_str(), &**it))
        .collect();
    let help = "Addresses of endpoints by how they stand.";
    text.family("sluice_upstream_endpoint_states", Kind::Gauge, help);
    for (name, upstream) in &watched {
        let report = upstream.report();
        for state in HealthState::ALL {
            let such = report.iter().filter(|it| it.health.state == state).count();
            let labels = [("upstream", *name), ("state", state.word())];
            text.sample("", &labels, such);
        }
    }
    let help = "Whether so few endpoints are available that requests go to all.";
    text.family("sluice_upstream_panicking", Kind::Gauge, help);
    for (name, upstream) in &watched {
        let panicking = u8::from(upstream.is_panicking());
        text.sample("", &[("upstream", name)], panicking);
    }
    let help = "Health checks by what came of them.";
    text.family("sluice_upstream_health_checks", Kind::Counter, help);
    for (name, upstream) in &watched {
        if upstream.model().health_check.is_some() {
            let checks = upstream.checks();
            for (outcome, count) in [("passed", checks.passed), ("failed", checks.failed)] {
                let labels = [("upstream", *name), ("outcome", outcome)];
                text.sample("_total", &labels, count);
            }
        }
    }
}
