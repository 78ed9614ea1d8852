//! The filter key `fault`

use std::time::Duration;

use crate::{
    findings::{Finding, Findings},
    model::{Fault, FaultAbort, FaultDelay, FaultStatus, GrpcStatus, HeaderName, Percent},
    raw,
    scalar::{Scalars, TIMEOUT},
    tree::At,
};

pub(super) fn check(raw: &raw::Fault, at: &At<'_>, findings: &mut Findings<'_>) -> Fault {
    let (delay, abort) = (raw.delay.as_ref(), raw.abort.as_ref());
    Fault {
        delay: delay.and_then(|raw| check_delay(raw, &at.key("delay"), findings)),
        abort: abort.and_then(|raw| check_abort(raw, &at.key("abort"), findings)),
        header: raw.header.as_deref().and_then(|name| {
            let checked = HeaderName::new(name);
            if checked.is_none() {
                let what = format!("{name:?} is no header name");
                findings.value(&at.key("header"), Finding::new("bad_header", what));
            }
            checked
        }),
    }
}

fn check_delay(
    raw: &raw::FaultDelay,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<FaultDelay> {
    let percent = percent(raw.percent, at, findings);
    let Some(duration) = &raw.duration else {
        let finding = Finding::new("missing_key", "the delay lacks its duration");
        findings.missing(at, "duration", finding.hint("write duration = \"5s\""));
        return None;
    };
    let mut scalars = Scalars { at: *at, findings };
    let duration = scalars.time("duration", Some(duration), TIMEOUT, Duration::ZERO);
    percent.map(|percent| FaultDelay { percent, duration })
}

fn check_abort(
    raw: &raw::FaultAbort,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<FaultAbort> {
    let percent = percent(raw.percent, at, findings);
    let with = match (raw.status, raw.grpc.as_deref()) {
        (Some(_), None) => {
            let mut scalars = Scalars { at: *at, findings };
            Some(FaultStatus::Status(scalars.number(
                "status",
                raw.status,
                200..=599,
                503,
            )))
        }
        (None, Some(word)) => grpc(word, &at.key("grpc"), findings),
        (None, None) => {
            let finding = Finding::new("missing_key", "the abort lacks its status");
            let hint = "write status = 503 or grpc = \"unavailable\"";
            findings.missing(at, "status", finding.hint(hint));
            None
        }
        (Some(_), Some(_)) => {
            let what = "an abort has one of status and grpc; the other protocol is told what stands for it";
            findings.value(&at.key("grpc"), Finding::new("conflict", what));
            None
        }
    };
    let (percent, with) = percent.zip(with)?;
    Some(FaultAbort { percent, with })
}

fn grpc(word: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<FaultStatus> {
    let status = GrpcStatus::named(word);
    if status.is_none() {
        let what = format!("{word:?} is no status of gRPC");
        let names: Vec<&str> = GrpcStatus::ALL.iter().map(|it| it.word()).collect();
        let hint = format!("one of {}", names.join(", "));
        findings.value(at, Finding::new("unknown_value", what).hint(hint));
    }
    status.map(FaultStatus::Grpc)
}

fn percent(raw: Option<f64>, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Percent> {
    let Some(percent) = raw else {
        let finding = Finding::new("missing_key", "how many requests is not said");
        findings.missing(at, "percent", finding.hint("write percent = 10"));
        return None;
    };
    let checked = Percent::new(percent);
    if checked.is_none() {
        let what = format!("percent is {percent}, beyond 0 to 100");
        findings.value(&at.key("percent"), Finding::new("out_of_range", what));
    }
    checked
}
