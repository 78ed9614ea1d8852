//! Remote calls over HTTP/1 on both sides: refusals in gRPC's words, and gRPC-Web translated.

use std::time::Duration;

use sluice_tests::{Gateway, Origin, Reply, gateway, origin::closed_port};

/// A message of gRPC.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
const MESSAGE_TEXT: &str = "AAAAAAVoZWxsbw==";
const TRAILERS: &[u8] = b"\x80\0\0\0\x22grpc-status: 0\r\ngrpc-message: ok\r\n";
const TRAILERS_TEXT: &str = "gAAAACJncnBjLXN0YXR1czogMA0KZ3JwYy1tZXNzYWdlOiBvaw0K";

async fn call(gateway: &Gateway, path: &str, kind: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    gateway.ask(request).await
}

/// An origin that answers each call with one message and the trailers above.
async fn callee() -> Origin {
    Origin::raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc+proto\r\nTransfer-Encoding: chunked\r\n\
          Trailer: grpc-status, grpc-message\r\n\r\n\
          a\r\n\0\0\0\0\x05hello\r\n0\r\ngrpc-status: 0\r\ngrpc-message: ok\r\n\r\n"
            .to_vec(),
    )
    .await
}

#[tokio::test]
async fn refused_calls_are_answered_in_the_words_of_grpc() {
    let (closed, _guard) = closed_port();
    let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let gateway = gateway(&format!(
        "[routes.r]\nhosts = [\"a\"]\n\
         [[routes.r.rules]]\nmatch = {{ path = \"/closed\" }}\nto = \"{closed}\"\n\
         [[routes.r.rules]]\nmatch = {{ path = \"/small\" }}\nmax_body = \"2B\"\nto = \"{closed}\"\n\
         [[routes.r.rules]]\nmatch = {{ path = \"/slow\" }}\ntimeout = \"200ms\"\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    for (path, status, message, verdict) in [
        ("/nowhere", "12", "Not Found (no_route)", "no_route"),
        ("/closed", "14", "Bad Gateway (connect)", "connect"),
        (
            "/small",
            "8",
            "Payload Too Large (body_too_large)",
            "body_too_large",
        ),
        (
            "/slow",
            "4",
            "Gateway Timeout (request_timeout)",
            "request_timeout",
        ),
    ] {
        let reply = call(&gateway, path, "application/grpc+proto", MESSAGE).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/grpc"));
        assert_eq!(reply.header("grpc-status"), Some(status), "{path}");
        assert_eq!(reply.header("grpc-message"), Some(message), "{path}");
        assert_eq!(reply.text(), "");
        let line = gateway.log().wait_for("path", path).await;
        assert_eq!(line["verdict"], verdict);
    }
    // The same requests are refused in HTTP's words when they are no calls.
    let reply = call(&gateway, "/nowhere", "application/json", b"{}").await;
    assert_eq!((reply.status, reply.header("grpc-status")), (404, None));
    let reply = call(&gateway, "/nowhere", "application/grpc-web", MESSAGE).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (404, None));
}

#[tokio::test]
async fn a_call_from_a_browser_reaches_the_origin_as_grpc_and_its_trailers_come_as_a_frame() {
    let origin = callee().await;
    let gateway = gateway(&format!(
        "[routes.r]\ngrpc_web = true\nto = \"{}\"\n",
        origin.address()
    ))
    .await;

    let binary = call(&gateway, "/s/m", "application/grpc-web+proto", MESSAGE).await;
    assert_eq!(binary.status, 200);
    assert_eq!(
        binary.header("content-type"),
        Some("application/grpc-web+proto")
    );
    assert_eq!(binary.message.body, [MESSAGE, TRAILERS].concat());
    assert!(binary.message.trailers.is_empty());

    // Two messages, padded one by one.
    let two = [MESSAGE_TEXT, MESSAGE_TEXT].concat();
    let text = call(
        &gateway,
        "/s/m",
        "application/grpc-web-text",
        two.as_bytes(),
    )
    .await;
    assert_eq!(
        text.header("content-type"),
        Some("application/grpc-web-text+proto")
    );
    assert_eq!(text.text(), [MESSAGE_TEXT, TRAILERS_TEXT].concat());

    let requests = origin.wait_for_requests(2).await;
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/grpc+proto")
    );
    assert_eq!(requests[0].header("te"), Some("trailers"));
    assert_eq!(requests[0].body, MESSAGE);
    assert_eq!(requests[1].header("content-type"), Some("application/grpc"));
    assert_eq!(requests[1].body, [MESSAGE, MESSAGE].concat());
}

#[tokio::test]
async fn the_answer_to_a_browser_is_streamed() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
             a\r\n\0\0\0\0\x05hello\r\n",
        )
        .await;
        // The end never comes.
        peer.hold().await;
    })
    .await;
    let gateway = gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ngrpc_web = true\n[routes.r]\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    let mut client = gateway.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\n\
             Content-Length: {}\r\n\r\n{MESSAGE_TEXT}",
            MESSAGE_TEXT.len()
        ))
        .await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(MESSAGE_TEXT) {
        seen.extend(client.read_at_least(1).await);
    }
    assert!(client.quiet_for(Duration::from_millis(100)).await);
}

#[tokio::test]
async fn what_is_no_translatable_call_passes_or_is_refused() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 5\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let gateway = gateway(&format!(
        "[routes.r]\ngrpc_web = true\nto = \"{0}\"\n\
         [[routes.r.rules]]\nmatch = {{ path = \"/plain\" }}\ngrpc_web = false\nto = \"{0}\"\n",
        origin.address()
    ))
    .await;
    // Trailers in the head stay there.
    let reply = call(&gateway, "/", "application/grpc-web", MESSAGE).await;
    assert_eq!(reply.header("grpc-status"), Some("5"));
    assert_eq!(reply.header("content-type"), Some("application/grpc-web"));
    assert_eq!(reply.text(), "");
    // The nearest word counts.
    let reply = call(&gateway, "/plain", "application/grpc-web", MESSAGE).await;
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    // What is no base64 never was a message.
    let reply = call(&gateway, "/broken", "application/grpc-web-text", b"AAAA!").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("content-type"),
        Some("application/grpc-web-text")
    );
    assert_eq!(reply.header("grpc-status"), Some("13"));
    let line = gateway.log().wait_for("path", "/broken").await;
    assert_eq!(line["verdict"], "bad_request");
}
