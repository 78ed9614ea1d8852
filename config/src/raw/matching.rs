//! `match = { … }`: conditions on a request.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, Table, TextOr};

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Match {
    /// On the normalised path: a string is the whole path, else a table with exactly one of `exact`,
    /// `prefix`, `starts_with`, `regex`.
    pub path: Option<TextOr<PathMatch>>,
    /// A method, or a list of which one must hold: `GET`. Case-sensitive.
    pub method: Option<OneOrMany<String>>,
    /// Headers by name, each of which must hold: a string is the whole value, else a table with
    /// exactly one of `exact`, `starts_with`, `regex`, `present`. Every single value of a repeated
    /// header and the joined value are tried.
    pub headers: Option<Table<TextOr<ValueMatch>>>,
    /// Parameters of the query by name, percent-decoded, each of which must hold; as for `headers`.
    pub query: Option<Table<TextOr<ValueMatch>>>,
    /// Cookies by name, each of which must hold; as for `headers`.
    pub cookies: Option<Table<TextOr<ValueMatch>>>,
    /// The client's address is this one or in this network (`10.0.0.0/8`), or in one of a list.
    pub client: Option<OneOrMany<String>>,
    /// The request came in on this listener, or on one of a list.
    pub listener: Option<OneOrMany<String>>,
}

/// A condition on the path: exactly one key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct PathMatch {
    /// The whole path.
    pub exact: Option<String>,
    /// Whole segments: `/api` admits `/api` and `/api/pets`, not `/apis`.
    pub prefix: Option<String>,
    /// The first characters.
    pub starts_with: Option<String>,
    /// A regular expression for the whole path; its groups are the captures `{1}` to `{9}`.
    pub regex: Option<String>,
}

/// A condition on a value that may be absent: exactly one key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ValueMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// The first characters.
    pub starts_with: Option<String>,
    /// A regular expression for the whole value.
    pub regex: Option<String>,
    /// Whether there is a value at all.
    pub present: Option<bool>,
}
