//! Warns before certificates end, and shouts when they have.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_certs::{Facts, KeyKind, Store, acme::Keeper};
use time::OffsetDateTime;
use tokio::{sync::Notify, time::Instant};

/// How often to look, and to say again that one has ended. A renewal that is due has as long before
/// anybody is warned.
const EVERY: Duration = Duration::from_hours(1);

/// Days before the end from which it is told, each once.
const DAYS: [i64; 3] = [14, 7, 1];

/// Looks at every certificate from time to time, when one is about to end, and whenever some were
/// `changed`.
pub(super) async fn watch(store: Store, keeper: Keeper, changed: Arc<Notify>) {
    let mut told = Told::new();
    loop {
        let now = OffsetDateTime::now_utc();
        let (mut now_told, mut wait) = (Told::new(), EVERY);
        for ending in endings(&store, &keeper) {
            look(&ending, now, &told, &mut now_told);
            wait = wait.min(ending.quiet(now));
        }
        told = now_told;
        // Late or told makes no difference.
        let _told_or_late = tokio::time::timeout(wait, changed.notified()).await;
    }
}

/// A certificate that ends one day.
struct Ending {
    name: String,
    fingerprint: [u8; 32],
    ends: OffsetDateTime,
    key: KeyKind,
    /// When it will be replaced by itself.
    renewal: Option<OffsetDateTime>,
}

/// Every certificate: those with names, and those that clients asked for.
fn endings(store: &Store, keeper: &Keeper) -> Vec<Ending> {
    let mut all = Vec::new();
    for slot in store.list() {
        let Some(pairs) = slot.pairs() else { continue };
        let pairs = pairs.iter();
        all.extend(pairs.map(|pair| Ending::new(slot.name(), pair.facts(), None)));
    }
    let known: HashMap<[u8; 32], usize> = all
        .iter()
        .enumerate()
        .map(|(place, ending)| (ending.fingerprint, place))
        .collect();
    for state in &*keeper.states() {
        let Some(facts) = &state.facts else { continue };
        let renewal = state.renewal.map(OffsetDateTime::from_unix_timestamp);
        let renewal = renewal.and_then(Result::ok);
        let known = known.get(&facts.fingerprint);
        match known.and_then(|place| all.get_mut(*place)) {
            Some(ending) => ending.renewal = renewal,
            None => all.push(Ending::new(&state.name, facts, renewal)),
        }
    }
    all
}

impl Ending {
    fn new(name: &str, facts: &Facts, renewal: Option<OffsetDateTime>) -> Self {
        Self {
            name: name.to_owned(),
            fingerprint: facts.fingerprint,
            ends: facts.not_after,
            key: facts.key,
            renewal,
        }
    }

    /// How near its end is, as far as anybody needs to know: what is renewed in time ends unnoticed.
    fn nearness(&self, now: OffsetDateTime) -> Nearness {
        let nearness = nearness(self.ends, now);
        let is_late = self.renewal.is_none_or(|renewal| now - renewal >= EVERY);
        if nearness == Nearness::Over || is_late {
            nearness
        } else {
            Nearness::Far
        }
    }

    /// How long nothing changes about it.
    fn quiet(&self, now: OffsetDateTime) -> Duration {
        let left = self.ends - now;
        let steps = DAYS.map(|days| left - time::Duration::days(days));
        // At its end it is good; a second later it is not.
        let steps = steps.into_iter().chain([left + time::Duration::SECOND]);
        let left = steps.filter_map(|step| Duration::try_from(step).ok());
        left.filter(|left| !left.is_zero()).min().unwrap_or(EVERY)
    }
}

/// How near an end is: nothing, one of [`DAYS`] by its position from 1, or over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Far,
    Within(usize),
    Over,
}

fn nearness(end: OffsetDateTime, now: OffsetDateTime) -> Nearness {
    if now > end {
        return Nearness::Over;
    }
    let left = end - now;
    let within = DAYS
        .iter()
        .filter(|days| left <= time::Duration::days(**days));
    match within.count() {
        0 => Nearness::Far,
        stage => Nearness::Within(stage),
    }
}

/// What was told last of each certificate, by its fingerprint, and when.
type Told = HashMap<[u8; 32], (Nearness, Instant)>;

fn look(ending: &Ending, now: OffsetDateTime, before: &Told, told: &mut Told) {
    let nearness = ending.nearness(now);
    let (last, at) = match before.get(&ending.fingerprint) {
        Some((last, at)) => (*last, Some(*at)),
        None => (Nearness::Far, None),
    };
    let is_again = at.is_none_or(|at| at.elapsed() >= EVERY);
    let (name, ends, key) = (&ending.name, ending.ends, ending.key);
    let is_told = match nearness {
        Nearness::Over if last < nearness || is_again => {
            tracing::error!(
                certificate = name,
                %ends,
                %key,
                "the certificate has ended, and is served all the same"
            );
            true
        }
        Nearness::Within(_) if last < nearness => {
            tracing::warn!(certificate = name, %ends, %key, "the certificate ends soon");
            true
        }
        Nearness::Far | Nearness::Within(_) | Nearness::Over => false,
    };
    let at = at.filter(|_| !is_told).unwrap_or_else(Instant::now);
    told.insert(ending.fingerprint, (nearness, at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_end_the_louder() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(10_000);
        for (hours, expected) in [
            (24 * 15, Nearness::Far),
            (24 * 14, Nearness::Within(1)),
            (24 * 8, Nearness::Within(1)),
            (24 * 7, Nearness::Within(2)),
            (24, Nearness::Within(3)),
            (0, Nearness::Within(3)),
            (-1, Nearness::Over),
        ] {
            let end = now + time::Duration::hours(hours);
            assert_eq!(nearness(end, now), expected, "{hours} hours before");
        }
    }

    /// One that ends so many hours from now, and is renewed so many hours from now.
    fn ending(now: OffsetDateTime, ends: i64, renewal: Option<i64>) -> Ending {
        let after = |hours| now + time::Duration::hours(hours);
        Ending {
            name: "a".to_owned(),
            fingerprint: [0; 32],
            ends: after(ends),
            key: KeyKind::Other,
            renewal: renewal.map(after),
        }
    }

    #[test]
    fn what_is_renewed_in_time_is_not_worth_a_warning() {
        let now = OffsetDateTime::now_utc();
        for (ends, renewal, expected) in [
            (48, Some(12), Nearness::Far),
            (48, Some(0), Nearness::Far),
            (48, Some(-2), Nearness::Within(2)),
            (48, None, Nearness::Within(2)),
            (-1, Some(12), Nearness::Over),
        ] {
            let ending = ending(now, ends, renewal);
            assert_eq!(ending.nearness(now), expected, "{ends} {renewal:?}");
        }
    }

    #[test]
    fn it_is_looked_again_when_something_changes_and_at_least_every_hour() {
        let now = OffsetDateTime::now_utc();
        let quiet = |ends| ending(now, ends, None).quiet(now);
        assert_eq!(quiet(14 * 24 + 2), Duration::from_hours(2));
        assert_eq!(quiet(25), Duration::from_hours(1));
        assert_eq!(quiet(3), Duration::from_hours(3) + Duration::from_secs(1));
        assert_eq!(quiet(-3), EVERY);
    }
}
