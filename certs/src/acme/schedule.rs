//! When to order next, and from whom: functions of their arguments, times in seconds since 1970.
//!
//! Nothing here waits for a clock to reach a moment that was computed earlier: callers ask again every
//! second with the time as it is, so a clock that jumps delays or hastens at most one answer. What a
//! wrong clock wrote down (a back-off that ends next year) is cut to what the failures justify.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// Seconds since 1970.
pub type Moment = i64;

/// The first wait after a failure; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(30);
/// The longest wait between attempts.
const LONGEST: Duration = Duration::from_hours(6);
/// The first wait after the issuer said that we ask too often. Its limits count hours, not minutes.
const FIRST_LIMITED: Duration = Duration::from_hours(1);
/// No issuer's `Retry-After` keeps us away for longer.
const LONGEST_ASKED: Duration = Duration::from_hours(24);
/// So often an issuer fails before the next of the list is tried as well.
const PATIENCE: u32 = 2;
/// Renewal begins up to this part of the lifetime (one in …) before two thirds of it have passed.
const SPREAD: Moment = 20;

/// How often an issuer may be asked for its opinion on a certificate (RFC 9773 §4.3.2 suggests bounds
/// like these).
const ASK: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));

/// What the attempts with one issuer came to. Kept in the storage, so that replicas and restarts wait too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// In a row.
    pub failures: u32,
    /// No attempt before this moment.
    pub until: Moment,
    /// Whether the issuer said that we ask too often.
    #[serde(default)]
    pub limited: bool,
    /// Why the last one failed, in the issuer's own words where it had some.
    pub problem: String,
    /// When the last one failed.
    pub at: Moment,
}

/// A failure, as far as the next attempt is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failure {
    /// The issuer said that we ask too often.
    pub limited: bool,
    /// When the issuer wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// The next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next<'a> {
    /// Not before.
    pub at: Moment,
    /// From whom.
    pub issuer: &'a str,
}

/// When a certificate is renewed: at a moment of the issuer's window if there is one, else when two
/// thirds of its life have passed, less up to a twentieth. `seed` picks the moment; it comes from the
/// certificate, so that all replicas pick the same.
pub fn renewal(valid: (Moment, Moment), window: Option<(Moment, Moment)>, seed: u64) -> Moment {
    let (start, end) = window.unwrap_or_else(|| {
        let (from, until) = valid;
        let life = until.saturating_sub(from).max(0);
        let thirds = from.saturating_add(life / 3 * 2);
        (thirds.saturating_sub(life / SPREAD), thirds)
    });
    // A window that is written the wrong way round has no width.
    let width = u64::try_from(end.saturating_sub(start)).unwrap_or(0);
    // Never zero, also for a window of no width.
    let offset = seed % width.saturating_add(1).max(1);
    start.saturating_add(i64::try_from(offset).unwrap_or(0))
}

/// How long to wait after failure number `failures` in a row. `jitter` is in 0..1 and moves it by up to a
/// fifth either way; what the issuer asked for is never undercut.
pub fn back_off(failures: u32, failure: Failure, jitter: f64) -> Duration {
    let first = if failure.limited {
        FIRST_LIMITED
    } else {
        FIRST
    };
    let doublings = failures.saturating_sub(1).min(16);
    let wait = first.saturating_mul(1 << doublings).min(LONGEST);
    let wait = wait.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    wait.max(failure.retry_after.unwrap_or_default().min(LONGEST_ASKED))
}

/// What is written down after a failure.
pub fn failed(
    before: Option<&Tries>,
    failure: Failure,
    words: String,
    now: (Moment, f64),
) -> Tries {
    let (now, jitter) = now;
    let failures = before.map_or(0, |tries| tries.failures).saturating_add(1);
    let wait = back_off(failures, failure, jitter).as_secs();
    Tries {
        failures,
        until: now.saturating_add(i64::try_from(wait).unwrap_or(Moment::MAX)),
        limited: failure.limited,
        problem: words,
        at: now,
    }
}

/// When and from whom to order next: from the first of `issuers` whose wait is over. One further down the
/// list is only asked once those before it failed repeatedly, or are not to be asked for hours.
pub fn next<'a>(
    issuers: &'a [String],
    tries: &BTreeMap<String, Tries>,
    now: Moment,
) -> Option<Next<'a>> {
    let mut best: Option<Next<'a>> = None;
    for issuer in issuers {
        let before = tries.get(issuer);
        let at = before.map_or(now, |before| sane(before, now));
        if at <= now {
            return Some(Next { at, issuer });
        }
        if best.is_none_or(|best| at < best.at) {
            best = Some(Next { at, issuer });
        }
        if before.is_none_or(|before| before.failures < PATIENCE && !before.limited) {
            break;
        }
    }
    best
}

/// The end of a wait, unless it was computed by a clock that ran ahead of what it is now.
fn sane(tried: &Tries, now: Moment) -> Moment {
    let most = i64::try_from(LONGEST_ASKED.as_secs()).unwrap_or(0);
    if tried.at > now.saturating_add(60) || tried.until > now.saturating_add(most) {
        now
    } else {
        tried.until
    }
}

