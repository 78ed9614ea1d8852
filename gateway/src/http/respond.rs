//! Answers that the gateway makes itself: refusals, redirects, and those of the configuration.
//!
//! What must stay true: a refusal's text is fixed for its status. Why it was refused is for the log,
//! what we are and which version is for nobody.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::exchange::Exchange;
use crate::{
    error::ProxyError,
    filter::{self, Rpc},
    message::{Body, Response},
    plan,
};

/// A refusal, in the form that the client reads best.
pub(crate) fn refusal(status: StatusCode, accept: Option<&HeaderValue>) -> Response {
    detailed(status, None, accept)
}

/// A refusal that says why, in a word that is plain text in every form.
pub(crate) fn detailed(
    status: StatusCode,
    detail: Option<&'static str>,
    accept: Option<&HeaderValue>,
) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let title = match detail {
        None => Cow::Borrowed(title),
        Some(detail) => Cow::Owned(format!("{title} ({detail})")),
    };
    let code = status.as_str();
    let form = Form::preferred(accept);
    let text = match form {
        Form::Text => format!("{code} {title}\n"),
        Form::Json => format!("{{\"status\":{code},\"title\":\"{title}\"}}\n"),
        Form::Html => format!(
            "<!doctype html>\n<html lang=\"en\"><title>{code} {title}</title><h1>{code} {title}</h1></html>\n"
        ),
    };
    let mut response = answer(status, Bytes::from(text));
    let kind = HeaderValue::from_static(form.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A refusal of a remote call: gRPC's status in the head, no body, no trailers. Its clients look at
/// HTTP's status only where there is none of gRPC.
pub(crate) fn grpc_refusal(error: &ProxyError, rpc: Rpc) -> Response {
    let mut response = Response::new(Body::Empty);
    *response.headers_mut() = grpc_failure(error);
    let kind = HeaderValue::from_static(rpc.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// How a call failed: in the head where nothing was said yet, else in the trailers.
pub(crate) fn grpc_failure(error: &ProxyError) -> HeaderMap {
    let verdict = error.verdict();
    let title = verdict.status.canonical_reason().unwrap_or("Error");
    // Printable ASCII without `%`: percent-encoded as it is.
    let text = HeaderValue::try_from(format!("{title} ({})", verdict.reason));
    let mut fields = HeaderMap::new();
    let status = HeaderValue::from_static(error.grpc_status().code());
    fields.insert(GRPC_STATUS, status);
    if let Ok(text) = text {
        fields.insert(GRPC_MESSAGE, text);
    }
    fields
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Sends the client elsewhere.
pub(crate) fn redirect(status: u16, location: HeaderValue) -> Response {
    // The check admits five numbers; all are statuses.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut response = answer(status, Bytes::new());
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// What the validating server of an issuer wants to read (RFC 8555 §8.3).
pub(crate) fn validation(authorisation: &str) -> Response {
    let body = Bytes::copy_from_slice(authorisation.as_bytes());
    let mut response = answer(StatusCode::OK, body);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The answer of a `respond`. `headers` are the request's.
pub(crate) fn respond(
    respond: &plan::Respond,
    exchange: &Exchange,
    headers: &HeaderMap,
) -> Response {
    let mut response = answer(respond.status, respond.body.clone());
    let facts = exchange.facts(headers);
    for (name, template) in &respond.headers {
        if !is_framing(name) {
            let value = filter::value(template, &facts);
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn answer(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let length = HeaderValue::from(body.len());
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        *response.body_mut() = Body::from(body);
    }
    response
}

/// What says where a message ends is ours alone.
fn is_framing(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    )
}

/// The forms of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Html,
}

impl Form {
    /// RFC 9110 §12.5.1, as far as three forms need it: the highest weight wins, then the first.
    fn preferred(accept: Option<&HeaderValue>) -> Self {
        let Some(accept) = accept.and_then(|value| value.to_str().ok()) else {
            return Self::Text;
        };
        let mut best = (0_u16, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default() {
                kind if kind.eq_ignore_ascii_case("text/html") => Self::Html,
                kind if kind.eq_ignore_ascii_case("application/xhtml+xml") => Self::Html,
                kind if kind.eq_ignore_ascii_case("application/json") => Self::Json,
                kind if kind.eq_ignore_ascii_case("application/problem+json") => Self::Json,
                _ => Self::Text,
            };
            let weight = parts.find_map(weight).unwrap_or(1000);
            if weight > best.0 {
                best = (weight, form);
            }
        }
        best.1
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// `q=0.8` as 800.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if whole == "1" {
        return Some(1000);
    }
    let digits = decimals.bytes().chain(std::iter::repeat(b'0')).take(3);
    let number = digits.fold(0_u16, |sum, digit| {
        let digit = u16::from(digit.saturating_sub(b'0').min(9));
        sum.saturating_mul(10).saturating_add(digit)
    });
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_takes_the_form_that_the_client_prefers() {
        for (accept, form) in [
            (None, Form::Text),
            (Some("*/*"), Form::Text),
            (Some("application/json"), Form::Json),
            (
                Some("text/html,application/xhtml+xml,*/*;q=0.8"),
                Form::Html,
            ),
            (Some("text/html;q=0.5, application/json"), Form::Json),
            (Some("application/json;q=0.4, text/html;q=0.7"), Form::Html),
            (Some("text/plain, text/html"), Form::Text),
            (Some("TEXT/HTML"), Form::Html),
            (Some("text/html;q=x"), Form::Text),
            (Some(";;,,q="), Form::Text),
        ] {
            let value = accept.map(HeaderValue::from_static);
            assert_eq!(Form::preferred(value.as_ref()), form, "{accept:?}");
        }
    }

    #[test]
    fn a_refusal_says_its_status_and_nothing_of_ours() {
        let json = HeaderValue::from_static("application/json");
        let response = refusal(StatusCode::NOT_FOUND, Some(&json));

        let Body::Full(text) = response.body() else {
            panic!("no body")
        };
        assert_eq!(text, "{\"status\":404,\"title\":\"Not Found\"}\n");
        assert_eq!(response.headers()["content-length"], text.len().to_string());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(!response.headers().contains_key("server"));
    }

    #[test]
    fn a_refused_call_is_told_in_the_words_of_grpc() {
        let limit = 8;
        for (error, rpc, status, message) in [
            (ProxyError::NoRoute, Rpc::Grpc, "12", "Not Found (no_route)"),
            (
                ProxyError::RequestTimeout,
                Rpc::Grpc,
                "4",
                "Gateway Timeout (request_timeout)",
            ),
            (
                ProxyError::BodyTooLarge { limit },
                Rpc::WebText,
                "8",
                "Payload Too Large (body_too_large)",
            ),
        ] {
            let response = grpc_refusal(&error, rpc);

            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["content-type"], rpc.content_type());
            assert_eq!(response.headers()["grpc-status"], status);
            assert_eq!(response.headers()["grpc-message"], message);
            assert!(matches!(response.body(), Body::Empty));
        }
    }

    #[test]
    fn an_answer_that_may_have_no_body_has_no_length() {
        let response = answer(StatusCode::NO_CONTENT, Bytes::from_static(b"x"));
        assert!(response.headers().is_empty());
        assert!(matches!(response.body(), Body::Empty));
    }
}
