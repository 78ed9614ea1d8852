//! What became of attempts to get outside, by the rule that was nearest: names of the configuration, never what
//! somebody asked for.

use crate::{
    plan::Plan,
    telemetry::metrics::text::{Kind, Text},
};

pub(super) fn write(text: &mut Text, plan: &Plan) {
    let help =
        "Attempts to reach something outside, by rule; an empty one where no rule is for the host.";
    text.family("sluice_egress", Kind::Counter, help);
    for (rule, counts) in plan.egress.counts() {
        let rule = rule.map_or("", |rule| rule.as_str());
        let outcomes = [
            ("allowed", counts.allowed),
            ("refused", counts.refused),
            ("shadow", counts.shadow),
        ];
        for (outcome, count) in outcomes {
            let labels = [("rule", rule), ("outcome", outcome)];
            text.sample("_total", &labels, count);
        }
    }
    // Before there is a rule.
    let labels = [("rule", ""), ("outcome", "unauthenticated")];
    text.sample("_total", &labels, plan.egress.unknown());
    let kept = plan.outlets.names().map_or(0, |names| names.kept());
    let help = "Names that clients asked for and that are kept for their time to live.";
    text.family("sluice_egress_names", Kind::Gauge, help);
    text.sample("", &[], kept);
}
