//! Hop-by-hop headers (RFC 9110 §7.6.1) go before ours are added, so that no peer can take ours away.

use http::{HeaderMap, HeaderName, Version, header};

use crate::http::forwarded;

/// What the stripped headers of a request said.
pub(super) struct Hop {
    pub(super) trailers: bool,
    pub(super) close: bool,
    /// What `Upgrade` names, where `Connection` names it.
    pub(super) upgrades: Vec<String>,
}

/// Takes every hop-by-hop header from a request; whoever makes an upgrade of it asks anew.
pub(super) fn strip_request(headers: &mut HeaderMap, version: Version) -> Hop {
    let named = Named::of(headers);
    let hop = Hop {
        trailers: tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers")),
        upgrades: upgrades(headers, &named, version),
        close: named.close || (version < Version::HTTP_11 && !named.keep_alive),
    };
    strip(headers, named, &header::PROXY_AUTHORIZATION);
    hop
}

/// RFC 9110 §7.8: it counts only where `Connection` names it, and only in HTTP/1.1.
fn upgrades(headers: &HeaderMap, named: &Named, version: Version) -> Vec<String> {
    if version != Version::HTTP_11 || !named.headers.contains(&header::UPGRADE) {
        return Vec::new();
    }
    tokens(headers, &header::UPGRADE)
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Takes every hop-by-hop header from a response.
pub fn strip_response(headers: &mut HeaderMap) {
    let named = Named::of(headers);
    strip(headers, named, &header::PROXY_AUTHENTICATE);
}

/// Takes from trailers what only means something in a head (RFC 9110 §6.5.1): framing, routing,
/// credentials, what describes the content, and, unless the peer is trusted, forwarding fields.
/// Aliases with `_` count as the names they stand for.
pub fn clean_trailers(trailers: &mut HeaderMap, trusted: bool) {
    let refused = |name: &&HeaderName| {
        let name = name.as_str().replace('_', "-");
        HEAD_ONLY.contains(&name.as_str()) || (!trusted && forwarded::is_forwarding(&name))
    };
    let names: Vec<HeaderName> = trailers.keys().filter(refused).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

const HEAD_ONLY: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

/// What `Connection` says.
#[derive(Default)]
struct Named {
    close: bool,
    keep_alive: bool,
    headers: Vec<HeaderName>,
}

impl Named {
    fn of(headers: &HeaderMap) -> Self {
        let mut named = Self::default();
        for token in tokens(headers, &header::CONNECTION) {
            if token.eq_ignore_ascii_case("close") {
                named.close = true;
            } else if token.eq_ignore_ascii_case("keep-alive") {
                named.keep_alive = true;
            } else if !is_protected(&token.to_ascii_lowercase()) {
                named.headers.extend(token.parse::<HeaderName>());
            }
        }
        named
    }
}

/// What a peer may not have removed by naming it in `Connection`: without these the next hop
/// would read another request, or believe another client.
fn is_protected(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "transfer-encoding" | "authorization" | "cookie" | "set-cookie"
    ) || forwarded::is_forwarding(name)
}

/// `other` goes too: credentials meant for a proxy, or its question for them.
fn strip(headers: &mut HeaderMap, named: Named, other: &HeaderName) {
    for name in named.headers {
        headers.remove(name);
    }
    // Mostly there is one such field or none, so that looking once at all is cheaper than asking for
    // each.
    let unwanted = |name: &&HeaderName| is_hop_by_hop(name) || *name == other;
    while let Some(name) = headers.keys().find(unwanted).cloned() {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION | header::TE | header::TRANSFER_ENCODING | header::UPGRADE
    ) || matches!(
        name.as_str(),
        "keep-alive" | "proxy-connection" | "http2-settings"
    )
}

/// The elements of a list header, as written, without parameters.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(|value| value.split(','))
        .filter_map(|element| element.split(';').next())
        .map(str::trim)
        .filter(|token| !token.is_empty())
}
