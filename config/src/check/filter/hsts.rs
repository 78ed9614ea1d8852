//! The filter key `hsts`

use std::time::Duration;

use crate::{
    findings::{Finding, Findings},
    model::{Hsts, HstsTerms},
    raw::{self, DurationText},
    scalar::Scalars,
    tree::At,
};

/// Zero lets browsers forget; ten years is for ever.
const RANGE: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(3650 * 24);

/// What the maintainers of the list that browsers are delivered with ask for.
const PRELOAD: Duration = Duration::from_hours(365 * 24);

pub(super) fn check(raw: &raw::Hsts, at: &At<'_>, findings: &mut Findings<'_>) -> Hsts {
    let default = HstsTerms::default();
    // The short form stands at the key itself.
    let (terms, table, key) = match raw {
        raw::Hsts::Bool(false) => return Hsts::Off,
        raw::Hsts::Bool(true) => return Hsts::On(default),
        raw::Hsts::MaxAge(text) => {
            let terms = raw::HstsTerms {
                max_age: Some(DurationText(text.clone())),
                ..raw::HstsTerms::default()
            };
            let At::Key(above, key) = *at else {
                return Hsts::Off;
            };
            (terms, *above, key)
        }
        raw::Hsts::Table(terms) => (terms.clone(), *at, "max_age"),
    };
    let mut scalars = Scalars {
        at: table,
        findings,
    };
    let max_age = scalars.time(key, terms.max_age.as_ref(), RANGE, default.max_age);
    let checked = HstsTerms {
        max_age,
        include_subdomains: terms
            .include_subdomains
            .unwrap_or(default.include_subdomains),
        preload: terms.preload.unwrap_or(default.preload),
    };
    if checked.preload && !(checked.include_subdomains && max_age >= PRELOAD) {
        let what =
            "browsers are delivered only with hosts that include their subdomains for a year";
        let hint = "write include_subdomains = true and max_age = \"365d\", or take preload away";
        findings.value(
            &at.key("preload"),
            Finding::new("conflict", what).hint(hint),
        );
    }
    Hsts::On(checked)
}
