//! `[listeners.NAME]`

mod basic;
mod stream;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ClientCertificates, CountOrOff, DurationText, Fault, HeaderEdits, Hsts, ListenerCertificates,
    ListenerTls, NamesOr, OneOrMany, Retry, Rewrite, SizeOrOff, SizeText, StreamLimits, Switch,
    Trace, Upgrade,
};

pub use basic::Basic;
pub use stream::{KeepAlive, ListenerSocket, ProxyProtocolIn, Startup, Udp};

/// An address and protocol we accept on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Listener {
    /// Where it accepts: `0.0.0.0:80`, `[::]:8080`; `:8080` means `[::]:8080`, which accepts IPv4
    /// too; or `unix:/run/sluice/app.sock`, a unix socket. Required.
    pub address: Option<String>,
    /// What is spoken there: `http`; `https`; `tls`, which ends TLS and passes what is inside on as a
    /// raw stream; `tcp`, which passes everything on as a raw stream; `udp`; or `auto`, where the first
    /// bytes decide: HTTP is served as on `http`, TLS as on `https` (where there are certificates or
    /// routes with `mode = "passthrough"`), and everything else, silence included, is a raw stream for a
    /// route with `mode = "tcp"`. Two are ways out, on which `[egress]` decides and no route is bound:
    /// `forward-proxy`, where clients send CONNECT or name a whole URL, inside TLS where `certificates` are
    /// written; and `transparent`, to which the system redirects streams that were meant for somewhere else.
    /// Default `http`.
    pub protocol: Option<String>,
    /// The certificates it serves, by name; or a table that says more. For `https`, `tls` and `auto`; `tls`
    /// may do without where every route of it has `mode = "passthrough"`, `auto` always. Default every
    /// `[certificates.*]`; for `forward-proxy` none, which is without TLS.
    pub certificates: Option<NamesOr<ListenerCertificates>>,
    /// How TLS is spoken. For `https`, `tls` and `auto`, and `forward-proxy` with `certificates`.
    pub tls: Option<ListenerTls>,
    /// Whose certificates clients are asked for, where a route does not say. For `https`, `tls` and `auto`, and
    /// `forward-proxy` with `certificates`. Default nobody's.
    pub client_certificates: Option<ClientCertificates>,
    /// Names and passwords that clients are asked for (`Proxy-Authorization`, 407). For `forward-proxy`.
    /// Default none.
    pub basic: Option<Basic>,
    /// Whether anybody who reaches it may use it. A listener that asks for neither `basic` nor
    /// `client_certificates` that are required, and accepts elsewhere than on this machine, needs it. For
    /// `forward-proxy`. Default `false`.
    pub open: Option<bool>,
    /// Answers every request with a redirect to https, also where no route is bound, and keeps host,
    /// path and query. `true` means status 301 and port 443. Default `false`.
    pub https_redirect: Option<Switch<HttpsRedirect>>,
    /// Peers whose forwarding headers are believed and appended to, as addresses or networks
    /// (`10.0.0.0/8`). From all others these headers are deleted. Default none.
    pub trusted_proxies: Option<OneOrMany<String>>,
    /// How many proxies at most stand between the client and us; the client's address is taken at
    /// most this many entries from the right end of the forwarding header. Range 1 to 32.
    /// Default as many as are in `trusted_proxies`.
    #[schemars(range(min = 1, max = 32))]
    pub trusted_hops: Option<i64>,
    /// Whether connections of `trusted_proxies` begin with a header of the PROXY protocol (version 1 or
    /// 2), which says who the client is: `true`, they must, `"optional"`, they may. From everybody else none
    /// is read: what looks like one is passed on or parsed like any other bytes. Needs `trusted_proxies`,
    /// unless `address` is a unix socket, where everybody who may open it is believed. Not for `udp`.
    /// Default `false`.
    pub proxy_protocol: Option<ProxyProtocolIn>,
    /// What clients say before their TLS; `postgres` answers the `SSLRequest` of `PostgreSQL`, so that routes by
    /// the name that is asked for work for its clients, and refuses its `GSSENCRequest`. For `tls` and
    /// `auto`. Default none.
    pub startup: Option<Startup>,
    /// How datagrams become sessions. For `udp`.
    pub udp: Option<Udp>,
    /// Settings of its sockets.
    pub socket: Option<ListenerSocket>,
    /// How requests are brought into one form before anybody trusts them. The same path is matched
    /// and forwarded.
    pub normalize: Option<Normalize>,
    /// Bounds on what peers may take.
    pub limits: Option<ListenerLimits>,
    /// Bounds on how long peers may take.
    pub timeouts: Option<ListenerTimeouts>,
    /// HTTP/2, which is served to clients that begin with it.
    pub http2: Option<Http2>,
    /// Sets of filters from `[filters.NAME]`, for every request that comes in here. Where two sets
    /// have the same key the later one wins; a key written here wins over all of them.
    #[serde(rename = "use")]
    pub uses: Option<OneOrMany<String>>,
    /// Edits of the request's headers before it goes upstream. Default none.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response's headers before they go downstream, refusals included. Default none.
    pub response_headers: Option<HeaderEdits>,
    /// Changes of path and host before the request goes upstream. Default none.
    pub rewrite: Option<Rewrite>,
    /// The largest request body (413), or `off`. Range `0B` to `1TiB`. Default `1GiB`.
    pub max_body: Option<SizeOrOff>,
    /// Which protocols a connection may go over to, and how long. Default WebSocket, an hour idle.
    pub upgrade: Option<Upgrade>,
    /// Whether browsers are told to come by https only (`Strict-Transport-Security`), on answers over TLS:
    /// `true`, for how long, or a table that says more. What the origin says is replaced; `false` lets it
    /// pass. Default `false`.
    pub hsts: Option<Hsts>,
    /// Whether calls in gRPC-Web, as browsers make them, become gRPC for the upstream, and its answers
    /// gRPC-Web. Default `false`.
    pub grpc_web: Option<bool>,
    /// The share of requests whose traces are recorded, where they begin here: `trace = { sample = 0.1 }`.
    /// Default that of `[tracing]`.
    pub trace: Option<Trace>,
    /// When a request is sent once more: `retry = { attempts = 3, on = ["connect-failure", 503] }`.
    /// Default twice, where no endpoint can have seen the request.
    pub retry: Option<Retry>,
    /// Failures on purpose: `fault = { abort = { percent = 5, status = 503 } }`. Default none.
    pub fault: Option<Fault>,
    /// How long raw streams last. Not for `http`. Default an hour idle.
    pub stream: Option<StreamLimits>,
}

