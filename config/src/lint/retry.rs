//! Retries that can never happen, or that do more than was meant.

use super::problem;
use crate::{
    Problem,
    model::{Retry, RetryOn, Route, Rule},
};

/// `retry` of a rule, against what the rule takes.
pub(super) fn check(at: &str, route: &Route, rule: &Rule) -> Vec<Problem> {
    let own = rule.filters.retry.as_deref();
    let place = if own.is_some() {
        at.to_owned()
    } else {
        format!("routes.{}", route.name)
    };
    let Some(retry) = own.or(route.filters.retry.as_deref()) else {
        return Vec::new();
    };
    if retry.attempts == 0 {
        return Vec::new();
    }
    let problems = [
        twice(&place, retry, rule),
        never(&place, retry, rule),
        too_long(&place, retry, route, rule),
    ];
    problems.into_iter().flatten().collect()
}

/// What is no repetition of something that an endpoint may have done.
fn harmless(retry: &Retry) -> bool {
    retry.headers.is_empty() && retry.on.iter().all(|on| on.is_harmless())
}

/// POST and PATCH may be done twice. Only where the rule takes them.
fn twice(place: &str, retry: &Retry, rule: &Rule) -> Option<Problem> {
    let takes = rule.matches.is_empty()
        || rule.matches.iter().any(|one| {
            let mut methods = one.methods.iter();
            one.methods.is_empty() || methods.any(|method| !is_idempotent(method.as_str()))
        });
    (retry.non_idempotent && takes && !harmless(retry)).then(|| {
        problem(
            "repeated_effect",
            format!("{place}.retry.non_idempotent"),
            "what a POST does may be done twice".to_owned(),
            "let clients send Idempotency-Key, or match methods that may be repeated",
        )
    })
}

/// Every request of the rule is one that may not be repeated.
fn never(place: &str, retry: &Retry, rule: &Rule) -> Option<Problem> {
    let grpc = retry.on.iter().any(|on| matches!(on, RetryOn::Grpc(_)));
    let only = !rule.matches.is_empty()
        && rule.matches.iter().all(|one| {
            let mut methods = one.methods.iter();
            !one.methods.is_empty() && methods.all(|method| !is_idempotent(method.as_str()))
        });
    let wants = retry.on.iter().any(|on| !on.is_harmless()) || !retry.headers.is_empty();
    (only && wants && !grpc && !retry.non_idempotent).then(|| {
        problem(
            "unused_retry",
            format!("{place}.retry.on"),
            "the rule takes only methods that are not repeated once an endpoint may have acted on them"
                .to_owned(),
            "let clients send Idempotency-Key, or write non_idempotent = true where twice is as good as once",
        )
    })
}

/// One attempt may take longer than all of them.
fn too_long(place: &str, retry: &Retry, route: &Route, rule: &Rule) -> Option<Problem> {
    let try_timeout = retry.per_try_timeout.get()?;
    let timeout = rule.timeout.or(route.timeout)?.get()?;
    (try_timeout >= timeout).then(|| {
        problem(
            "useless_try_timeout",
            format!("{place}.retry.per_try_timeout"),
            "the time of the rule is over first, so that no further attempt follows".to_owned(),
            "write a shorter per_try_timeout, or a longer timeout",
        )
    })
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}
