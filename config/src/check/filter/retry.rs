//! The filter key `retry`

use std::time::Duration;

use crate::{
    findings::{Finding, Findings},
    model::{BackOff, HeaderName, Retry, RetryOn},
    raw,
    scalar::Scalars,
    tree::At,
};

/// Every request under way may hold one.
const BODY: std::ops::RangeInclusive<u64> = 0..=16 << 20;

const BASE: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

const MOST: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(10);

pub(super) fn check(raw: &raw::Retry, at: &At<'_>, findings: &mut Findings<'_>) -> Retry {
    let default = Retry::default();
    let on = raw.on.as_ref();
    let on = on.map(|raw| conditions(raw, &at.key("on"), findings));
    let headers = raw.headers.as_ref();
    let headers = headers.map(|raw| names(raw, &at.key("headers"), findings));
    let back_off = raw.back_off.as_ref();
    let back_off = back_off.map(|raw| pauses(raw, &at.key("back_off"), findings));
    let mut scalars = Scalars { at: *at, findings };
    let per_try = raw.per_try_timeout.as_ref();
    Retry {
        attempts: scalars.number("attempts", raw.attempts, 0..=10, default.attempts),
        per_try_timeout: scalars.time_or_off("per_try_timeout", per_try, default.per_try_timeout),
        on: on.unwrap_or(default.on),
        headers: headers.unwrap_or_default(),
        back_off: back_off.unwrap_or_default(),
        max_body: scalars.size("max_body", raw.max_body.as_ref(), BODY, default.max_body),
        non_idempotent: raw.non_idempotent.unwrap_or(default.non_idempotent),
    }
}

fn conditions(
    raw: &raw::OneOrMany<raw::RetryOn>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<RetryOn> {
    let mut conditions = Vec::new();
    for (index, written) in raw.as_slice().iter().enumerate() {
        let at = at.element(index, raw.is_list());
        let condition = match written {
            raw::RetryOn::Name(name) => named(name, &at, findings),
            raw::RetryOn::Status(number) => status(*number, &at, findings),
        };
        // Said twice it is no other condition.
        conditions.extend(condition.filter(|condition| !conditions.contains(condition)));
    }
    conditions
}

fn named(name: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<RetryOn> {
    let condition = RetryOn::named(name);
    if condition.is_none() {
        let what = format!("{name:?} is no condition");
        let names: Vec<&str> = RetryOn::names().collect();
        let hint = format!("one of {}, or a status as a number", names.join(", "));
        findings.value(at, Finding::new("unknown_value", what).hint(hint));
    }
    condition
}

fn status(number: i64, at: &At<'_>, findings: &mut Findings<'_>) -> Option<RetryOn> {
    let status = u16::try_from(number).ok();
    let status = status.filter(|status| (400..=599).contains(status));
    if status.is_none() {
        let what = format!("{number} is no status of a failure, which are 400 to 599");
        findings.value(at, Finding::new("out_of_range", what));
    }
    status.map(RetryOn::Status)
}

fn names(
    raw: &raw::OneOrMany<String>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<HeaderName> {
    let mut headers = Vec::new();
    for (index, name) in raw.as_slice().iter().enumerate() {
        let checked = HeaderName::new(name);
        if checked.is_none() {
            let what = format!("{name:?} is no header name");
            let at = at.element(index, raw.is_list());
            findings.value(&at, Finding::new("bad_header", what));
        }
        headers.extend(checked);
    }
    headers
}

fn pauses(raw: &raw::BackOff, at: &At<'_>, findings: &mut Findings<'_>) -> BackOff {
    let default = BackOff::default();
    let mut scalars = Scalars { at: *at, findings };
    let base = scalars.time("base", raw.base.as_ref(), BASE, default.base);
    let usual = base.saturating_mul(BackOff::FACTOR);
    let max = scalars.time("max", raw.max.as_ref(), MOST, usual);
    if max < base {
        let what = "the last pause is shorter than the first";
        let finding = Finding::new("conflict", what).hint("write max of at least base");
        findings.value(&at.key("max"), finding);
    }
    BackOff { base, max }
}