/// The redirect to https.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct HttpsRedirect {
    /// 301, 302, 307 or 308. Default `301`.
    #[schemars(range(min = 301, max = 308))]
    pub status: Option<i64>,
    /// The port to name; 443 is left out of the URL. Range 1 to 65535. Default `443`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
}

/// How requests are brought into one form. Dot segments are always resolved.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Normalize {
    /// `//` in a path becomes `/`. Default `true`.
    pub merge_slashes: Option<bool>,
    /// What to do with `%2f` in a path. Default `refuse`.
    pub escaped_slash: Option<Escapes>,
    /// What to do with `%5c` in a path. Default `refuse`.
    pub escaped_backslash: Option<Escapes>,
    /// What to do with `%00` in a path. Default `refuse`.
    pub escaped_nul: Option<Escapes>,
    /// What to do with `\` in a path. Default `refuse`.
    pub backslash: Option<Escapes>,
    /// What to do with header names that contain `_`. Default `drop`.
    pub underscores: Option<Underscores>,
}

/// What to do with a character that parsers disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Escapes {
    /// Answer 400.
    Refuse,
    /// Leave it as it is, an ordinary character of its segment.
    Keep,
}

/// What to do with header names that contain `_`, which some origins fold into `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Underscores {
    /// Take the header away and count it.
    Drop,
    /// Let it through.
    Keep,
    /// Answer 400.
    Refuse,
}

/// Bounds on what the peers of a listener may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ListenerLimits {
    /// Connections at a time, or `off`; further ones are closed at once and counted.
    /// Range 1 to 10000000. Default `20000`.
    pub connections: Option<CountOrOff>,
    /// Connections at a time from one client address, or `off`. Range 1 to 10000000.
    /// Default `2000`.
    pub connections_per_client: Option<CountOrOff>,
    /// The largest request head (431). Range `1KiB` to `1MiB`. Default `32KiB`.
    pub head: Option<SizeText>,
    /// The longest request target (414). Range `256B` to `512KiB`. Default `8KiB`.
    pub uri: Option<SizeText>,
    /// The most header fields of a request (431). Range 8 to 1000. Default `100`.
    #[schemars(range(min = 8, max = 1000))]
    pub headers: Option<i64>,
    /// Requests at a time on one HTTP/2 connection; further ones are refused without being seen by
    /// an origin. Range 1 to 10000. Default `100`.
    #[schemars(range(min = 1, max = 10000))]
    pub streams: Option<i64>,
    /// Requests that the client of an HTTP/2 connection may take back, or break, within any 30
    /// seconds before the connection is closed. Range 1 to 1000000. Default `200`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub resets: Option<i64>,
    /// The least bytes per second of a request body, averaged over `timeouts.request_body` and only
    /// while we wait for the client (408), or `off`. Range 1 to 1048576. Default `128`.
    pub body_rate: Option<CountOrOff>,
}

/// How much of request bodies an HTTP/2 client may send ahead of whoever reads them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Http2 {
    /// Of one request. Range `16KiB` to `16MiB`. Default `256KiB`.
    pub stream_window: Option<SizeText>,
    /// Of all requests of one connection together. Range `64KiB` to `256MiB`. Default `1MiB`.
    pub connection_window: Option<SizeText>,
}

/// Bounds on how long the peers of a listener may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ListenerTimeouts {
    /// From the first moment of a connection to the end of its TLS handshake. Range `1ms` to `24h`.
    /// Default `10s`.
    pub tls_handshake: Option<DurationText>,
    /// From the first byte of a request head to its last, however steadily it trickles (408).
    /// Range `1ms` to `24h`. Default `10s`.
    pub request_head: Option<DurationText>,
    /// A connection without a request, also before its first byte. Range `1ms` to `24h`.
    /// Default `75s`.
    pub idle: Option<DurationText>,
    /// The longest pause between two pieces of a request body (408). Range `1ms` to `24h`.
    /// Default `30s`.
    pub request_body: Option<DurationText>,
    /// How long a client may accept no byte of a response. Range `1ms` to `24h`. Default `30s`.
    pub write_stall: Option<DurationText>,
    /// From the first moment of a connection to the end of its PROXY header. Range `1ms` to `24h`.
    /// Default `5s`.
    pub proxy_header: Option<DurationText>,
    /// How long the first bytes of a client may take where they decide what becomes of it: on `auto`, and
    /// where the first message of TLS is looked at. Range `1ms` to `24h`. Default `10s`.
    pub sniff: Option<DurationText>,
}
