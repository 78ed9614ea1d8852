//! Bodies both ways: streamed, framed anew, never buffered whole.

use std::time::Duration;

use sluice_tests::{Gateway, Origin, gateway, http1, origin::ok};

async fn to(origin: &Origin) -> Gateway {
    gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await
}

#[tokio::test]
async fn a_response_is_streamed_piece_by_piece() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut peer| {
        let mut gate = gate.clone();
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            if gate.wait_for(|open| *open).await.is_ok() {
                peer.send("6\r\nsecond\r\n0\r\n\r\n").await;
            }
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut first = Vec::new();
    while http1::find(&first, b"first").is_none() {
        first.extend(client.read_at_least(1).await);
    }
    go.send_replace(true);
    let mut second = Vec::new();
    while http1::find(&second, b"0\r\n\r\n").is_none() {
        second.extend(client.read_at_least(1).await);
    }
    assert!(http1::find(&second, b"second").is_some());
}

#[tokio::test]
async fn a_request_is_streamed_piece_by_piece() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await;
    sluice_tests::eventually::eventually("the first piece arrives", || {
        origin
            .saw()
            .first()
            .and_then(|bytes| http1::find(bytes, b"first"))
    })
    .await;
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(origin.requests()[0].text(), "firstsecond");
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let body: String = ('a'..='z').cycle().take(400_000).collect();
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            peer.send(ok(&request.text())).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    let length = body.len();
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert!(
        client.reply().await.text() == body,
        "the body came back changed"
    );
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["bytes_in"], length);
    assert_eq!(line["bytes_out"], length);
}

#[tokio::test]
async fn trailers_pass_both_ways_when_the_client_asked_for_them() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
                .await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let reply = gateway
        .ask("POST / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 1\r\n\r\n")
        .await;
    assert_eq!(reply.text(), "ok");
    assert_eq!(
        reply.message.trailers,
        [("x-sum".to_owned(), "7".to_owned())]
    );
    let seen = origin.requests().remove(0);
    assert_eq!(seen.text(), "hi");
    assert_eq!(seen.trailers, [("x-up".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn trailers_cannot_smuggle_fields_that_matter() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin).await;
    let trailers = "Host: evil\r\nX-Forwarded-For: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\nContent-Length: 3\r\nAuthorization: Basic x\r\n";
    let reply = gateway
        .ask(format!("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: Host\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"))
        .await;
    assert_eq!(reply.status, 200);
    let seen = String::from_utf8_lossy(&origin.saw()[0]).to_lowercase();
    assert!(
        !seen.contains("evil") && !seen.contains("1.2.3.4"),
        "{seen}"
    );
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn head_is_answered_without_a_body_and_the_connection_lives() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let whole = ok("a body");
            let bytes = if request.first() == "HEAD" {
                &whole[..whole.len() - 6]
            } else {
                &whole[..]
            };
            peer.send(bytes).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client
        .send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let head = client.try_reply("HEAD").await.expect("an answer");
    assert_eq!(head.header("content-length"), Some("6"));
    assert_eq!(client.reply().await.text(), "a body");
    // Our own answers keep the rule too.
    let gateway = sluice_tests::gateway("[routes.r]\nrespond = { body = \"text\" }\n").await;
    let mut client = gateway.connect().await;
    client
        .send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(
        client.try_reply("HEAD").await.expect("an answer").status,
        200
    );
    assert_eq!(client.reply().await.text(), "text");
}

#[tokio::test]
async fn answers_without_a_body_keep_their_shape() {
    for answer in [
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let origin = Origin::raw(answer).await;
        let gateway = to(&origin).await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            let reply = client.get("a", "/").await;
            assert_eq!(reply.status.to_string(), answer[9..12], "{answer}");
            assert_eq!(reply.text(), "");
        }
        assert_eq!(origin.connections(), 1, "{answer}");
    }
}

#[tokio::test]
async fn an_expectation_is_met_once_and_the_body_follows() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    let interim = client.read_at_least(25).await;
    assert!(
        interim.starts_with(b"HTTP/1.1 100 Continue\r\n"),
        "{}",
        String::from_utf8_lossy(&interim)
    );
    client.send("hi").await;
    assert_eq!(client.reply().await.status, 200);
    let seen = origin.requests().remove(0);
    assert_eq!((seen.header("expect"), seen.text().as_str()), (None, "hi"));
}

#[tokio::test]
async fn an_expectation_is_not_met_when_the_answer_is_known_already() {
    let gateway = gateway("[[routes.r.rules]]\nmatch = { path = \"/none\" }\nrespond = {}\n").await;
    let mut client = gateway.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.interim), (404, vec![]));
}

#[tokio::test]
async fn interim_answers_of_an_origin_do_not_confuse_the_final_one() {
    let origin = Origin::raw(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        assert_eq!(client.get("a", "/").await.text(), "ok");
    }
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_is_framed_for_the_client() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        let reply = client.get("a", "/").await;
        assert_eq!(reply.text(), "until the end");
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_an_answer_it_can_read() {
    let origin =
        Origin::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.header("transfer-encoding"), None);
    assert_eq!(reply.text(), "ok");
    assert!(client.rest().await.is_empty());
    assert!(origin.requests()[0].start.ends_with("HTTP/1.1"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_response_stay_behind() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = to(&origin).await;
    let reply = gateway.get("a", "/").await;
    for name in ["x-hop", "keep-alive", "upgrade"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    assert_eq!(reply.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let origin = Origin::start(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        peer.hold().await;
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome")
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (403, "no"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.second() == "/1" {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            peer.send(ok(request.second())).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    let all: Vec<_> = (1..=5)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(all.concat()).await;
    for number in 1..=5 {
        assert_eq!(client.reply().await.text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn a_client_that_sends_everything_and_closes_its_side_still_gets_the_answer() {
    let origin = Origin::text("ok").await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.finish().await;
    assert_eq!(client.reply().await.text(), "ok");
}

#[tokio::test]
async fn what_is_left_of_a_body_after_an_early_answer_is_never_read_as_a_request() {
    let origin = Origin::start(|mut peer| async move {
        while peer.head().await.is_some() {
            peer.send(ok("early")).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len() + 4;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nsome"
        ))
        .await;
    assert_eq!(client.reply().await.text(), "early");
    client.send(smuggled).await;
    // Whatever is done with the rest of the body: no second answer comes of it.
    assert!(!matches!(
        client.try_reply_for(Duration::from_millis(500)).await,
        Some(Ok(_))
    ));
    assert!(
        gateway
            .log()
            .lines()
            .iter()
            .all(|line| line["path"] != "/smuggled")
    );
    // Nor is the connection to the origin used for anybody else.
    assert_eq!(gateway.get("a", "/next").await.text(), "early");
    assert!(origin.connections() > 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_complete_to_the_origin() {
    for body in [
        "Content-Length: 10\r\n\r\nsome",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ] {
        for reset in [true, false] {
            let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
            let gateway = to(&origin).await;
            let mut client = gateway.connect().await;
            client
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"))
                .await;
            sluice_tests::eventually::eventually("the piece arrives", || {
                origin
                    .saw()
                    .first()
                    .and_then(|bytes| http1::find(bytes, b"some"))
            })
            .await;
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            let line = gateway.log().wait(1).await.remove(0);
            assert_eq!(line["verdict"], "client_closed", "{body}");
            sluice_tests::eventually::becomes("the origin is left", 0, || origin.open_now()).await;
            assert!(origin.requests().is_empty(), "{body}: {:?}", origin.saw());
        }
    }
}
