//! The questions of health checks that are asked in HTTP.

use std::{future::poll_fn, io, pin::pin};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluice_certs::client::ConnectError;
use sluice_config::model::{GrpcCheck, HttpCheck};

use super::{
    super::{
        Upstream,
        endpoints::{Endpoint, Speech},
    },
    startup::Declined,
};
use crate::{error::BoxError, stream::Stream};

/// The largest head of an answer.
const HEAD: usize = 16 * 1024;

/// What is read of a body, to find a text in it.
const BODY: usize = 64 * 1024;

/// The largest answer to a call: a number, and what later versions may say besides.
const MESSAGE: usize = 1024;

/// `grpc.health.v1.HealthCheckResponse.SERVING`
const SERVING: u64 = 1;

/// Why an endpoint is not well.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Unwell {
    /// Nobody was asked.
    #[error("there is no file descriptor left")]
    NoDescriptor,
    #[error("it took too long")]
    TooSlow,
    #[error("connecting to it")]
    Connect(#[source] io::Error),
    #[error("it grants no TLS")]
    Startup(#[source] Declined),
    #[error("there is no TLS with it")]
    Tls(#[source] ConnectError),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it answers with something that is no HTTP, or not at all")]
    Http(#[source] BoxError),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its answer lacks the text")]
    Text,
    #[error("it answers the call with gRPC status {0}")]
    Call(u16),
    #[error("its answer to the call cannot be read")]
    Unreadable,
    #[error("it says that it does not serve ({0})")]
    NotServing(u64),
}

/// Who is asked, in the words of a request.
pub(super) struct Asked {
    authority: uri::Authority,
    scheme: uri::Scheme,
}

impl Asked {
    pub(super) fn new(upstream: &Upstream, endpoint: &Endpoint, host: Option<&str>) -> Self {
        let host = host.unwrap_or_else(|| endpoint.key.as_str());
        let authority = host.parse();
        Self {
            // A path is nobody's name.
            authority: authority.unwrap_or_else(|_| uri::Authority::from_static("localhost")),
            scheme: match (&endpoint.goal.speech, &upstream.tls) {
                (Speech::Plain, None) => uri::Scheme::HTTP,
                (Speech::Tls(_), _) | (_, Some(_)) => uri::Scheme::HTTPS,
            },
        }
    }

    fn absolute(&self, path: &str) -> Result<Uri, Unwell> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path);
        uri.build().map_err(|error| Unwell::Http(error.into()))
    }
}

/// Runs `answer` to its end, and `connection` meanwhile. How that ends the answer tells.
async fn beside<T>(connection: impl Future, answer: impl Future<Output = T>) -> T {
    let (mut connection, mut answer) = (pin!(connection.fuse()), pin!(answer));
    poll_fn(|cx| {
        let _over = connection.as_mut().poll(cx).is_ready();
        answer.as_mut().poll(cx)
    })
    .await
}

/// Asks over HTTP/1.1.
pub(super) async fn http1(check: &HttpCheck, asked: &Asked, stream: Stream) -> Result<(), Unwell> {
    let broken = |error: hyper::Error| Unwell::Http(error.into());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut request = request(check, &check.path)?;
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(asked.authority.as_str());
    headers.insert(
        header::HOST,
        host.map_err(|error| Unwell::Http(error.into()))?,
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let request = request.map(|()| Empty::<Bytes>::new());
    beside(connection, async {
        let response = sender.send_request(request).await.map_err(broken)?;
        expected(check, response.status())?;
        let Some(text) = &check.body else {
            return Ok(());
        };
        let (mut body, mut heard) = (response.into_body(), BytesMut::new());
        while heard.len() < BODY
            && let Some(frame) = body.frame().await
        {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                heard.extend_from_slice(&data);
            }
        }
        contained(&heard, text)
    })
    .await
}

/// Asks over HTTP/2.
pub(super) async fn http2(check: &HttpCheck, asked: &Asked, stream: Stream) -> Result<(), Unwell> {
    let (sender, connection) = handshake(stream).await?;
    let mut request = request(check, &check.path)?;
    *request.uri_mut() = asked.absolute(&check.path)?;
    beside(connection, async {
        let mut sender = sender.ready().await.map_err(broken)?;
        let (response, _) = sender.send_request(request, true).map_err(broken)?;
        let response = response.await.map_err(broken)?;
        expected(check, response.status())?;
        match &check.body {
            None => Ok(()),
            Some(text) => contained(&body(response.into_body(), BODY).await?.0, text),
        }
    })
    .await
}

/// Calls `grpc.health.v1.Health/Check`.
pub(super) async fn grpc(check: &GrpcCheck, asked: &Asked, stream: Stream) -> Result<(), Unwell> {
    let (sender, connection) = handshake(stream).await?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = asked.absolute("/grpc.health.v1.Health/Check")?;
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("sluice"));
    let message = question(&check.service);
    beside(connection, async {
        let mut sender = sender.ready().await.map_err(broken)?;
        let (response, mut sending) = sender.send_request(request, false).map_err(broken)?;
        sending.send_data(message, true).map_err(broken)?;
        let response = response.await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(Unwell::Status(response.status().as_u16()));
        }
        // An answer without a message has its status in its only head.
        succeeded(response.headers())?;
        let (message, trailers) = body(response.into_body(), MESSAGE).await?;
        trailers.map_or(Ok(()), |trailers| succeeded(&trailers))?;
        match serving(&message) {
            Some(SERVING) => Ok(()),
            Some(other) => Err(Unwell::NotServing(other)),
            None => Err(Unwell::Unreadable),
        }
    })
    .await
}

