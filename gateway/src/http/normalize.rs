//! Brings a request into one form before anybody trusts it: one authority, one framing, one path.
//!
//! Called by the HTTP step before anything else looks at the request. What must stay true: the
//! path that is matched is the path that is forwarded; normalising twice changes nothing more; no
//! hop-by-hop header gets past. Pure. What the codec refuses by itself (bad syntax, control
//! characters, folding) never arrives here, and it has already cut fragments off.

pub mod authority;
mod framing;
mod hop;
pub mod path;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts,
    uri::PathAndQuery,
};
use sluice_config::model::{self, Underscores};

use self::authority::Authority;
use crate::error::{Malformed, ProxyError};

pub use self::hop::{clean_trailers, strip_response};

/// What normalisation learned about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized {
    /// Lower case, without port and trailing dot; an IPv6 address in brackets. `None` only for
    /// HTTP/1.0 without `Host`.
    pub host: Option<Box<str>>,
    /// The port that stood beside the host.
    pub port: Option<u16>,
    /// Header fields dropped because their name contains `_`.
    pub underscores_dropped: usize,
    /// The client sent `TE: trailers`.
    pub trailers: bool,
    /// The connection ends after this request, by the client's wish or by HTTP/1.0.
    pub close: bool,
    /// The body came chunked. `Transfer-Encoding` is stripped, so whoever sends the request on
    /// has to ask for chunks again (also for GET, where codecs assume that there is no body).
    pub chunked: bool,
    /// The protocols that the client wants to go over to, in lower case.
    pub upgrades: Vec<String>,
}

/// The protocol that an extended CONNECT asks for (RFC 8441), as an extension of the request.
#[derive(Debug, Clone)]
pub struct Extended(String);

impl Extended {
    /// What `:protocol` says.
    pub fn of(protocol: &str) -> Self {
        Self(protocol.to_ascii_lowercase())
    }
}

/// Holds a request against the rules of its listener and brings it into one form.
///
/// An extended CONNECT becomes the GET with an upgrade that it stands for (RFC 8441 §5), so that what
/// follows knows one form of it.
///
/// Afterwards `uri` is in origin form (or `*`, or for CONNECT the authority) with the normalised path and the untouched query,
/// there is at most one `Host` and one `Content-Length`, and no hop-by-hop header.
pub fn normalize(parts: &mut Parts, listener: &model::Listener) -> Result<Normalized, ProxyError> {
    limits(parts, &listener.limits)?;
    let extended = parts.extensions.remove::<Extended>();
    if parts.version == Version::HTTP_2 {
        one_form(parts)?;
    }
    if extended.is_some() {
        parts.method = Method::GET;
    }
    let target = Target::of(&parts.method, &parts.uri)?;
    let authority = one_authority(parts, target)?;
    let chunked = framing::check(&mut parts.headers, parts.version)?;
    expectation(&mut parts.headers)?;
    let hop = hop::strip_request(&mut parts.headers, parts.version);
    let underscores_dropped = underscores(&mut parts.headers, listener.normalize.underscores)?;
    set_host(&mut parts.headers, authority.as_ref());
    match target {
        Target::Asterisk { .. } => parts.uri = Uri::from_static("*"),
        Target::Authority { .. } => parts.uri = one_place(authority.as_ref())?,
        Target::Origin | Target::Absolute { .. } => {
            one_path(&mut parts.uri, target, listener.normalize)?;
        }
    }
    let (host, port) = authority.map_or((None, None), |it| (Some(it.host), it.port));
    Ok(Normalized {
        host,
        port,
        underscores_dropped,
        trailers: hop.trailers,
        close: hop.close,
        chunked,
        upgrades: extended.map_or(hop.upgrades, |extended| vec![extended.0]),
    })
}

fn limits(parts: &Parts, limits: &model::ListenerLimits) -> Result<(), ProxyError> {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
        .saturating_add(parts.uri.authority().map_or(0, |it| it.as_str().len()));
    if target > limits.uri {
        return Err(ProxyError::UriTooLong { limit: limits.uri });
    }
    // Name, colon, space, value, CRLF; or as RFC 9113 §6.5.2 counts, because of what a field costs that
    // needs a byte on the wire.
    let beside = match parts.version {
        Version::HTTP_2 => 32,
        _ => 4,
    };
    let bytes = parts.headers.iter().fold(target, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len())
            .saturating_add(value.len())
            .saturating_add(beside)
    });
    if parts.headers.len() > limits.headers || bytes > limits.head {
        return Err(ProxyError::HeadTooLarge);
    }
    Ok(())
}

/// Brings the fields of an HTTP/2 request into the form that HTTP/1 knows.
fn one_form(parts: &mut Parts) -> Result<(), ProxyError> {
    // RFC 9113 §8.2.1. HTTP/1 takes them off, so a request could mean two things.
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        blank(bytes.first()) || blank(bytes.last())
    };
    if parts.headers.values().any(padded) {
        return Err(ProxyError::BadRequest(Malformed::Syntax));
    }
    // RFC 9113 §8.2.3: crumbs of a cookie are one cookie elsewhere.
    if parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .nth(1)
        .is_some()
    {
        let crumbs = parts.headers.get_all(header::COOKIE).iter();
        let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..])))
            .map_err(|_| ProxyError::BadRequest(Malformed::Syntax))?;
        parts.headers.insert(header::COOKIE, cookie);
    }
    Ok(())
}

