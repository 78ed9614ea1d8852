//! Endpoints that were not there a moment ago, so that whoever comes next gets another one.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::{Choice, EndpointKey};

/// How long an endpoint is avoided.
const AVOIDED: Duration = Duration::from_secs(10);

/// How many are remembered.
const MOST: usize = 32;

/// Endpoints that were not there, and when that was seen.
#[derive(Debug, Default)]
pub(super) struct Avoided(Vec<(EndpointKey, Instant)>);

impl Avoided {
    pub(super) fn add(&mut self, endpoint: &EndpointKey, now: Instant) {
        self.0.retain(|(known, _)| known != endpoint);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push((endpoint.clone(), now));
    }

    /// Any endpoint but these, as long as there are others.
    pub(super) fn choice(&mut self, now: Instant) -> Choice {
        self.0.retain(|(_, seen)| *seen + AVOIDED > now);
        if self.0.is_empty() {
            return Choice::Any;
        }
        Choice::Avoid(
            self.0
                .iter()
                .map(|(endpoint, _)| endpoint.clone())
                .collect(),
        )
    }
}
