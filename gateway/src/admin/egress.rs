//! What the admin address tells about egress: who asked for what, and what came of it.
//!
//! Written as text at once: a report may have a million lines.

use std::{net::IpAddr, time::SystemTime};

use serde::Serialize;
use sluice_config::names::EgressName;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Admin;
use crate::egress::{Destination, Report, Spoken, Target, Why, is_public};

/// The report as a whole.
#[derive(Serialize)]
struct Told {
    /// How many destinations are remembered at most; 0 when nobody wants a report.
    limit: usize,
    /// How many made room for others since the start.
    forgotten: u64,
    destinations: Vec<Line>,
}

/// One destination.
#[derive(Serialize)]
struct Line {
    source: IpAddr,
    /// None when it could not be read.
    host: Option<String>,
    port: u16,
    /// Of an address whether it is public.
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<bool>,
    rule: Option<EgressName>,
    protocols: Vec<&'static str>,
    /// What came of the last attempt.
    verdict: &'static str,
    reason: Option<&'static str>,
    allowed: u64,
    refused: u64,
    shadow: u64,
    first: Option<String>,
    last: Option<String>,
}

/// Every destination, by source.
pub(super) fn report(admin: &Admin) -> String {
    let live = admin.view.live();
    let report = live.as_ref().map(|live| live.plan.egress.report());
    let told = Told {
        limit: report.map_or(0, Report::limit),
        forgotten: report.map_or(0, Report::forgotten),
        destinations: report
            .map(|report| report.read().into_iter().map(line).collect())
            .unwrap_or_default(),
    };
    // Texts and numbers only: this cannot fail.
    serde_json::to_string(&told).unwrap_or_default()
}

fn line(it: Destination) -> Line {
    let public = match &it.target {
        Some(Target::Address(address)) => Some(is_public(*address)),
        Some(Target::Name(_)) | None => None,
    };
    Line {
        source: it.source,
        host: it.target.map(|target| target.to_string()),
        port: it.port,
        public,
        rule: it.rule,
        protocols: protocols(it.spoken),
        verdict: match (it.why, it.last_in_shadow) {
            (None, _) => "allowed",
            (Some(_), false) => "refused",
            (Some(_), true) => "shadow",
        },
        reason: it.why.map(Why::word),
        allowed: it.allowed,
        refused: it.refused,
        shadow: it.shadow,
        first: moment(it.first),
        last: moment(it.last),
    }
}

fn protocols(spoken: Spoken) -> Vec<&'static str> {
    let all = [
        ("http", spoken.http),
        ("tls", spoken.tls),
        ("tcp", spoken.tcp),
    ];
    let there = all.into_iter().filter(|(_, there)| *there);
    there.map(|(word, _)| word).collect()
}

/// A moment to the second (RFC 3339).
fn moment(moment: SystemTime) -> Option<String> {
    let moment = OffsetDateTime::from(moment);
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    whole.format(&Rfc3339).ok()
}
