//! What a client sees of an answer on the way to whose next piece there was a panic: never a whole one.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_config::{
    model::{Listener, ListenerLimits},
    names::ListenerName,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::LocalSet,
};

use super::{http1, http2, tasks::Executive};
use crate::{
    drain::Tasks,
    error::ProxyError,
    http::{
        download::isolated,
        serve::phase::{Phase, Streams},
    },
    message::Body,
    telemetry::metrics::{Counter, Metrics, Shard},
};

type Next = Poll<Option<Result<Frame<Bytes>, ProxyError>>>;

/// Gives one piece, then nothing for a moment, and then there is a defect.
struct Defect {
    asked: u32,
}

impl HttpBody for Defect {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        this.asked += 1;
        match this.asked {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part"))))),
            // What there is goes out.
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => panic!("on purpose"),
        }
    }
}

/// Takes each piece as every answer's are taken.
struct Answer {
    inner: Body,
    counters: Shard,
}

impl Answer {
    fn response(metrics: &Metrics) -> Response<Body> {
        Response::new(Body::stream(Self {
            inner: Body::stream(Defect { asked: 0 }),
            counters: metrics.worker(0),
        }))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        isolated(&mut this.inner, cx, &this.counters)
    }
}

#[tokio::test]
async fn over_http1_its_connection_closes_without_the_last_chunk() {
    let metrics = Metrics::new(1);
    let (mut client, server) = tokio::io::duplex(4096);
    let service = service_fn(|_| async { Ok::<_, Infallible>(Answer::response(&metrics)) });
    let codec = http1::codec(&ListenerLimits::default());
    let connection = codec.serve_connection(TokioIo::new(server), service);
    let ask = async {
        let asked = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        asked.expect("the request goes out");
        let mut text = String::new();
        let read = client.read_to_string(&mut text).await;
        read.expect("the connection ends in order");
        text
    };
    let (ended, text) = tokio::join!(async move { connection.await.is_err() }, ask);

    assert!(ended, "the codec knows that it is cut");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(body, "4\r\npart\r\n");
    assert_eq!(metrics.sum(Counter::Panics), 1);
}

#[tokio::test]
async fn over_http2_its_stream_is_reset_and_no_other() {
    let metrics = Metrics::new(1);
    let tasks = Tasks::new();
    let (client, server) = tokio::io::duplex(64 << 10);
    let name = ListenerName::new("web").expect("a name");
    let listener = Listener::new(name, "127.0.0.1:80".parse().expect("an address"));
    let executor = Executive {
        tasks: tasks.clone(),
        streams: Streams::new(Rc::new(Phase::new())),
        called: Rc::new(RefCell::default()),
        stall: Duration::from_secs(30),
    };
    let codec = http2::codec(&listener, executor);
    let whole = metrics.clone();
    let service = service_fn(move |request: http::Request<_>| {
        let response = match request.uri().path() {
            "/cut" => Answer::response(&whole),
            _ => Response::new(Body::Full(Bytes::from_static(b"whole"))),
        };
        async { Ok::<_, Infallible>(response) }
    });
    let connection = codec.serve_connection(TokioIo::new(server), service);
    let talk = async {
        tasks.spawn_local(async move {
            let _ended = connection.await;
        });
        let (sender, connection) = h2::client::handshake(client).await.expect("HTTP/2");
        tasks.spawn_local(async move {
            let _ended = connection.await;
        });
        let ask = async |path: &str| {
            let mut sender = sender.clone().ready().await.expect("it takes requests");
            let request = http::Request::get(format!("http://a{path}")).body(());
            let request = request.expect("a request");
            let (answer, _) = sender.send_request(request, true).expect("it goes out");
            let mut body = answer.await.expect("a head").into_body();
            let mut read = Vec::new();
            while let Some(data) = body.data().await {
                match data {
                    Ok(data) => read.extend_from_slice(&data),
                    Err(error) => return (read, Some(error)),
                }
            }
            (read, None)
        };
        let (read, error) = ask("/cut").await;
        assert_eq!(read, b"part");
        let error = error.expect("the stream does not end");
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        let (read, error) = ask("/whole").await;
        assert_eq!((read.as_slice(), error.is_none()), (&b"whole"[..], true));
    };
    Box::pin(LocalSet::new().run_until(talk)).await;
    assert_eq!(metrics.sum(Counter::Panics), 1);
}
