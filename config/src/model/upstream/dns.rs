//! `[dns]`: how names of endpoints are resolved.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::model::canonical;

/// How the gateway resolves names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Servers to ask; empty means those of the system (`/etc/resolv.conf`, with `/etc/hosts`).
    pub servers: Vec<SocketAddr>,
    /// The shortest time between two look-ups of a name, whatever its TTL says.
    #[serde(serialize_with = "canonical::time")]
    pub min_refresh: Duration,
    /// The longest time between two look-ups of a name.
    #[serde(serialize_with = "canonical::time")]
    pub max_refresh: Duration,
    /// How long one look-up may take.
    #[serde(serialize_with = "canonical::time")]
    pub timeout: Duration,
}

impl Dns {
    /// A TTL of 0 must not become a storm.
    pub const MIN_REFRESH: Duration = Duration::from_secs(5);
    /// A moved service is found again within this time.
    pub const MAX_REFRESH: Duration = Duration::from_mins(1);
    /// What resolvers commonly wait.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_refresh: Self::MIN_REFRESH,
            max_refresh: Self::MAX_REFRESH,
            timeout: Self::TIMEOUT,
        }
    }
}
