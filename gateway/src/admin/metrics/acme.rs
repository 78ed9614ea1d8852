//! Certificates that are ordered. Those that clients asked for have no labels: their names come from
//! clients.

use crate::{
    engine::View,
    telemetry::metrics::text::{Kind, Text},
};

pub(super) fn write(text: &mut Text, view: &View) {
    let keeper = view.keeper();
    let states = keeper.states();
    let (issued, failed) = keeper.orders();
    let help = "Orders of certificates, by what came of them.";
    text.family("sluice_acme_orders", Kind::Counter, help);
    text.sample("_total", &[("outcome", "issued")], issued);
    text.sample("_total", &[("outcome", "failed")], failed);
    let (http, alpn) = keeper.pending().answered();
    let help = "Answers to validating servers of issuers.";
    text.family("sluice_acme_challenges_answered", Kind::Counter, help);
    text.sample("_total", &[("challenge", "http-01")], http);
    text.sample("_total", &[("challenge", "tls-alpn-01")], alpn);
    let help = "Certificates that are kept because clients asked for them.";
    text.family("sluice_acme_on_demand_certificates", Kind::Gauge, help);
    let on_demand = states.iter().filter(|state| state.on_demand);
    text.sample("", &[], on_demand.count());

    let named = || states.iter().filter(|state| !state.on_demand);
    let help = "When a certificate is renewed, in seconds since 1970.";
    text.family("sluice_certificate_renewal_seconds", Kind::Gauge, help);
    for state in named() {
        if let Some(renewal) = state.renewal {
            text.sample("", &[("certificate", &state.name)], renewal);
        }
    }
    let help = "Orders of a certificate that failed in a row, with the issuer that failed last.";
    text.family("sluice_certificate_order_failures", Kind::Gauge, help);
    for state in named() {
        let failures = state.problem.as_ref();
        let failures = failures.map_or(0, |(_, tries)| tries.failures);
        text.sample("", &[("certificate", &state.name)], failures);
    }
}
