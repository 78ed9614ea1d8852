//! Keeps pages in browsers away from the admin address.
//!
//! A page can make a browser on this machine send requests to it: under the page's own name, once that
//! name resolves to 127.0.0.1 (DNS rebinding, told by `Host`), or across origins (told by `Origin`).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header, uri::Authority};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error("the host is not this machine")]
    Host,
    #[error("the origin is not this machine")]
    Origin,
}

/// Whether a request was meant for this machine by somebody on it.
pub(super) fn check(headers: &HeaderMap, is_unix: bool) -> Result<(), Foreign> {
    // Whoever opens a unix socket is no page, and its host is whatever the client made up.
    if !is_unix && !only(headers, &header::HOST).is_some_and(is_here) {
        return Err(Foreign::Host);
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = only(headers, &header::ORIGIN);
        let host = origin.and_then(|origin| {
            let http = origin.strip_prefix("http://");
            http.or_else(|| origin.strip_prefix("https://"))
        });
        if !host.is_some_and(is_here) {
            return Err(Foreign::Origin);
        }
    }
    Ok(())
}

/// The value of a field that must be there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

/// Whether `HOST` or `HOST:PORT` is this machine and nothing else.
fn is_here(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(host: &[&str], origin: Option<&str>) -> HeaderMap {
        let hosts = host.iter().map(|host| (header::HOST, *host));
        let all = hosts.chain(origin.map(|origin| (header::ORIGIN, origin)));
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_this_machine_is_meant_and_only_this_machine_asks() {
        type Case<'a> = (&'a [&'a str], Option<&'a str>, Result<(), Foreign>);
        let refused = |error| Err(error);
        let cases: &[Case<'_>] = &[
            (&["127.0.0.1:15000"], None, Ok(())),
            (&["localhost"], None, Ok(())),
            (&["LOCALHOST:15000"], Some("http://localhost:3000"), Ok(())),
            (&["[::1]:15000"], Some("http://[::1]:1"), Ok(())),
            (&["127.8.8.8"], None, Ok(())),
            (&[], None, refused(Foreign::Host)),
            (&["localhost", "localhost"], None, refused(Foreign::Host)),
            (&["evil.example:15000"], None, refused(Foreign::Host)),
            (&["localhost.evil.example"], None, refused(Foreign::Host)),
            (&["evil@127.0.0.1"], None, refused(Foreign::Host)),
            (&["10.0.0.1:15000"], None, refused(Foreign::Host)),
            (&["127.0.0.1"], Some("null"), refused(Foreign::Origin)),
            (
                &["127.0.0.1"],
                Some("http://evil.example"),
                refused(Foreign::Origin),
            ),
        ];
        for (host, origin, expected) in cases {
            let headers = headers(host, *origin);
            assert_eq!(check(&headers, false), *expected, "{host:?} {origin:?}");
        }
        assert_eq!(check(&headers(&["sluice"], None), true), Ok(()));
        let page = headers(&["sluice"], Some("http://evil.example"));
        assert_eq!(check(&page, true), Err(Foreign::Origin));
    }
}