/// The forms of RFC 9112 §3.2 that a gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute {
        /// The port that the scheme implies.
        default_port: u16,
    },
    /// `*`, for OPTIONS only.
    Asterisk {
        /// The port that the scheme implies, where there is one.
        default_port: u16,
    },
    /// `host:port`, for CONNECT only.
    Authority {
        /// The port that stands there.
        port: u16,
    },
}

impl Target {
    fn of(method: &Method, uri: &Uri) -> Result<Self, ProxyError> {
        let refused = ProxyError::BadRequest(Malformed::Target);
        if *method == Method::CONNECT {
            // RFC 9110 §9.3.6: nothing but a host and a port, which has no default.
            let bare = uri.scheme().is_none() && uri.path_and_query().is_none();
            let port = uri.authority().and_then(http::uri::Authority::port_u16);
            let port = port.filter(|_| bare).ok_or(refused)?;
            return Ok(Self::Authority { port });
        }
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        match (uri.scheme_str(), uri.authority()) {
            // HTTP/2 has no other way to say whom `*` is meant for than a URI with both.
            (Some("http" | "https"), Some(_)) | (None, None) if uri.path() == "*" => {
                let served = *method == Method::OPTIONS && uri.query().is_none();
                let asterisk = Self::Asterisk { default_port };
                served.then_some(asterisk).ok_or(refused)
            }
            (Some("http" | "https"), Some(_)) => Ok(Self::Absolute { default_port }),
            (None, None) if uri.path().starts_with('/') => Ok(Self::Origin),
            _ => Err(refused),
        }
    }
}

/// RFC 9112 §3.2: exactly one `Host`, and in absolute form the same as in the target.
fn one_authority(parts: &Parts, target: Target) -> Result<Option<Authority>, ProxyError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let written = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::BadRequest(Malformed::ManyHosts));
    }
    let written = match written {
        Some(value) => Some(Authority::parse(value.as_bytes())?),
        None if parts.version < Version::HTTP_11 => None,
        None if parts.version == Version::HTTP_2 && parts.uri.authority().is_some() => None,
        None => return Err(ProxyError::BadRequest(Malformed::NoHost)),
    };
    let default_port = match target {
        Target::Absolute { default_port } | Target::Asterisk { default_port } => default_port,
        Target::Authority { port } => port,
        Target::Origin => return Ok(written),
    };
    let Some(authority) = parts.uri.authority() else {
        return Ok(written);
    };
    let named = Authority::parse(authority.as_str().as_bytes())?;
    match written {
        Some(written) if !written.same(&named, default_port) => {
            Err(ProxyError::BadRequest(Malformed::ManyHosts))
        }
        // Only the target of CONNECT has to say its port.
        Some(written) if !matches!(target, Target::Authority { .. }) => Ok(Some(written)),
        Some(_) | None => Ok(Some(named)),
    }
}

/// RFC 9110 §10.1.1. The codec has noted `100-continue` already and sends the interim answer.
fn expectation(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let met = headers
        .get_all(header::EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !met {
        return Err(ProxyError::Expectation);
    }
    headers.remove(header::EXPECT);
    Ok(())
}

fn underscores(headers: &mut HeaderMap, policy: Underscores) -> Result<usize, ProxyError> {
    let suspect = |name: &&HeaderName| name.as_str().contains('_');
    match policy {
        Underscores::Refuse if headers.keys().any(|name| suspect(&name)) => {
            Err(ProxyError::BadRequest(Malformed::Underscore))
        }
        Underscores::Keep | Underscores::Refuse => Ok(0),
        Underscores::Drop => {
            let before = headers.len();
            let names: Vec<HeaderName> = headers.keys().filter(suspect).cloned().collect();
            for name in names {
                headers.remove(name);
            }
            Ok(before.saturating_sub(headers.len()))
        }
    }
}

fn set_host(headers: &mut HeaderMap, authority: Option<&Authority>) {
    let Some(authority) = authority else { return };
    let text = authority.to_string();
    let same = |value: &HeaderValue| value.as_bytes() == text.as_bytes();
    if headers.get(header::HOST).is_some_and(same) {
        return;
    }
    // An authority is letters, digits and a few marks: always a header value.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.insert(header::HOST, value);
    }
}

/// The target of CONNECT, in the form that `Host` has.
fn one_place(authority: Option<&Authority>) -> Result<Uri, ProxyError> {
    let refused = || ProxyError::BadRequest(Malformed::Target);
    let place = authority.map(Authority::to_string).ok_or_else(refused)?;
    Uri::try_from(place).map_err(|_| refused())
}

fn one_path(uri: &mut Uri, target: Target, rules: model::Normalize) -> Result<(), ProxyError> {
    let path = path::normalize(uri.path(), rules)?;
    if target == Target::Origin && path == uri.path() {
        return Ok(());
    }
    let refused = |_| ProxyError::BadRequest(Malformed::Path);
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    let text = PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(refused)?;
    *uri = Uri::from(text);
    Ok(())
}

#[cfg(test)]
mod tests;
