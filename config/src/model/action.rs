//! What a rule does: forward, redirect, respond.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{HeaderName, Pattern, Template, canonical};
use crate::names::{ServiceName, UpstreamName};

/// What happens to a request that a rule chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send it to one of these, by weight; never empty.
    Forward(Vec<Target>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer from the configuration.
    Respond(Respond),
    /// The rule was refused by `check` and contained: answer 503 `config_refused`.
    Refused,
}

/// The key of a rule or route that says it.
impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forward(targets) => serializer.collect_map([("to", targets)]),
            Self::Redirect(redirect) => serializer.collect_map([("redirect", redirect)]),
            Self::Respond(respond) => serializer.collect_map([("respond", respond)]),
            Self::Refused => serializer.collect_map([("refused", true)]),
        }
    }
}

/// A weighted target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Where to.
    #[serde(flatten)]
    pub destination: Destination,
    /// Its share among the targets of the rule, 0 to 1,000,000. 0 gets nothing.
    pub weight: u32,
}

/// Where a request can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An upstream of this configuration.
    Upstream(UpstreamName),
    /// A discovered service; unknown ones answer 503 `unknown_service`.
    Service {
        /// Its name.
        name: ServiceName,
        /// Its port, 1 to 65535.
        port: u16,
    },
    /// An address, with every default of an upstream.
    Address(Address),
}

/// The keys of a target that say it.
impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Upstream(name) => serializer.collect_map([("upstream", name)]),
            Self::Address(address) => serializer.collect_map([("address", address)]),
            Self::Service { name, port } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("service", name)?;
                map.serialize_entry("port", port)?;
                map.end()
            }
        }
    }
}

/// Where one endpoint is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: HostPort,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP without TLS; which version is the upstream's to say.
    Http,
    /// HTTP/2 without TLS, from the first byte.
    H2c,
    /// HTTP over TLS; which version is the upstream's to say.
    Https,
    /// HTTP/2 over TLS.
    H2,
}

/// The place of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPort {
    /// A literal address.
    Socket(SocketAddr),
    /// A DNS name, resolved in the background.
    Name {
        /// Lower case, without a trailing dot, in ASCII form.
        name: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => self.host.fmt(f),
            Scheme::H2c => write!(f, "h2c://{}", self.host),
            Scheme::Https => write!(f, "https://{}", self.host),
            Scheme::H2 => write!(f, "h2://{}", self.host),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host as it stands in a URL: a name or a literal address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Lower case, ASCII form.
    Name(String),
    /// A literal address.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A change of path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChange {
    /// The whole path; `{1}` is a capture of the rule's path regex.
    #[serde(rename = "path")]
    Replace(Template),
    /// Instead of the prefix that the rule matched; the rest is kept.
    Prefix(String),
    /// Where the expression matches the whole path, the text with its captures; else no change.
    Regex {
        /// Matches the whole path.
        #[serde(rename = "match")]
        pattern: Pattern,
        /// The new path.
        to: Template,
    },
}

/// An answer that sends the client elsewhere. What is not said is kept from the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The new host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The new port. When only scheme is given the port becomes that scheme's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The new path.
    #[serde(flatten)]
    pub path: Option<PathChange>,
    /// Whether the query is kept.
    pub keep_query: bool,
}

impl Redirect {
    /// Nobody caches it for ever.
    pub const STATUS: u16 = 302;
}

/// An answer from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// In order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::lines"
    )]
    pub headers: Vec<(HeaderName, Template)>,
    /// The body; none is empty.
    #[serde(flatten)]
    pub body: Option<RespondBody>,
}

/// Where the body of an answer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RespondBody {
    /// Written in the configuration.
    #[serde(rename = "body")]
    Text(String),
    /// Read by the load step, at most [`Respond::MAX_FILE`] bytes.
    File(PathBuf),
}

impl Respond {
    /// The body is held in memory.
    pub const MAX_FILE: u64 = 1 << 20;
}
