//! `to`, `redirect`, `respond`: what a rule does.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, Table};

/// One of several places where a request can go: exactly one of `upstream`, `service`, `address`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Target {
    /// The name of an upstream of this configuration.
    pub upstream: Option<String>,
    /// The name of a discovered service; while it is not known, requests answer 503
    /// `unknown_service`.
    pub service: Option<String>,
    /// An address: `10.0.0.5:8080`, `[::1]:80`, `name:8080`, `http://name`, `unix:/path`.
    pub address: Option<String>,
    /// The port of the service; required with `service`. Range 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
    /// Its share among the targets of the rule; 0 gets nothing. Range 0 to 1000000. Default `1`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<i64>,
}

/// An answer that sends the client elsewhere. What is not said is kept from the request. At most one
/// of `path`, `prefix`, `regex`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default `302`.
    #[schemars(range(min = 301, max = 308))]
    pub status: Option<i64>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The new host, a name or an address.
    pub host: Option<String>,
    /// The new port. When only `scheme` is given the port becomes that scheme's. Range 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
    /// The new path; variables such as `{request.path}` and captures `{1}` are filled in.
    pub path: Option<String>,
    /// Instead of the prefix that the rule matched; the rest of the path is kept. Every match of the
    /// rule must have a path prefix.
    pub prefix: Option<String>,
    /// Replaces the whole path where an expression matches it.
    pub regex: Option<PathRegex>,
    /// Whether the query is kept. Default `true`.
    pub keep_query: Option<bool>,
}

/// A change of path by regular expression. Where it does not match, the path stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct PathRegex {
    /// A regular expression for the whole path. Required.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The new path; `{1}` to `{9}` are the groups of `match`. Required.
    pub to: Option<String>,
}

/// An answer from the configuration. At most one of `body`, `file`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Respond {
    /// The status. Range 200 to 599. Default `200`.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<i64>,
    /// Headers by name; a list stands for several lines. Variables such as `{client.ip}` are filled
    /// in.
    pub headers: Option<Table<OneOrMany<String>>>,
    /// The body, as it is. Default empty.
    pub body: Option<String>,
    /// A file that holds the body, of at most `1MiB`; it is read when the configuration is. A
    /// relative path is meant from the folder of the file in which it stands.
    pub file: Option<String>,
}
