//! `[egress]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::{OneOrMany, PathMatch, Ports, Switch, Table, TextOr, UpstreamTls};

/// Who may reach what outside, through listeners with `protocol = "forward-proxy"` and `"transparent"`. What is
/// not written here has its default; without the table everybody may reach everything that is public, and
/// CONNECT goes to port 443 only.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Egress {
    /// What becomes of an attempt that no rule allows. Default `deny`.
    pub default: Option<EgressDefault>,
    /// Whether what is refused is refused. Default `enforce`.
    pub mode: Option<EgressMode>,
    /// Ports that CONNECT may name where no rule lists its own: numbers and ranges `"8000-8100"`; an empty list
    /// is none. Default `443`.
    pub connect_ports: Option<OneOrMany<Ports>>,
    /// How many destinations `sluice egress report` remembers, each with its client, its port and its rule; the
    /// one that was asked for least recently makes room. `0` keeps none. Range 0 to 1000000.
    /// Default `10000`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub report: Option<i64>,
    /// Networks and addresses that are not public and may be reached nevertheless where no rule says more, under
    /// `default = "allow"` and `mode = "shadow"`. Default none.
    pub addresses: Option<OneOrMany<String>>,
    /// The mark of the packets of every connection that leads outside (`SO_MARK`), so that rules of this machine can
    /// tell them from those that they redirect; needs `CAP_NET_ADMIN`. An upstream in `via` has its own
    /// (`socket`). Range 1 to 4294967295. Default none.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub mark: Option<i64>,
    /// What is allowed, by name. The rule with the most specific host is asked first (exact names, longer
    /// wildcards, `*`; longer networks), among equal ones in the order of their names; the first of which everything
    /// holds allows.
    pub allow: Table<EgressRule>,
}

/// What becomes of an attempt that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EgressDefault {
    /// It is refused.
    Deny,
    /// It may pass to public addresses and those of `addresses`; rules still say how.
    Allow,
}

/// Whether what is refused is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EgressMode {
    /// It is.
    Enforce,
    /// It is counted and logged as refused, and passes as under `default = "allow"`, by no rule; addresses that are
    /// not public stay refused.
    Shadow,
}

/// Something that is allowed. Everything that is written must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct EgressRule {
    /// Where to: a name, a wildcard `*.example.com` for one or more labels, `*` for every name; an address or a
    /// network `198.51.100.0/24` for clients that ask for addresses; or a list of them. Required.
    pub hosts: Option<OneOrMany<String>>,
    /// The ports: numbers and ranges `"8000-8100"`. Default 443 for tunnels and TLS (`connect_ports` for CONNECT),
    /// 80 and 443 for HTTP.
    pub ports: Option<OneOrMany<Ports>>,
    /// What may be spoken: `http`, requests that we see; `tls`, inside CONNECT or of a redirected stream, where the
    /// name that is asked for is held against where it goes; `tcp`, anything, inside CONNECT or of a
    /// redirected stream. Default `["http", "tls"]`; `http` where there are `methods` or `paths`.
    pub protocols: Option<OneOrMany<EgressProtocol>>,
    /// A method, or a list of which one must hold: `GET`. Requests that we see only: such a rule allows no tunnel.
    /// Default every method.
    pub methods: Option<OneOrMany<String>>,
    /// The path, as in a match of routes, or a list of which one must hold. Requests that we see only: such a rule
    /// allows no tunnel. Default every path.
    pub paths: Option<OneOrMany<TextOr<PathMatch>>>,
    /// Who may. Default everybody who gets in.
    pub from: Option<EgressFrom>,
    /// Networks and addresses that are not public and that these hosts may resolve to. Not with `via`.
    /// Default none.
    pub addresses: Option<OneOrMany<String>>,
    /// Whether TLS that asks for no name is covered. Default `false`.
    pub without_sni: Option<bool>,
    /// Whether TLS is covered that hides the name it is for (Encrypted `ClientHello`). Default `false`.
    pub encrypted_client_hello: Option<bool>,
    /// How often, for all clients together: `"100/s"`, also `m` and `h`. So many may come at once, and then as many
    /// as become free; beyond, 429 `egress_rate`. Range 1 to 1000000. Default no bound.
    pub rate: Option<String>,
    /// The name of an upstream that is a forward proxy itself and resolves the names. Default none: we go ourselves.
    pub via: Option<String>,
    /// Whether requests that come in without TLS go out inside TLS, to port 443 unless the client names one other
    /// than 80; a table says how. Certificates are always verified. Default `false`.
    pub tls: Option<Switch<UpstreamTls>>,
}

/// What may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EgressProtocol {
    /// Requests that we see.
    Http,
    /// TLS, inside CONNECT or of a redirected stream.
    Tls,
    /// Anything, inside CONNECT or of a redirected stream.
    Tcp,
}

/// Who may: of each kind that is written one must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct EgressFrom {
    /// SPIFFE ids of client certificates, `spiffe://shop/web`, or all below one, `spiffe://shop/*`.
    pub identities: Option<OneOrMany<String>>,
    /// Names of users, as in `basic` of the listener.
    pub users: Option<OneOrMany<String>>,
    /// Addresses of clients, or networks.
    pub sources: Option<OneOrMany<String>>,
}
