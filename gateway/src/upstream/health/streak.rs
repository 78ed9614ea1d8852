//! When checks make an endpoint healthy or unhealthy, and when the next one is due. Pure.

use std::time::Duration;

use sluice_config::model::HealthCheck;

/// What the checks of an endpoint have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Streak {
    pub(super) is_unhealthy: bool,
    /// How many checks in a row have said otherwise.
    against: u32,
}

impl Streak {
    /// Takes the outcome of a check in; says whether the endpoint is something else now.
    pub(super) fn note(&mut self, passed: bool, check: &HealthCheck) -> bool {
        if passed != self.is_unhealthy {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.is_unhealthy {
            check.healthy
        } else {
            check.unhealthy
        };
        if self.against < needed {
            return false;
        }
        *self = Self {
            is_unhealthy: !self.is_unhealthy,
            against: 0,
        };
        true
    }
}

/// From the beginning of one check to that of the next: the interval, shorter or longer by what `random`
/// makes of the jitter.
pub(super) fn pause(check: &HealthCheck, random: u32) -> Duration {
    let most = check.interval.saturating_mul(check.jitter) / 100;
    let part = f64::from(random) / f64::from(u32::MAX);
    check
        .interval
        .saturating_sub(most)
        .saturating_add(most.saturating_mul(2).mul_f64(part))
}

#[cfg(test)]
mod tests {
    use sluice_config::model::{Question, TcpCheck};

    use super::*;

    fn check(healthy: u32, unhealthy: u32, jitter: u32) -> HealthCheck {
        HealthCheck {
            question: Question::Tcp(TcpCheck::default()),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            jitter,
            healthy,
            unhealthy,
            port: None,
        }
    }

    /// What an endpoint is after each of some checks: `+` passed, `-` failed; `H` or `u`.
    fn course(healthy: u32, unhealthy: u32, outcomes: &str) -> String {
        let check = check(healthy, unhealthy, 0);
        let mut streak = Streak::default();
        let mut before = false;
        let states = outcomes.chars().map(|outcome| {
            let changed = streak.note(outcome == '+', &check);
            assert_eq!(changed, streak.is_unhealthy != before, "{outcomes}");
            before = streak.is_unhealthy;
            if before { 'u' } else { 'H' }
        });
        states.collect()
    }

    #[test]
    fn only_checks_in_a_row_change_what_an_endpoint_is() {
        for (healthy, unhealthy, outcomes, expected) in [
            (2, 3, "+++", "HHH"),
            (2, 3, "---", "HHu"),
            (2, 3, "--+--+---", "HHHHHHHHu"),
            (2, 3, "---+-++", "HHuuuuH"),
            (2, 3, "---++--", "HHuuHHH"),
            (1, 1, "-+-+", "uHuH"),
            (3, 1, "-++-+++", "uuuuuuH"),
        ] {
            assert_eq!(
                course(healthy, unhealthy, outcomes),
                expected,
                "{outcomes} with {healthy} and {unhealthy}"
            );
        }
    }

    #[test]
    fn an_interval_is_longer_or_shorter_by_its_jitter_at_most() {
        let seconds = |jitter, random| pause(&check(1, 1, jitter), random).as_secs_f64();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} instead of {b}");
        near(seconds(0, u32::MAX), 10.0);
        near(seconds(10, 0), 9.0);
        near(seconds(10, u32::MAX / 2), 10.0);
        near(seconds(10, u32::MAX), 11.0);
        near(seconds(100, 0), 0.0);
        near(seconds(100, u32::MAX), 20.0);
    }
}
