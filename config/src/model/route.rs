//! Routes: hosts and ordered rules.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{Action, Filters, HeaderName, Limit, Method, Pattern};
use crate::names::{ListenerName, RouteName, RuleName};

/// Hosts and ordered rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// The listeners it is bound to; never empty (routes that name none get all http listeners).
    pub listeners: Vec<ListenerName>,
    /// The hosts it answers; never empty (`*` when none is written).
    pub hosts: Vec<HostPattern>,
    /// Rules of a route with a higher priority come first where routes share a host.
    pub priority: i32,
    /// In order; the catch-all from `to`, `redirect` or `respond` on the route stands last.
    pub rules: Vec<Arc<Rule>>,
    /// How long a request may take as a whole, for rules that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Limit<Duration>>,
    /// Filters for every rule that does not say otherwise.
    pub filters: Filters,
}

impl Route {
    /// Streams and downloads last as long as they last.
    pub const TIMEOUT: Limit<Duration> = Limit::Off;
}

/// Which requests, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Unique in its route.
    pub name: RuleName,
    /// Any of these; empty means every request.
    pub matches: Vec<Match>,
    /// What happens.
    pub action: Action,
    /// How long a request may take as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Limit<Duration>>,
    /// Filters of this rule.
    pub filters: Filters,
}

/// A host that a route answers. Lower case, without a trailing dot, in ASCII (IDNA) form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: one or more labels before it.
    Wildcard(String),
    /// `*`
    Any,
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of conditions, all of which must hold. Default: no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Match {
    /// On the normalised path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Any of these; empty means every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Each must hold. Every single value and the joined value are tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Parameters of the query, percent-decoded; each must hold. Names are case-sensitive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, ValueMatch)>,
    /// Cookies; each must hold. Names are case-sensitive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<(String, ValueMatch)>,
    /// The client's address is in any of these; empty means every address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<IpNet>,
    /// Any of these; empty means every listener of the route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerName>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments: `/foo` admits `/foo` and `/foo/bar`, not `/foobar`. Begins with `/`, does
    /// not end with `/` unless it is `/`.
    Prefix(String),
    /// The first characters.
    StartsWith(String),
    /// The whole path.
    Regex(Pattern),
}

/// A condition on a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// What must hold.
    #[serde(flatten)]
    pub value: ValueMatch,
}

/// A condition on a value that may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    /// The whole value.
    Exact(String),
    /// The first characters.
    StartsWith(String),
    /// The whole value.
    Regex(Pattern),
    /// Whether there is a value at all.
    Present(bool),
}
