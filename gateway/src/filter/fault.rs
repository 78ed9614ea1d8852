//! Failures on purpose, to see whether clients bear them.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use sluice_config::model::{Fault, FaultStatus, GrpcStatus};

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harm {
    /// It is held back first.
    pub delay: Option<Duration>,
    /// It is answered with this then.
    pub abort: Option<(StatusCode, GrpcStatus)>,
}

/// None where nothing is ever done.
pub(super) fn compile(fault: Option<&Fault>) -> Option<Fault> {
    let fault = fault?;
    let delays = fault.delay.is_some_and(|it| !it.percent.is_none());
    let aborts = fault.abort.is_some_and(|it| !it.percent.is_none());
    (delays || aborts).then(|| fault.clone())
}

/// Both are decided by numbers of their own, so that they do not coincide.
pub(super) fn harm(
    fault: &Fault,
    headers: &HeaderMap,
    mut random: impl FnMut() -> u64,
) -> Option<Harm> {
    if let Some(name) = &fault.header
        && !headers.contains_key(name.as_str())
    {
        return None;
    }
    let delay = fault.delay.filter(|it| it.percent.takes(random()));
    let abort = fault.abort.filter(|it| it.percent.takes(random()));
    let harm = Harm {
        delay: delay.map(|it| it.duration),
        abort: abort.map(|it| told(it.with)),
    };
    (harm.delay.is_some() || harm.abort.is_some()).then_some(harm)
}

fn told(with: FaultStatus) -> (StatusCode, GrpcStatus) {
    // The check admits statuses only.
    let status = StatusCode::from_u16(with.http()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, with.grpc())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
    use sluice_config::model::{FaultAbort, FaultDelay, HeaderName, Percent};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn fault(delay: f64, abort: f64) -> Fault {
        Fault {
            delay: Percent::new(delay).map(|percent| FaultDelay {
                percent,
                duration: PAUSE,
            }),
            abort: Percent::new(abort).map(|percent| FaultAbort {
                percent,
                with: FaultStatus::Status(503),
            }),
            header: None,
        }
    }

    #[test]
    fn as_many_requests_as_were_asked_for_are_harmed_each_way_by_itself() {
        let mut random = StdRng::seed_from_u64(7);
        let fault = fault(10.0, 5.0);
        let (mut delayed, mut aborted, mut both) = (0_u32, 0_u32, 0_u32);
        for _ in 0..10_000 {
            let Some(harm) = harm(&fault, &HeaderMap::new(), || random.random()) else {
                continue;
            };
            delayed += u32::from(harm.delay == Some(PAUSE));
            aborted += u32::from(harm.abort.is_some());
            both += u32::from(harm.delay.is_some() && harm.abort.is_some());
        }
        assert!((950..=1050).contains(&delayed), "{delayed}");
        assert!((450..=550).contains(&aborted), "{aborted}");
        assert!((25..=75).contains(&both), "{both}");
    }

    #[test]
    fn all_and_none_mean_what_they_say() {
        for random in [0, 1, 999_999, 1_000_000, u64::MAX] {
            let all = harm(&fault(100.0, 100.0), &HeaderMap::new(), || random);
            assert_eq!(all.and_then(|it| it.delay), Some(PAUSE));
            assert_eq!(harm(&fault(0.0, 0.0), &HeaderMap::new(), || random), None);
        }
        assert_eq!(compile(Some(&fault(0.0, 0.0))), None);
        assert_eq!(compile(Some(&Fault::default())), None);
        assert!(compile(Some(&fault(0.1, 0.0))).is_some());
    }

    #[test]
    fn with_a_header_only_requests_that_have_it_are_harmed() {
        let fault = Fault {
            header: HeaderName::new("X-Chaos"),
            ..fault(0.0, 100.0)
        };
        let mut headers = HeaderMap::new();
        assert_eq!(harm(&fault, &headers, || 0), None);
        headers.insert("x-chaos", HeaderValue::from_static(""));
        assert!(harm(&fault, &headers, || 0).is_some());
    }

    #[test]
    fn each_protocol_is_told_what_stands_for_the_status_of_the_other() {
        for (with, status, grpc) in [
            (FaultStatus::Status(503), 503, GrpcStatus::Unavailable),
            (FaultStatus::Status(418), 418, GrpcStatus::Unknown),
            (
                FaultStatus::Grpc(GrpcStatus::DeadlineExceeded),
                504,
                GrpcStatus::DeadlineExceeded,
            ),
            (
                FaultStatus::Grpc(GrpcStatus::Cancelled),
                499,
                GrpcStatus::Cancelled,
            ),
        ] {
            let (told_status, told_grpc) = told(with);
            assert_eq!((told_status.as_u16(), told_grpc), (status, grpc));
        }
    }
}
