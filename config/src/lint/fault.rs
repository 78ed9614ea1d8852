//! Failures on purpose that are others than those meant.

use super::problem;
use crate::{
    Problem,
    model::{Route, Rule},
};

/// A delay that outlasts the time of its rule.
pub(super) fn check(at: &str, route: &Route, rule: &Rule) -> Option<Problem> {
    let own = rule.filters.fault.as_ref();
    let (place, fault) = match own {
        Some(fault) => (at.to_owned(), fault),
        None => (
            format!("routes.{}", route.name),
            route.filters.fault.as_ref()?,
        ),
    };
    let delay = fault.delay.filter(|delay| !delay.percent.is_none())?;
    let timeout = rule.timeout.or(route.timeout)?.get()?;
    (delay.duration >= timeout).then(|| {
        problem(
            "outlasting_delay",
            format!("{place}.fault.delay.duration"),
            "whoever is held back for that long has no time left, and gets 504".to_owned(),
            "write a shorter duration, or a longer timeout",
        )
    })
}
