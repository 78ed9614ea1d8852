//! Filters: what changes a request or a response on its way. Keys on listener, route or rule;
//! the nearest wins whole.

use serde::Serialize;

use super::{HeaderName, Limit, PathChange, Template, canonical};

/// One level's filters, `use` already resolved. `None`: this level says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Filters {
    /// Edits of the request's headers before it goes upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream, refusals included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// The largest request body, in bytes.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_size_or_off"
    )]
    pub max_body: Option<Limit<u64>>,
}

impl Filters {
    /// Bodies are streamed, so this protects origins, not the gateway's memory.
    pub const MAX_BODY: Limit<u64> = Limit::At(1 << 30);
}

/// Edits of headers, applied in the order remove, set, add.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HeaderEdits {
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Replaces every value of that name.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub set: Vec<(HeaderName, Template)>,
    /// Appended to what is there.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::lines"
    )]
    pub add: Vec<(HeaderName, Template)>,
}

/// Changes of path and host before the request goes upstream. The query is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rewrite {
    /// The new path; none keeps it.
    #[serde(flatten)]
    pub path: Option<PathChange>,
    /// The new `Host`; none keeps the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Template>,
}
