//! Warns before certificates end, and shouts when they have.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_certs::{Pairs, Store};
use time::OffsetDateTime;
use tokio::sync::Notify;

/// How often to look.
const EVERY: Duration = Duration::from_hours(1);

/// Days before the end from which it is told, each once.
const DAYS: [i64; 3] = [14, 7, 1];

/// Looks at every certificate from time to time, and whenever some were `changed`.
pub(super) async fn watch(store: Store, changed: Arc<Notify>) {
    let mut told = Told::new();
    loop {
        let mut now_told = Told::new();
        for slot in store.list() {
            if let Some(pairs) = slot.pairs() {
                let now = OffsetDateTime::now_utc();
                look(slot.name(), &pairs, now, &told, &mut now_told);
            }
        }
        told = now_told;
        // Late or told makes no difference.
        let _told_or_late = tokio::time::timeout(EVERY, changed.notified()).await;
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

/// What was told last of each certificate, by its fingerprint: over and over while it is over.
type Told = HashMap<[u8; 32], Nearness>;

fn look(name: &str, pairs: &Pairs, now: OffsetDateTime, before: &Told, told: &mut Told) {
    for pair in pairs.iter() {
        let facts = pair.facts();
        let nearness = nearness(facts.not_after, now);
        let last = before.get(&facts.fingerprint);
        let is_news = *last.unwrap_or(&Nearness::Far) < nearness;
        told.insert(facts.fingerprint, nearness);
        let (ends, key) = (facts.not_after, facts.key);
        match nearness {
            Nearness::Over => {
                tracing::error!(certificate = name, %ends, %key, "the certificate has ended");
            }
            Nearness::Within(_) if is_news => {
                tracing::warn!(certificate = name, %ends, %key, "the certificate ends soon");
            }
            Nearness::Far | Nearness::Within(_) => {}
        }
    }
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
}
