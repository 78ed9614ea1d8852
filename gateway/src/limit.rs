//! How often something may happen: a bucket that many ask at once, without a lock.
//!
//! All state is one number (GCRA): the moment at which whatever was let through so far would have been
//! due at an even pace. Pure: the clock is an argument. What must stay true: after a pause as many as
//! the rate counts pass at once, in the long run never more than the rate.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// So many in a while, and no more than that many at once.
#[derive(Debug)]
pub struct Limiter {
    /// Nanoseconds between two at an even pace.
    pace: u64,
    /// How far `due` may be ahead of the clock for one more to pass.
    slack: u64,
    due: AtomicU64,
}

impl Limiter {
    /// `count` in `per`; 0 counts as 1.
    pub fn new(count: u32, per: Duration) -> Self {
        let count = u64::from(count.max(1));
        // Rounded up: what does not divide evenly must not add up to more than the rate.
        let pace = nanoseconds(per).div_ceil(count).max(1);
        Self {
            pace,
            slack: pace.saturating_mul(count.saturating_sub(1)),
            due: AtomicU64::new(0),
        }
    }

    /// Lets one pass at `now`, or says how long to wait for it. `now` is the time since a moment that is
    /// the same for everybody who asks.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let latest = now.saturating_add(self.slack);
        // No clock that shows `now` can have led further: it went back, and nobody waits for it to return.
        let full = latest.saturating_add(self.pace);
        let next = |due: u64| {
            if due <= latest {
                Some(due.max(now).saturating_add(self.pace))
            } else {
                (due > full).then_some(full)
            }
        };
        let update = self
            .due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let (Ok(due) | Err(due)) = update;
        if due <= latest {
            return Ok(());
        }
        let wait = due.min(full).saturating_sub(latest);
        Err(Duration::from_nanos(wait))
    }
}

/// Half a thousand years fit.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    /// How many pass at that moment before one has to wait, and how long that is.
    fn burst(limiter: &Limiter, now: Duration) -> (usize, Duration) {
        let mut passed = 0;
        loop {
            match limiter.take(now) {
                Ok(()) => passed += 1,
                Err(wait) => return (passed, wait),
            }
        }
    }

    #[test]
    fn lets_a_whole_unit_pass_at_once_and_then_keeps_the_pace_to_the_nanosecond() {
        let limiter = Limiter::new(10, SECOND);
        let start = Duration::from_secs(7);
        let pace = Duration::from_millis(100);
        assert_eq!(burst(&limiter, start), (10, pace));
        for step in 1..=25 {
            let due = start + pace * step;
            assert_eq!(
                limiter.take(due.saturating_sub(NANOSECOND)),
                Err(NANOSECOND),
                "{step}"
            );
            assert_eq!(limiter.take(due), Ok(()), "{step}");
            assert_eq!(limiter.take(due), Err(pace), "{step}");
        }
    }

    #[test]
    fn a_pause_gives_back_what_was_taken_and_no_more() {
        let limiter = Limiter::new(4, Duration::from_mins(1));
        let pace = Duration::from_secs(15);
        assert_eq!(burst(&limiter, Duration::ZERO).0, 4);
        assert_eq!(burst(&limiter, pace * 2).0, 2);
        assert_eq!(burst(&limiter, pace * 500), (4, pace));
    }

    #[test]
    fn one_at_a_time_is_a_rate_as_well() {
        let limiter = Limiter::new(1, Duration::from_hours(1));
        assert_eq!(burst(&limiter, SECOND).0, 1);
        assert_eq!(
            limiter.take(SECOND * 3600),
            Err(SECOND),
            "an hour after the first"
        );
        assert_eq!(limiter.take(SECOND * 3601), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_costs_at_most_one_step() {
        let limiter = Limiter::new(10, SECOND);
        assert_eq!(burst(&limiter, SECOND * 1_000_000).0, 10);
        let pace = Duration::from_millis(100);
        assert_eq!(limiter.take(SECOND), Err(pace));
        assert_eq!(limiter.take(SECOND + pace), Ok(()));
        assert_eq!(burst(&limiter, SECOND * 2).0, 9);
    }

    #[test]
    fn the_ends_of_the_clock_are_moments_like_others() {
        let limiter = Limiter::new(u32::MAX, Duration::from_hours(24));
        assert_eq!(limiter.take(Duration::ZERO), Ok(()));
        assert_eq!(limiter.take(Duration::MAX), Ok(()));
        assert_eq!(Limiter::new(0, Duration::ZERO).take(Duration::ZERO), Ok(()));
    }

    #[test]
    fn many_who_ask_at_once_share_one_bucket() {
        let limiter = Limiter::new(1_000, SECOND);
        let passed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if limiter.take(SECOND).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1_000);
    }

    proptest! {
        /// Over any stretch: never more than one unit at once and the pace after it; and who waits as
        /// long as was said passes.
        #[test]
        fn never_more_than_the_rate(
            count in 1_u32..50,
            milliseconds in 1_u64..5_000,
            steps in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let per = Duration::from_millis(milliseconds);
            let limiter = Limiter::new(count, per);
            let mut now = Duration::ZERO;
            let mut passed = Vec::new();
            for step in steps {
                now += Duration::from_nanos(step);
                match limiter.take(now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= per);
                        let almost = (now + wait).saturating_sub(NANOSECOND);
                        prop_assert!(limiter.take(almost).is_err());
                        now += wait;
                        prop_assert!(limiter.take(now).is_ok());
                        passed.push(now);
                    }
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, until) in passed.iter().enumerate().skip(first) {
                    let seen = u128::try_from(last - first + 1).unwrap();
                    let stretch = until.saturating_sub(*from).as_nanos();
                    let most = u128::from(count) + stretch * u128::from(count) / per.as_nanos();
                    prop_assert!(seen <= most, "{seen} in {stretch} ns");
                }
            }
        }
    }
}
