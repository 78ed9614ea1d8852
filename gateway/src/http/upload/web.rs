//! A call from a browser on its way: gRPC-Web becomes gRPC.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Fault, Next, Progress, isolated};
use crate::{
    error::ProxyError,
    filter::{Base64, Rpc},
    message::{Body, Request},
};

/// A call in the form `form` as gRPC has it.
pub(crate) fn from_web(request: Request, form: Rpc, progress: Option<Rc<Progress>>) -> Request {
    let (mut parts, body) = request.into_parts();
    form.retype(&mut parts.headers, Rpc::Grpc);
    // What it accepts is a form of ours; the origin gives its own.
    parts.headers.remove(header::ACCEPT);
    if form != Rpc::WebText || matches!(body, Body::Empty) {
        return Request::from_parts(parts, body);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    let decoded = Decoded {
        inner: body,
        decoder: Base64::default(),
        progress,
        ended: false,
    };
    Request::from_parts(parts, Body::stream(decoded))
}

/// A body out of its base64, piece by piece.
struct Decoded {
    inner: Body,
    decoder: Base64,
    progress: Option<Rc<Progress>>,
    ended: bool,
}

impl Decoded {
    fn broken(&mut self) -> Next {
        self.ended = true;
        if let Some(progress) = &self.progress {
            progress.break_off(Fault::Malformed);
        }
        Poll::Ready(Some(Err(Fault::Malformed.into())))
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Next {
        while !self.ended {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None if self.decoder.is_complete() => break,
                None => return self.broken(),
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => frame,
            };
            let Ok(data) = frame.into_data() else {
                // Trailers of a request mean nothing to gRPC.
                continue;
            };
            match self.decoder.decode(&data) {
                None => return self.broken(),
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            }
        }
        self.ended = true;
        Poll::Ready(None)
    }
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        match this.progress.clone() {
            None => this.next(cx),
            Some(progress) => isolated(&progress, || this.next(cx)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
