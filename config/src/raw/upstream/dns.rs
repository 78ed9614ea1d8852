//! `[dns]`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::{DurationText, OneOrMany};

/// How names of endpoints are resolved, in the background.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Dns {
    /// Servers to ask, each an address with an optional port: `10.0.0.2`, `10.0.0.2:5353`.
    /// Default those of the system (`/etc/resolv.conf`, with `/etc/hosts`).
    pub servers: Option<OneOrMany<String>>,
    /// The shortest time between two look-ups of a name, whatever its record says.
    /// Range `10ms` to `24h`. Default `5s`.
    pub min_refresh: Option<DurationText>,
    /// The longest time between two look-ups of a name; not shorter than `min_refresh`.
    /// Range `10ms` to `24h`. Default `1m`.
    pub max_refresh: Option<DurationText>,
    /// How long one look-up may take. Range `10ms` to `10m`. Default `5s`.
    pub timeout: Option<DurationText>,
}
