//! `Location`: where a redirect sends the client. Always absolute, so that no path can be taken for
//! a host.

use bytes::Bytes;
use http::{HeaderValue, Uri};
use sluice_config::model::{HttpsRedirect, Redirect};

use super::{Facts, rewrite, template::Filled};
use crate::downstream::Downstream;

/// The `Location` of a redirect. What it does not say is kept from the request; the port only as
/// long as the scheme is kept too.
pub fn redirect(model: &Redirect, facts: &Facts<'_>) -> HeaderValue {
    let filled = Filled::new(facts, facts.headers);
    let changed = model
        .path
        .as_ref()
        .and_then(|change| rewrite::path(change, &filled));
    let path = changed.as_deref().unwrap_or(facts.path);
    let kept = if model.scheme.is_none() {
        facts.port
    } else {
        None
    };
    location(&Place {
        scheme: model.scheme.as_deref().unwrap_or(facts.downstream.scheme),
        host: model
            .host
            .as_ref()
            .map(ToString::to_string)
            .as_deref()
            .or(facts.host),
        port: model.port.or(kept),
        path,
        query: facts.query.filter(|_| model.keep_query),
        downstream: facts.downstream,
    })
}

/// The `Location` of a listener that sends everybody to https; `None` when the client is there
/// already, because a trusted proxy ended its TLS.
pub fn https_redirect(
    model: HttpsRedirect,
    downstream: &Downstream,
    host: Option<&str>,
    uri: &Uri,
) -> Option<HeaderValue> {
    let place = Place {
        scheme: "https",
        host,
        port: Some(model.port),
        path: uri.path(),
        query: uri.query(),
        downstream,
    };
    (downstream.scheme != "https").then(|| location(&place))
}

struct Place<'a> {
    scheme: &'a str,
    host: Option<&'a str>,
    port: Option<u16>,
    path: &'a str,
    query: Option<&'a str>,
    downstream: &'a Downstream,
}

fn location(place: &Place<'_>) -> HeaderValue {
    // HTTP/1.0 may name no host; our own address is where the client found us.
    let own = || match place.downstream.connection.local.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    let host = place.host.map_or_else(own, str::to_owned);
    let scheme = place.scheme;
    let implied = if scheme == "https" { 443 } else { 80 };
    let mut text = match place.port {
        Some(port) if port != implied => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    };
    text.push_str(if place.path.starts_with('/') {
        place.path
    } else {
        "/"
    });
    if let Some(query) = place.query {
        text.push('?');
        text.push_str(query);
    }
    // Host, path and query were all read from a request line or checked: no control characters.
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("/"))
}
