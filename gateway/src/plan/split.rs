//! The weighted destinations of a rule.

use std::sync::Arc;

use sluice_config::names::ServiceName;

use crate::upstream::Upstream;

/// Where a request can be sent.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A group of endpoints.
    Upstream(Arc<Upstream>),
    /// A service that nobody has told us of.
    UnknownService(ServiceName),
}

/// Destinations by weight.
#[derive(Debug)]
pub struct Split {
    /// Each with the sum of the weights up to and including its own.
    targets: Vec<(u64, Destination)>,
}

impl Split {
    /// Destinations with their weights; those of weight 0 are left out.
    pub fn new(targets: impl IntoIterator<Item = (u32, Destination)>) -> Self {
        let mut sum = 0_u64;
        let targets = targets
            .into_iter()
            .filter(|(weight, _)| *weight > 0)
            .map(|(weight, destination)| {
                sum = sum.saturating_add(u64::from(weight));
                (sum, destination)
            })
            .collect();
        Self { targets }
    }

    /// The destination of a request for which `random` was drawn, each in proportion to its
    /// weight. None when every weight is 0.
    pub fn pick(&self, random: u64) -> Option<&Destination> {
        let (total, last) = self.targets.last()?;
        if self.targets.len() == 1 {
            return Some(last);
        }
        // Scales `random` from [0, 2^64) to [0, total).
        let point = (u128::from(random) * u128::from(*total)) >> 64;
        let index = self
            .targets
            .partition_point(|(sum, _)| u128::from(*sum) <= point);
        self.targets.get(index).map(|(_, destination)| destination)
    }

    /// Every destination that can be picked.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.targets.iter().map(|(_, destination)| destination)
    }
}
