//! instant-acme over our own client. What an issuer refuses becomes a [`Refusal`] here, because only here
//! its `Retry-After` and its own words are at hand.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};

use crate::fetch::{Client, FetchError};

const ERRORS: &str = "urn:ietf:params:acme:error:";
/// How much of an issuer's words is repeated.
const WORDS: usize = 512;

/// What an issuer answered instead of doing as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of its answer.
    pub status: u16,
    /// The kind of problem, such as `rateLimited`, if it said.
    pub kind: Option<String>,
    /// Its own words.
    pub words: String,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "the issuer answered {kind}: {}", self.words),
            None => write!(f, "the issuer answered {}: {}", self.status, self.words),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether the problem is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Of a problem that came with an answer that was none.
    pub(super) fn of(problem: &Problem, status: u16) -> Self {
        let kind = problem.r#type.as_deref();
        Self {
            status: problem.status.unwrap_or(status),
            kind: kind.map(|kind| kind.strip_prefix(ERRORS).unwrap_or(kind).to_owned()),
            words: words(problem),
            retry_after: None,
        }
    }
}

/// The issuer's own words, with those about single hosts.
fn words(problem: &Problem) -> String {
    let mut said = problem.detail.clone().unwrap_or_default();
    for part in &problem.subproblems {
        said.push_str("; ");
        said.push_str(&part.to_string());
    }
    line(&said)
}

/// On one line, and not without end.
fn line(text: &str) -> String {
    let printable = text
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it });
    printable.take(WORDS).collect::<String>().trim().to_owned()
}

/// The client of one order.
pub(super) struct Transport(pub(super) Client);

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let sent = client.send(Request::from_parts(parts, body)).await;
            let answer = sent.map_err(|error: FetchError| Error::Other(Box::new(error)))?;
            match refusal(&answer) {
                Some(refusal) => Err(Error::Other(Box::new(refusal))),
                None => Ok(BytesResponse::from(answer.map(Full::new))),
            }
        })
    }
}

/// What an answer refuses. A refused nonce is no refusal: instant-acme takes the new one and goes on.
fn refusal(answer: &Response<Bytes>) -> Option<Refusal> {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let mut refusal = match serde_json::from_slice::<Problem>(answer.body()) {
        Ok(problem) => Refusal::of(&problem, status.as_u16()),
        // A proxy or a balancer before the issuer speaks HTML.
        Err(_) => Refusal {
            status: status.as_u16(),
            kind: None,
            words: status.canonical_reason().unwrap_or_default().to_owned(),
            retry_after: None,
        },
    };
    if status == StatusCode::BAD_REQUEST && refusal.is("badNonce") {
        return None;
    }
    refusal.retry_after = retry_after(answer.headers());
    Some(refusal)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // The date's clock is the issuer's: the difference is as good as both clocks are.
    let date = time::OffsetDateTime::parse(
        &value.replace("GMT", "+0000"),
        &time::format_description::well_known::Rfc2822,
    );
    SystemTime::from(date.ok()?)
        .duration_since(SystemTime::now())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, header: Option<&str>, body: &'static str) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        if let Some(header) = header {
            answer = answer.header(RETRY_AFTER, header);
        }
        answer
            .body(Bytes::from_static(body.as_bytes()))
            .expect("an answer")
    }

    #[test]
    fn a_refusal_keeps_the_issuers_words_and_its_wish() {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\ncertificates"}"#;
        let said = refusal(&answer(429, Some("7200"), body)).expect("a refusal");
        assert!(said.is("rateLimited"));
        assert_eq!(said.words, "too many certificates");
        assert_eq!(said.retry_after, Some(Duration::from_hours(2)));
    }

    #[test]
    fn an_answer_of_something_in_between_is_a_refusal_too() {
        let said = refusal(&answer(503, None, "<html>gone</html>")).expect("a refusal");
        assert_eq!(
            (said.status, said.kind, said.words.as_str()),
            (503, None, "Service Unavailable")
        );
    }

    #[test]
    fn a_refused_nonce_and_success_are_none() {
        let nonce = r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"x"}"#;
        assert_eq!(refusal(&answer(400, None, nonce)), None);
        assert_eq!(refusal(&answer(201, None, "{}")), None);
    }

    #[test]
    fn a_date_is_a_wish_too() {
        let later = time::OffsetDateTime::now_utc() + Duration::from_mins(10);
        let date = later
            .format(&time::format_description::well_known::Rfc2822)
            .expect("a date");
        let date = date.replace("+0000", "GMT");
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, date.parse().expect("a header"));
        let wait = retry_after(&headers).expect("a wait").as_secs();
        assert!((590..=600).contains(&wait), "{date}: {wait}");
    }
}
