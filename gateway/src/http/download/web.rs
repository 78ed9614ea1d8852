//! The answer to a call from a browser: gRPC becomes gRPC-Web, its trailers a last frame of the body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::super::normalize::clean_trailers;
use crate::{
    error::ProxyError,
    filter::{Base64, Rpc, trailer_frame},
    message::{Body, Response},
};

/// An answer as the form `form` has it. What is no gRPC stays as it is.
pub(crate) fn into_web(response: Response, form: Rpc) -> Response {
    let (mut parts, body) = response.into_parts();
    if !Rpc::Grpc.retype(&mut parts.headers, form) {
        return Response::from_parts(parts, body);
    }
    parts.headers.remove(header::TRAILER);
    if body.is_end_stream() {
        // Everything is said in the head.
        return Response::from_parts(parts, Body::Empty);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    let text = form == Rpc::WebText;
    Response::from_parts(parts, Body::stream(Encoded { inner: body, text }))
}

/// A body with its trailers inside, and in base64 where that is the form.
struct Encoded {
    inner: Body,
    text: bool,
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            ended => return Poll::Ready(ended),
        };
        let bytes = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                clean_trailers(&mut trailers, true);
                trailer_frame(&trailers)
            }
        };
        let bytes = if this.text {
            Base64::encode(&bytes)
        } else {
            bytes
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
