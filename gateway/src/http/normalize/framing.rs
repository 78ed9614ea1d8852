//! One framing: how long a request's body is may have one answer only.

use http::{HeaderMap, HeaderValue, Version, header};

use crate::error::{Malformed, ProxyError};

/// Refuses framing that two parsers could read differently. Gives whether the body is chunked.
///
/// Leaves `Transfer-Encoding` for the stripping of hop-by-hop headers, and one `Content-Length` at
/// most.
pub(super) fn check(headers: &mut HeaderMap, version: Version) -> Result<bool, ProxyError> {
    let chunked = transfer_coding(headers, version)?;
    let length = content_length(headers)?;
    if chunked {
        // RFC 9112 §6.3: the coding overrides the length, and the length must not travel on.
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = length
        && headers.get_all(header::CONTENT_LENGTH).iter().count() > 1
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(chunked)
}

/// Exactly one `chunked`, or nothing. Every other spelling is how smuggling begins.
fn transfer_coding(headers: &HeaderMap, version: Version) -> Result<bool, ProxyError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(false);
    };
    let good = codings.next().is_none()
        && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        && version == Version::HTTP_11;
    if good {
        Ok(true)
    } else {
        Err(ProxyError::BadRequest(Malformed::TransferCoding))
    }
}

/// RFC 9112 §6.3: equal lengths may be collapsed into one, unequal ones are refused.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ProxyError> {
    let refused = ProxyError::BadRequest(Malformed::ContentLength);
    let mut agreed = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let length = digits(value).ok_or(ProxyError::BadRequest(Malformed::ContentLength))?;
        if agreed.is_some_and(|agreed| agreed != length) {
            return Err(refused);
        }
        agreed = Some(length);
    }
    Ok(agreed)
}

fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}
