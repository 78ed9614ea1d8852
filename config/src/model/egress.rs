//! `[egress]`: who may reach what outside.

use std::{fmt, ops::RangeInclusive};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{HostPattern, Method, PathMatch, Rate, UpstreamTls, canonical};
use crate::names::{EgressName, UpstreamName};

/// Who may reach what outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// What becomes of an attempt that no rule allows.
    pub default: EgressDefault,
    /// Whether what is refused is refused.
    pub mode: EgressMode,
    /// Ports of CONNECT where no rule lists its own.
    #[serde(serialize_with = "canonical::ports")]
    pub connect_ports: Vec<RangeInclusive<u16>>,
    /// How many destinations the report remembers; 0 for no report.
    pub report: usize,
    /// Networks that are not public and may be reached where no rule says more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// The mark of the packets of connections that lead outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// What is allowed, by name.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_name")]
    pub allow: Vec<EgressRule>,
}

impl Egress {
    /// The one port behind which everybody speaks TLS.
    pub const CONNECT_PORTS: RangeInclusive<u16> = 443..=443;
    /// A few MiB; a company's containers reach a few hundred hosts.
    pub const REPORT: usize = 10_000;

    /// Nothing is allowed: what stands in for one that is refused.
    pub fn closed() -> Self {
        Self {
            report: 0,
            ..Self::default()
        }
    }
}

impl Default for Egress {
    /// An empty table: nothing is allowed.
    fn default() -> Self {
        Self {
            default: EgressDefault::Deny,
            mode: EgressMode::Enforce,
            connect_ports: vec![Self::CONNECT_PORTS],
            report: Self::REPORT,
            addresses: Vec::new(),
            mark: None,
            allow: Vec::new(),
        }
    }
}

fn by_name<S: Serializer>(rules: &[EgressRule], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rules.iter().map(|rule| (&rule.name, rule)))
}

/// What becomes of an attempt that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressDefault {
    /// It is refused.
    Deny,
    /// It may pass, to public addresses and those of [`Egress::addresses`].
    Allow,
}

/// Whether what is refused is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressMode {
    /// It is.
    Enforce,
    /// It is counted and logged, and passes as if no rule were about it; addresses that are not public stay refused.
    Shadow,
}

/// Something that is allowed. All that it says must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressRule {
    /// Its name.
    #[serde(skip)]
    pub name: EgressName,
    /// Any of these; never empty.
    pub hosts: Vec<EgressHost>,
    /// Any of these; none: 443 for tunnels and TLS, 80 and 443 for HTTP.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_ports"
    )]
    pub ports: Option<Vec<RangeInclusive<u16>>>,
    /// What may be spoken; never nothing. Only `http` where there are methods or paths.
    pub protocols: EgressProtocols,
    /// Any of these; empty means every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Any of these, on the normalised path; empty means every path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
    /// Who may.
    #[serde(skip_serializing_if = "EgressFrom::is_anybody")]
    pub from: EgressFrom,
    /// Networks that are not public and that these hosts may resolve to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Whether TLS that asks for no name is covered.
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub without_sni: bool,
    /// Whether TLS is covered whose real name is hidden (ECH).
    #[serde(skip_serializing_if = "canonical::is_false")]
    pub encrypted_client_hello: bool,
    /// How often, for all clients together; `per` is at most an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The proxy through which it goes; then there are no `addresses` and no `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<UpstreamName>,
    /// HTTP of the client goes out inside TLS; every certificate is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

impl EgressRule {
    /// A rule with every default.
    pub fn new(name: EgressName, hosts: Vec<EgressHost>) -> Self {
        Self {
            name,
            hosts,
            ports: None,
            protocols: EgressProtocols::default(),
            methods: Vec::new(),
            paths: Vec::new(),
            from: EgressFrom::default(),
            addresses: Vec::new(),
            without_sni: false,
            encrypted_client_hello: false,
            rate: None,
            via: None,
            tls: None,
        }
    }
}

/// Where somebody may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressHost {
    /// Who asks for a name; never an address.
    Name(HostPattern),
    /// Who asks for an address.
    Network(IpNet),
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host) => host.fmt(f),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl Serialize for EgressHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EgressProtocols {
    /// Requests that we see.
    pub http: bool,
    /// TLS, inside CONNECT or of a redirected stream.
    pub tls: bool,
    /// Anything, inside CONNECT or of a redirected stream.
    pub tcp: bool,
}

impl EgressProtocols {
    /// Requests only.
    pub const HTTP: Self = Self {
        http: true,
        tls: false,
        tcp: false,
    };

    /// The words of those that there are.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [("http", self.http), ("tls", self.tls), ("tcp", self.tcp)];
        let there = all.into_iter().filter(|(_, there)| *there);
        there.map(|(word, _)| word)
    }
}

impl Default for EgressProtocols {
    /// What containers speak outwards, and where it can be told who is spoken to.
    fn default() -> Self {
        Self {
            http: true,
            tls: true,
            tcp: false,
        }
    }
}

impl Serialize for EgressProtocols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

/// Who may. Of each kind that is there one must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct EgressFrom {
    /// What the client's certificate says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<IdentityPattern>,
    /// Names from `basic`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
}

impl EgressFrom {
    /// Whether nobody is named.
    pub fn is_anybody(&self) -> bool {
        *self == Self::default()
    }
}

/// A SPIFFE id, or all below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityPattern {
    /// This one.
    Exact(String),
    /// `spiffe://shop/jobs/*`, kept as `spiffe://shop/jobs/`: one or more segments after it.
    Below(String),
}

impl IdentityPattern {
    /// Whether `identity` is one of them.
    pub fn covers(&self, identity: &str) -> bool {
        match self {
            Self::Exact(this) => this == identity,
            Self::Below(above) => identity
                .strip_prefix(above.as_str())
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(this) => f.write_str(this),
            Self::Below(above) => write!(f, "{above}*"),
        }
    }
}

impl Serialize for IdentityPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
