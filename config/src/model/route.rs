//! Routes: hosts and ordered rules.

mod mode;
pub mod order;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{
    Action, ClientCertificateMode, ClientCertificates, Filters, HeaderName, Limit, Listener,
    Method, Pattern, canonical,
};
use crate::names::{ListenerName, RouteName, RuleName};

pub use mode::Mode;

/// Hosts and ordered rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// The listeners it is bound to; never empty, and each can hand it what its mode says.
    pub listeners: Vec<ListenerName>,
    /// What it takes from them.
    pub mode: Mode,
    /// The hosts it answers; never empty (`*` when none is written).
    pub hosts: Vec<HostPattern>,
    /// Rules of a route with a higher priority come first where routes share a host.
    pub priority: i32,
    /// In order; the catch-all from `to`, `redirect` or `respond` on the route stands last.
    pub rules: Vec<Arc<Rule>>,
    /// How long a request may take as a whole, for rules that do not say.
    pub timeout: Option<Limit<Duration>>,
    /// Filters for every rule that does not say otherwise.
    pub filters: Filters,
    /// Whose certificates its hosts ask for; wins whole over what its listeners say.
    pub client_certificates: Option<ClientCertificates>,
}

/// The canonical form: the catch-all rule stands on the route itself.
impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'r> {
            listeners: &'r [ListenerName],
            // Where http is possible it is also what is meant when nothing is said.
            #[serde(skip_serializing_if = "Mode::is_http")]
            mode: Mode,
            hosts: &'r [HostPattern],
            priority: i32,
            #[serde(
                skip_serializing_if = "Option::is_none",
                serialize_with = "canonical::maybe_time_or_off"
            )]
            timeout: Option<Limit<Duration>>,
            #[serde(flatten)]
            catch_all: Option<&'r Action>,
            #[serde(flatten)]
            filters: &'r Filters,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_certificates: &'r Option<ClientCertificates>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            rules: &'r [Arc<Rule>],
        }

        let (catch_all, rules) = match self.rules.split_last() {
            Some((last, rules)) if last.name == RuleName::catch_all() => {
                (Some(&last.action), rules)
            }
            _ => (None, self.rules.as_slice()),
        };
        let form = Form {
            listeners: &self.listeners,
            mode: self.mode,
            hosts: &self.hosts,
            priority: self.priority,
            timeout: self.timeout,
            catch_all,
            filters: &self.filters,
            client_certificates: &self.client_certificates,
            rules,
        };
        form.serialize(serializer)
    }
}

impl Route {
    /// Streams and downloads last as long as they last.
    pub const TIMEOUT: Limit<Duration> = Limit::Off;

    /// Whose certificates are asked for where it is reached by `listener`; none where nobody's.
    pub fn client_certificates_on<'a>(
        &'a self,
        listener: &'a Listener,
    ) -> Option<&'a ClientCertificates> {
        let inside = listener.hands_from_tls(self.mode);
        let tls = listener.tls.as_ref().filter(|_| inside)?;
        let asked = self.client_certificates.as_ref();
        asked
            .or(tls.client_certificates.as_ref())
            .filter(|asked| asked.mode != ClientCertificateMode::Off)
    }

    /// Whether nobody is served by `listener` who has not shown a certificate, with TLS or without.
    pub fn demands_certificate_on(&self, listener: &Listener) -> bool {
        let asked = self.client_certificates.as_ref();
        let asked = asked.or_else(|| self.client_certificates_on(listener));
        asked.is_some_and(|asked| asked.mode == ClientCertificateMode::Required)
    }
}

/// Which requests, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Unique in its route.
    #[serde(skip_serializing_if = "RuleName::is_by_position")]
    pub name: RuleName,
    /// Any of these; empty means every request.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// What happens.
    #[serde(flatten)]
    pub action: Action,
    /// How long a request may take as a whole.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_time_or_off"
    )]
    pub timeout: Option<Limit<Duration>>,
    /// Filters of this rule.
    #[serde(flatten)]
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
    #[serde(rename = "method", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Each must hold. Every single value and the joined value are tried.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_name")]
    pub headers: Vec<HeaderMatch>,
    /// Parameters of the query, percent-decoded; each must hold. Names are case-sensitive.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub query: Vec<(String, ValueMatch)>,
    /// Cookies; each must hold. Names are case-sensitive.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub cookies: Vec<(String, ValueMatch)>,
    /// The client's address is in any of these; empty means every address.
    #[serde(rename = "client", skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<IpNet>,
    /// Any of these; empty means every listener of the route.
    #[serde(rename = "listener", skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerName>,
    /// Our side of the connection is in any of these; empty means every address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<IpNet>,
    /// The port on our side is in any of these; empty means every port.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::ports"
    )]
    pub destination_port: Vec<RangeInclusive<u16>>,
    /// The client offers any of these inside TLS, or one of them was agreed on; empty means whatever
    /// it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// On the name that the client asks for in its TLS handshake; names are lower-case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<ValueMatch>,
}

fn by_name<S: Serializer>(headers: &[HeaderMatch], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|header| (&header.name, &header.value)))
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// What must hold.
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