/// When to ask again for the issuer's window.
pub fn ask_again(now: Moment, wanted: Duration) -> Moment {
    let (least, most) = ASK;
    let wait = wanted.clamp(least, most).as_secs();
    now.saturating_add(i64::try_from(wait).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn issuers(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn tries(failures: u32, at: Moment, until: Moment, limited: bool) -> Tries {
        Tries {
            failures,
            until,
            limited,
            problem: String::new(),
            at,
        }
    }

    #[test]
    fn renews_when_two_thirds_have_passed_less_a_little() {
        for seed in [0, 1, 17, u64::MAX] {
            let at = renewal((0, 90 * DAY), None, seed);
            assert!((55 * DAY..=60 * DAY).contains(&at), "{at}");
        }
        assert_ne!(
            renewal((0, 90 * DAY), None, 1),
            renewal((0, 90 * DAY), None, 5_000)
        );
    }

    #[test]
    fn renews_within_the_issuers_window() {
        for seed in [0, 3, u64::MAX] {
            let at = renewal((0, 90 * DAY), Some((10 * DAY, 12 * DAY)), seed);
            assert!((10 * DAY..=12 * DAY).contains(&at), "{at}");
        }
        // A window in the past, or written the wrong way round, is a moment too.
        assert_eq!(renewal((0, 90), Some((-50, -50)), 7), -50);
        assert_eq!(renewal((0, 90), Some((5, 1)), 7), 5);
    }

    #[test]
    fn nonsense_lifetimes_do_no_harm() {
        assert_eq!(renewal((10, 10), None, 9), 10);
        assert_eq!(renewal((10, 5), None, 9), 10);
        renewal((Moment::MIN, Moment::MAX), None, u64::MAX);
        renewal((0, 1), Some((Moment::MIN, Moment::MAX)), u64::MAX);
    }

    #[test]
    fn waits_grow_and_end() {
        let plain = Failure::default();
        let wait = |failures| back_off(failures, plain, 0.5).as_secs();
        assert_eq!((wait(1), wait(2), wait(3)), (30, 60, 120));
        assert_eq!(wait(40), LONGEST.as_secs());
        assert!(back_off(1, plain, 0.0) < back_off(1, plain, 1.0));
    }

    #[test]
    fn limits_of_the_issuer_count_hours() {
        let limited = Failure {
            limited: true,
            retry_after: None,
        };
        assert_eq!(back_off(1, limited, 0.5), Duration::from_hours(1));
    }

    #[test]
    fn what_the_issuer_asks_for_is_not_undercut_but_bounded() {
        let asked = |retry_after| Failure {
            limited: false,
            retry_after: Some(retry_after),
        };
        let two = Duration::from_hours(2);
        assert_eq!(back_off(1, asked(two), 0.0), two);
        assert_eq!(
            back_off(1, asked(Duration::from_hours(999)), 0.5),
            LONGEST_ASKED
        );
        assert_eq!(
            back_off(2, asked(Duration::from_secs(1)), 0.5).as_secs(),
            60
        );
    }

    #[test]
    fn the_next_issuer_is_asked_after_repeated_failures() {
        let list = issuers(&["a", "b"]);
        let at = |tries: &[(&str, Tries)], now| {
            let tries = tries
                .iter()
                .map(|(name, tries)| ((*name).to_owned(), tries.clone()));
            let tries = tries.collect();
            next(&list, &tries, now).map(|next| (next.at, next.issuer.to_owned()))
        };
        let some = |at: Moment, issuer: &str| Some((at, issuer.to_owned()));

        assert_eq!(at(&[], 100), some(100, "a"));
        assert_eq!(at(&[("a", tries(1, 90, 120, false))], 100), some(120, "a"));
        assert_eq!(at(&[("a", tries(2, 90, 150, false))], 100), some(100, "b"));
        assert_eq!(at(&[("a", tries(1, 90, 3_690, true))], 100), some(100, "b"));
        let both = [
            ("a", tries(3, 90, 150, false)),
            ("b", tries(1, 95, 125, false)),
        ];
        assert_eq!(at(&both, 100), some(125, "b"));
        assert_eq!(at(&both, 160), some(150, "a"));
    }

    #[test]
    fn nobody_is_asked_without_an_issuer() {
        assert_eq!(next(&[], &BTreeMap::new(), 0), None);
    }

    #[test]
    fn a_wait_that_a_wrong_clock_wrote_down_does_not_hold() {
        let list = issuers(&["a"]);
        let ahead = 400 * DAY;
        let tries = BTreeMap::from([("a".to_owned(), tries(1, ahead, ahead + 30, false))]);
        assert_eq!(next(&list, &tries, 100).map(|next| next.at), Some(100));
    }

    #[test]
    fn the_window_is_asked_for_within_bounds() {
        assert_eq!(ask_again(0, Duration::ZERO), 60);
        assert_eq!(ask_again(0, Duration::from_hours(6)), 6 * 3_600);
        assert_eq!(ask_again(0, Duration::from_hours(600)), DAY);
    }
}