fn broken(error: h2::Error) -> Unwell {
    Unwell::Http(error.into())
}

async fn handshake(
    stream: Stream,
) -> Result<(SendRequest<Bytes>, h2::client::Connection<Stream>), Unwell> {
    let head = u32::try_from(HEAD).unwrap_or(u32::MAX);
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(head).enable_push(false);
    builder.handshake(stream).await.map_err(broken)
}

fn request(check: &HttpCheck, path: &str) -> Result<Request<()>, Unwell> {
    let request = Request::builder()
        .method(check.method.as_str())
        .uri(path)
        .header(header::USER_AGENT, "sluice");
    let request = request.header(header::ACCEPT, "*/*").body(());
    request.map_err(|error| Unwell::Http(error.into()))
}

fn expected(check: &HttpCheck, status: StatusCode) -> Result<(), Unwell> {
    let status = status.as_u16();
    if check.expected.iter().any(|range| range.contains(&status)) {
        Ok(())
    } else {
        Err(Unwell::Status(status))
    }
}

fn contained(heard: &[u8], text: &str) -> Result<(), Unwell> {
    let heard = heard.get(..BODY).unwrap_or(heard);
    contains(heard, text).then_some(()).ok_or(Unwell::Text)
}

/// Whether `text` stands in `bytes`.
pub(super) fn contains(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len().max(1));
    windows.any(|window| window == text.as_bytes())
}

/// The first bytes of a body, a piece more than `most` at most, and the trailers if it is over by then.
async fn body(mut stream: RecvStream, most: usize) -> Result<(Bytes, Option<HeaderMap>), Unwell> {
    let mut heard = BytesMut::new();
    while heard.len() < most {
        let Some(piece) = stream.data().await else {
            let trailers = stream.trailers().await.map_err(broken)?;
            return Ok((heard.freeze(), trailers));
        };
        let piece = piece.map_err(broken)?;
        heard.extend_from_slice(&piece);
        // On a stream that is over there is nothing to give back.
        let _released = stream.flow_control().release_capacity(piece.len());
    }
    Ok((heard.freeze(), None))
}

/// Whether a head or trailers say nothing else.
fn succeeded(headers: &HeaderMap) -> Result<(), Unwell> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(());
    };
    let status = status.to_str().ok().and_then(|text| text.parse().ok());
    match status {
        Some(0) => Ok(()),
        Some(other) => Err(Unwell::Call(other)),
        None => Err(Unwell::Unreadable),
    }
}

/// `HealthCheckRequest { string service = 1; }` in a frame of gRPC.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// The status of a `HealthCheckResponse { ServingStatus status = 1; }` in a frame of gRPC; 0 where it says
/// none. Nothing when it is no such message.
fn serving(frame: &[u8]) -> Option<u64> {
    let mut rest = frame;
    // Nobody was told that we could read what is compressed.
    if rest.try_get_u8().ok()? != 0 {
        return None;
    }
    let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    let mut message = rest.get(..length)?;
    let mut status = 0;
    while message.has_remaining() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_about_a_service_names_it() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], b"\0\0\0\0\x04\x0a\x02ab");
        let long = question(&"x".repeat(200));
        assert_eq!(&long[..9], b"\0\0\0\0\xcb\x0a\xc8\x01x");
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_says_and_a_broken_one_is_none() {
        for (frame, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x03\x08\x81\x01", Some(129)),
            (b"\0\0\0\0\x06\x12\x02ab\x08\x01", Some(1)),
            (b"\0\0\0\0\x07\x15abcd\x08\x01", Some(1)),
            (b"\0\0\0\0\x0b\x11abcdefgh\x08\x01", Some(1)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x02\x0a\x09", None),
            (b"\0\0\0\0\x02\x0b\x01", None),
            (b"\0\0\0\0\x01\x08", None),
            (b"\0\0", None),
        ] {
            assert_eq!(serving(frame), expected, "{frame:?}");
        }
    }
}
