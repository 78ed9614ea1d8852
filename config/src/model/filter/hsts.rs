//! The filter key `hsts`: what browsers are told to reach by https only.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::canonical;

/// Whether browsers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hsts {
    /// What the origin says goes out.
    Off,
    /// They are told this, whatever the origin says.
    On(HstsTerms),
}

impl Serialize for Hsts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(terms) => terms.serialize(serializer),
        }
    }
}

/// What browsers are told (RFC 6797 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HstsTerms {
    /// How long they remember, in whole seconds.
    #[serde(serialize_with = "canonical::time")]
    pub max_age: Duration,
    /// Whether it holds for every host below too.
    pub include_subdomains: bool,
    /// Whether browsers may be delivered with it.
    pub preload: bool,
}

impl HstsTerms {
    /// A year, which is what the lists that browsers are delivered with ask for.
    pub const MAX_AGE: Duration = Duration::from_hours(365 * 24);
}

impl Default for HstsTerms {
    fn default() -> Self {
        Self {
            max_age: Self::MAX_AGE,
            // Nobody knows here whether every host below is reached by https too.
            include_subdomains: false,
            preload: false,
        }
    }
}
