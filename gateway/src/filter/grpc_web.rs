//! gRPC-Web: gRPC as browsers can speak it. Its messages are gRPC's; its trailers are a last frame of
//! the body, and all of that is in base64 where a browser reads text only. Pure.

mod base64;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};

pub use base64::Base64;

/// What marks a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// The forms of a remote call, known by the content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    /// `application/grpc`
    Grpc,
    /// `application/grpc-web`
    Web,
    /// `application/grpc-web-text`: everything in base64.
    WebText,
}

impl Rpc {
    /// The remote call that a request is.
    pub fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        if *method != Method::POST {
            return None;
        }
        Self::read(headers)
    }

    /// The form that a content type is.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?;
        Some(Self::split(value.to_str().ok()?)?.0)
    }

    /// Its content type where nobody says which encoding of messages.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }

    /// The form of the answer: what is accepted, else the same.
    #[must_use]
    pub fn answered_as(self, accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|value| value.to_str().ok());
        let ranges = accept.into_iter().flat_map(|accept| accept.split(','));
        let mut forms = ranges.filter_map(|range| Some(Self::split(range.trim())?.0));
        forms.find(|form| *form != Self::Grpc).unwrap_or(self)
    }

    /// Writes the content type of this form as that of another, with its encoding of messages. Gives
    /// whether it was of this form.
    pub fn retype(self, headers: &mut HeaderMap, into: Self) -> bool {
        let Some(value) = headers.get_mut(header::CONTENT_TYPE) else {
            return false;
        };
        match value.to_str().ok().and_then(Self::split) {
            Some((form, rest)) if form == self => {
                let text = format!("{}{rest}", into.content_type());
                if let Ok(written) = HeaderValue::try_from(text) {
                    *value = written;
                }
                true
            }
            _ => false,
        }
    }

    /// A content type as its form and what follows: `+proto`, `; charset=utf-8`.
    fn split(text: &str) -> Option<(Self, &str)> {
        const BASE: &str = "application/grpc";
        let (base, rest) = text.split_at_checked(BASE.len())?;
        if !base.eq_ignore_ascii_case(BASE) {
            return None;
        }
        let after = |tail: &str| {
            let (head, rest) = rest.split_at_checked(tail.len())?;
            let ends = rest.is_empty() || rest.starts_with(['+', ';', ' ']);
            (ends && head.eq_ignore_ascii_case(tail)).then_some(rest)
        };
        let forms = [
            (Self::WebText, "-web-text"),
            (Self::Web, "-web"),
            (Self::Grpc, ""),
        ];
        forms
            .into_iter()
            .find_map(|(form, tail)| Some((form, after(tail)?)))
    }
}

/// Trailers as the last frame of a body.
pub fn trailer_frame(trailers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    for (name, value) in trailers {
        block.put_slice(name.as_str().as_bytes());
        block.put_slice(b": ");
        block.put_slice(value.as_bytes());
        block.put_slice(b"\r\n");
    }
    // The codecs bound a block of trailers far below this.
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    let mut frame = BytesMut::with_capacity(block.len().saturating_add(5));
    frame.put_u8(TRAILERS);
    frame.put_u32(length);
    frame.put_slice(&block);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_call_is_read_from_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", Some((Rpc::Grpc, ""))),
            ("application/grpc+proto", Some((Rpc::Grpc, "+proto"))),
            ("Application/gRPC;x=y", Some((Rpc::Grpc, ";x=y"))),
            ("application/grpc-web", Some((Rpc::Web, ""))),
            ("application/grpc-web+json", Some((Rpc::Web, "+json"))),
            (
                "application/grpc-web-text+proto",
                Some((Rpc::WebText, "+proto")),
            ),
            ("application/grpc-webx", None),
            ("application/grpcs", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Rpc::split(kind), expected, "{kind}");
        }
    }

    #[test]
    fn the_answer_has_the_accepted_form_else_that_of_the_question() {
        for (accept, expected) in [
            (None, Rpc::Web),
            (Some("*/*"), Rpc::Web),
            (Some("application/grpc"), Rpc::Web),
            (Some("application/grpc-web-text"), Rpc::WebText),
            (Some("*/*, application/grpc-web-text+proto"), Rpc::WebText),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            assert_eq!(
                Rpc::Web.answered_as(accept.as_ref()),
                expected,
                "{accept:?}"
            );
        }
    }

    #[test]
    fn another_form_keeps_the_encoding_of_messages() {
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/grpc+proto");
        headers.insert(header::CONTENT_TYPE, kind);
        assert!(!Rpc::Web.retype(&mut headers, Rpc::Grpc));
        assert!(Rpc::Grpc.retype(&mut headers, Rpc::WebText));
        assert_eq!(headers["content-type"], "application/grpc-web-text+proto");
    }

    #[test]
    fn trailers_become_a_frame_with_its_length() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x", HeaderValue::from_static("y"));
        let frame = trailer_frame(&trailers);
        assert_eq!(&frame[..], b"\x80\0\0\0\x16grpc-status: 0\r\nx: y\r\n");
    }
}
