//! The head of a request as HTTP/2 says it.

use bytes::Bytes;
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::super::endpoints::{Endpoint, Speech};
use crate::error::{Malformed, ProxyError};

/// Fields that speak of one HTTP/1 connection (RFC 9113 §8.2.2), and `Host`, which became `:authority`.
const FOREIGN: [HeaderName; 6] = [
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// A copy of `parts` in the form of HTTP/2. `length` is that of the body, if it is known.
pub(super) fn head(
    parts: &Parts,
    length: Option<u64>,
    endpoint: &Endpoint,
) -> Result<http::Request<()>, ProxyError> {
    let mut request = http::Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = target(parts, endpoint)?;
    let headers = request.headers_mut();
    *headers = parts.headers.clone();
    translate(headers);
    if let Some(length) = length.filter(|&length| length > 0) {
        let length = || HeaderValue::from(length);
        headers.entry(header::CONTENT_LENGTH).or_insert_with(length);
    }
    Ok(request)
}

/// The head of a request for a tunnel: CONNECT, or extended CONNECT with the protocol that `Upgrade`
/// names.
pub(super) fn tunnel(parts: &Parts, endpoint: &Endpoint) -> Result<http::Request<()>, ProxyError> {
    let mut request = head(parts, None, endpoint)?;
    if let Some(protocol) = parts.headers.get(header::UPGRADE) {
        let refused = |_| ProxyError::BadRequest(Malformed::Syntax);
        let protocol = protocol.to_str().map_err(refused)?;
        request.extensions_mut().insert(Protocol::from(protocol));
        *request.method_mut() = Method::CONNECT;
        // RFC 8441 §5: the stream itself proves what the key would.
        request.headers_mut().remove(WEBSOCKET_KEY);
    } else {
        *request.uri_mut() = parts.uri.clone();
    }
    Ok(request)
}

fn translate(headers: &mut HeaderMap) {
    for name in FOREIGN {
        headers.remove(name);
    }
    // RFC 9113 §8.2.2: `TE` may say this and nothing else.
    if headers.contains_key(header::TE) {
        let wanted = headers.get_all(header::TE).iter().any(says_trailers);
        headers.remove(header::TE);
        if wanted {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

fn says_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|&byte| byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn target(parts: &Parts, endpoint: &Endpoint) -> Result<Uri, ProxyError> {
    let refused = || ProxyError::BadRequest(Malformed::BadHost);
    let host = match parts.headers.get(header::HOST) {
        Some(host) => Bytes::copy_from_slice(host.as_bytes()),
        // HTTP/1.0 need not say it, HTTP/2 must.
        None => Bytes::copy_from_slice(endpoint.key.as_str().as_bytes()),
    };
    let authority = Authority::from_maybe_shared(host);
    let authority = match (authority, parts.headers.contains_key(header::HOST)) {
        (Ok(authority), _) => authority,
        (Err(_), true) => return Err(refused()),
        (Err(_), false) => Authority::from_static("localhost"),
    };
    let path = parts.uri.path_and_query().cloned();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(match endpoint.goal.speech {
        Speech::Plain => Scheme::HTTP,
        Speech::Tls(_) => Scheme::HTTPS,
    });
    uri.authority = Some(authority);
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(uri).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trailers_survive_of_te() {
        for (values, expected) in [
            (&["trailers"][..], Some("trailers")),
            (&["gzip, Trailers"], Some("trailers")),
            (&["gzip", "trailers"], Some("trailers")),
            (&["gzip"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TE, HeaderValue::from_static(value));
            }
            translate(&mut headers);
            let kept = headers.get(header::TE).map(|value| value.to_str().unwrap());
            assert_eq!(kept, expected, "{values:?}");
        }
    }

    #[test]
    fn nothing_of_the_last_connection_is_said() {
        let mut headers = HeaderMap::new();
        for name in FOREIGN {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        headers.insert("x-own", HeaderValue::from_static("x"));
        translate(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
