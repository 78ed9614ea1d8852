//! HTTP/2 from well-behaved clients, and the bounds that those meet who are not.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Gateway, H2, Origin,
    eventually::{eventually, within},
    gateway,
    h2::{
        Outcome,
        wire::{self, code, setting},
    },
    http1,
    origin::ok,
};
use tokio::time::{Instant, sleep};

async fn listening(keys: &str, rule: &str, origin: Option<&Origin>) -> Gateway {
    let upstream = origin.map_or_else(String::new, |origin| {
        format!("[upstreams.u]\nendpoints = [\"{}\"]\n", origin.address())
    });
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n{keys}\n[routes.r]\n{rule}\n{upstream}"
    ))
    .await
}

async fn before(origin: &Origin) -> Gateway {
    listening("", "to = \"u\"", Some(origin)).await
}

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    wire::block(fields)
}

const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/"),
];

async fn ask(client: &mut H2, stream: u32, extra: &[(&str, &str)]) -> Outcome {
    let block = fields(&[GET, extra].concat());
    client.send(wire::request(stream, &block)).await;
    client.outcome(stream).await
}

#[tokio::test]
async fn a_request_reaches_the_origin_as_http1_and_its_answer_comes_back_without_connection_fields()
{
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\n\
                 X-Mine: yes\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            )
            .await;
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;

    let Outcome::Answer(answer) = client.get(1, "/a?b=c").await else {
        panic!("no answer: {:?}", client.seen);
    };
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("x-mine"), Some("yes"));
    for gone in ["transfer-encoding", "connection", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    let request = origin.wait_for_requests(1).await.remove(0);
    assert_eq!(request.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(request.header("host"), Some("a.example"));
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["protocol"], "HTTP/2.0");
    assert_eq!(line["status"], 200);
}

#[tokio::test]
async fn a_streamed_body_goes_on_in_pieces_with_its_trailers() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let sum = request.trailers.iter().find(|(name, _)| name == "x-sum");
            let sum = sum.map_or("none", |(_, value)| value);
            let text = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-got\r\n\r\n\
                 {:x}\r\n{}\r\n0\r\nx-got: {sum}\r\n\r\n",
                request.body.len(),
                request.text()
            );
            peer.send(text).await;
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    let head = [
        wire::post("/"),
        wire::field(b"te", b"trailers"),
        wire::field(b"trailer", b"x-sum"),
    ];
    client.send(wire::head(1, &head.concat())).await;
    client.send(wire::data(1, "one ")).await;
    client.send(wire::data(1, "two")).await;
    let trailers = wire::field(b"x-sum", b"42");
    client.send(wire::request(1, &trailers)).await;

    let Outcome::Answer(answer) = client.outcome(1).await else {
        panic!("no answer: {:?}", client.seen);
    };
    assert_eq!(answer.text(), "one two");
    assert_eq!(answer.trailers, [("x-got".to_owned(), "42".to_owned())]);
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_cookie_for_the_origin() {
    let origin = Origin::text("ok").await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    assert_eq!(ask(&mut client, 1, &crumbs).await.status(), Some(200));
    let request = origin.wait_for_requests(1).await.remove(0);
    let cookies: Vec<_> = request.all("cookie").collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn many_streams_are_answered_each_with_its_own() {
    let origin = Origin::echo().await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    for number in 0..60 {
        let path = format!("/{number}");
        client
            .send(wire::request(number * 2 + 1, &wire::get(&path)))
            .await;
    }
    for number in 0..60 {
        let Outcome::Answer(answer) = client.outcome(number * 2 + 1).await else {
            panic!("no answer to {number}: {:?}", client.seen);
        };
        let start = format!("GET /{number} HTTP/1.1\r\n");
        assert!(answer.text().starts_with(&start), "{}", answer.text());
    }
}

#[tokio::test]
async fn answers_of_our_own_fit_their_stream_and_leave_the_others() {
    let origin = Origin::text("ok").await;
    let rules = "[[routes.r.rules]]\nmatch = { path = { prefix = \"/up\" } }\nmax_body = \"4B\"\nto = \"u\"\n\
                 [[routes.r.rules]]\nmatch = { path = \"/here\" }\nrespond = { body = \"here\" }\n";
    let gateway = listening("", rules, Some(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;

    assert_eq!(client.get(1, "/none").await.status(), Some(404));
    let block = fields(&[
        (":method", "HEAD"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/here"),
    ]);
    client.send(wire::request(3, &block)).await;
    let Outcome::Answer(head) = client.outcome(3).await else {
        panic!("no answer: {:?}", client.seen);
    };
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("4"));

    client.send(wire::head(5, &wire::post("/up"))).await;
    client.send(wire::data(5, "12345")).await;
    assert_eq!(client.outcome(5).await.status(), Some(413));
    let Outcome::Answer(here) = client.get(7, "/here").await else {
        panic!("no answer: {:?}", client.seen);
    };
    assert_eq!(here.text(), "here");
    assert_eq!(here.header("connection"), None);
}

#[tokio::test]
async fn a_request_is_for_one_host_on_a_path_that_begins_at_the_root() {
    let origin = Origin::text("ok").await;
    let gateway = before(&origin).await;
    let with = |authority: Option<&'static str>, path: &'static str, host: Option<&'static str>| {
        let mut block = vec![(":method", "GET"), (":scheme", "http"), (":path", path)];
        block.extend(authority.map(|authority| (":authority", authority)));
        block.extend(host.map(|host| ("host", host)));
        fields(&block)
    };
    let mut client = H2::connect(gateway.address()).await;
    let mut stream = 1;
    for (block, status) in [
        (with(Some("a"), "/", None), Some(200)),
        (with(Some("A:80"), "/", Some("a")), Some(200)),
        (with(None, "/", Some("a")), Some(200)),
        (with(Some("a"), "/", Some("b")), Some(400)),
        (with(None, "/", None), Some(400)),
        (with(Some("u@a"), "/", None), Some(400)),
        (with(Some("a"), "*", None), Some(400)),
        (with(Some("a"), "nowhere", None), None),
        (with(Some("a"), "/../..", None), Some(400)),
    ] {
        client.send(wire::request(stream, &block)).await;
        let outcome = client.outcome(stream).await;
        match status {
            Some(status) => assert_eq!(outcome.status(), Some(status), "stream {stream}"),
            None => assert_ne!(outcome.status(), Some(200), "stream {stream}"),
        }
        stream += 2;
    }
    let hosts: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.header("host").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(hosts.len(), 3, "{hosts:?}");
}

#[tokio::test]
async fn values_with_blanks_at_their_ends_and_tunnels_are_refused() {
    let origin = Origin::text("ok").await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    for (index, value) in [" a", "a ", "\ta"].into_iter().enumerate() {
        let stream = u32::try_from(index).unwrap() * 2 + 1;
        let outcome = ask(&mut client, stream, &[("x-padded", value)]).await;
        assert_ne!(outcome.status(), Some(200), "{value:?}");
    }
    let connect = fields(&[(":method", "CONNECT"), (":authority", "a.example:443")]);
    client.send(wire::request(11, &connect)).await;
    assert_eq!(client.outcome(11).await.status(), Some(501));
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_belies_its_length_or_is_taken_back_is_no_request_for_the_origin() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(ok("ok")).await;
        }
    })
    .await;
    let gateway = before(&origin).await;
    let length = |length: &str| {
        [
            wire::post("/"),
            wire::field(b"content-length", length.as_bytes()),
        ]
        .concat()
    };
    let mut client = H2::connect(gateway.address()).await;

    // Shorter, longer, and none at all.
    client.send(wire::head(1, &length("10"))).await;
    client.send(wire::last_data(1, "12345")).await;
    assert_ne!(client.outcome(1).await.status(), Some(200));
    client.send(wire::head(3, &length("3"))).await;
    client.send(wire::last_data(3, "12345")).await;
    assert_ne!(client.outcome(3).await.status(), Some(200));
    client.send(wire::request(5, &length("3"))).await;
    assert_ne!(client.outcome(5).await.status(), Some(200));
    // Taken back in the middle, with every reason there is: "no error" is none either.
    for (stream, reason) in [(7, code::CANCEL), (9, code::NO_ERROR)] {
        client.send(wire::head(stream, &wire::post("/"))).await;
        client.send(wire::data(stream, "half")).await;
        eventually("half of it is there", || {
            let seen = origin.saw();
            seen.iter()
                .any(|bytes| bytes.ends_with(b"half\r\n"))
                .then_some(())
        })
        .await;
        client.send(wire::reset(stream, reason)).await;
        eventually("its connection is closed", || {
            (origin.open_now() == 0).then_some(())
        })
        .await;
    }
    assert!(client.lives().await);
    let complete: Vec<_> = origin
        .saw()
        .iter()
        .flat_map(|bytes| http1::requests(bytes).0)
        .collect();
    assert!(complete.is_empty(), "{complete:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_origin_and_nobody_else() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.second() != "/large" {
                peer.send(ok("ok")).await;
                continue;
            }
            peer.narrow();
            let size = 64 << 20;
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
                .await;
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..size / piece.len() {
                if !peer.send(&piece).await {
                    return;
                }
            }
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    client.replenishes = false;
    client.send(wire::request(1, &wire::get("/large"))).await;
    client
        .until(Duration::from_secs(10), |seen| {
            seen.streams
                .get(&1)
                .is_some_and(|it| it.body.len() == 65_535)
        })
        .await;
    client.send(wire::window(0, 1 << 20)).await;

    // Another stream of the same connection is not held up.
    assert_eq!(client.get(3, "/small").await.status(), Some(200));
    let mut before = origin.written();
    for _ in 0..50 {
        sleep(Duration::from_millis(20)).await;
        let now = origin.written();
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 8 << 20, "{before} bytes are on their way");
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_given_up_and_no_other() {
    let origin = Origin::text("ok").await;
    let rules = "[[routes.r.rules]]\nmatch = { path = \"/here\" }\nrespond = { body = \"here\" }\n\
                 [[routes.r.rules]]\nto = \"u\"\n";
    let gateway = listening(
        "timeouts = { write_stall = \"400ms\" }",
        rules,
        Some(&origin),
    )
    .await;
    let shut = [(setting::INITIAL_WINDOW_SIZE, 0)];
    let mut client = H2::with(gateway.address(), &shut).await;
    assert_eq!(client.get(1, "/").await, Outcome::Reset(code::CANCEL));
    assert_eq!(client.get(3, "/here").await, Outcome::Reset(code::CANCEL));
    let lines = gateway.log().wait(2).await;
    for line in &lines {
        assert_eq!(line["verdict"], "client_stalled", "{line}");
        assert_eq!(line["status"], 200);
    }
    client.send(wire::request(5, &wire::get("/"))).await;
    client.send(wire::window(5, 100)).await;
    assert_eq!(client.outcome(5).await.status(), Some(200));
}

#[tokio::test]
async fn a_drained_gateway_finishes_what_it_has_and_says_goodbye() {
    let origin = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            sleep(Duration::from_millis(300)).await;
            peer.send(ok("late")).await;
        }
    })
    .await;
    let mut gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    client.send(wire::request(1, &wire::get("/"))).await;
    origin.wait_for_requests(1).await;
    let (drained, outcome) = tokio::join!(gateway.drain(Duration::from_secs(10)), async {
        let outcome = client.outcome(1).await;
        client.end().await;
        outcome
    });
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    assert_eq!(
        client.seen.goaway.map(|(code, _)| code),
        Some(code::NO_ERROR)
    );
    assert!(drained);
}

#[tokio::test]
async fn a_connection_without_a_request_is_told_to_go() {
    let gateway = listening("timeouts = { idle = \"300ms\" }", "respond = {}", None).await;
    let mut fresh = H2::connect(gateway.address()).await;
    let mut used = H2::connect(gateway.address()).await;
    assert_eq!(used.get(1, "/").await.status(), Some(200));
    assert_eq!(fresh.end().await, Outcome::Gone(Some(code::NO_ERROR)));
    assert_eq!(used.end().await, Outcome::Gone(Some(code::NO_ERROR)));
}

#[tokio::test]
async fn a_head_in_pieces_has_a_total_deadline() {
    let gateway = listening(
        "timeouts = { request_head = \"400ms\" }",
        "respond = {}",
        None,
    )
    .await;
    let mut client = H2::connect(gateway.address()).await;
    let begun = Instant::now();
    // Anything else amid a head would be an error of its own.
    client.acknowledges = false;
    let half = wire::frame(wire::kind::HEADERS, 1, 1, &wire::get("/"));
    client.send(half).await;
    assert_eq!(client.end().await, Outcome::Gone(Some(code::CALM)));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "head_timeout");
}

#[tokio::test]
async fn half_a_preface_has_the_deadline_of_a_head_and_http1_is_not_disturbed() {
    let gateway = listening(
        "timeouts = { request_head = \"400ms\" }",
        "respond = {}",
        None,
    )
    .await;
    let mut client = gateway.connect().await;
    client.send("PRI * HTT").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 408);
    for bytes in ["P", "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"] {
        let mut client = gateway.connect().await;
        client.send(bytes).await;
        let status = client.reply().await.status;
        assert!(status == 400 || status == 408, "{bytes:?}: {status}");
    }
    let mut client = gateway.connect().await;
    client.send("P").await;
    sleep(Duration::from_millis(50)).await;
    client
        .send("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn requests_taken_back_have_a_bound_and_others_are_served_meanwhile() {
    let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let rules = "[[routes.r.rules]]\nmatch = { path = \"/here\" }\nrespond = { body = \"here\" }\n\
                 [[routes.r.rules]]\nto = \"u\"\n";
    let gateway = listening("limits = { resets = 50 }", rules, Some(&origin)).await;
    let mut other = H2::connect(gateway.address()).await;
    let mut client = H2::connect(gateway.address()).await;
    let mut sent = 0;
    for number in 0..1500 {
        let stream = number * 2 + 1;
        let both = [
            wire::request(stream, &wire::get("/")),
            wire::reset(stream, code::CANCEL),
        ];
        if !client.send(both.concat()).await {
            break;
        }
        sent += 1;
        if number % 10 == 0 && number < 50 {
            let begun = Instant::now();
            assert_eq!(other.get(stream, "/here").await.status(), Some(200));
            assert!(begun.elapsed() < Duration::from_secs(1));
        }
    }
    assert_eq!(
        client.end().await,
        Outcome::Gone(Some(code::CALM)),
        "{sent} sent"
    );
    gateway.counts(Counter::Floods, 1).await;
    let line = gateway.log().wait_for("verdict", "flood").await;
    assert_eq!(line["status"], 429);
    assert!(other.lives().await);
}

#[tokio::test]
async fn heads_are_bounded_in_fields_and_bytes() {
    let origin = Origin::text("ok").await;
    let gateway = before(&origin).await;
    let mut client = H2::connect(gateway.address()).await;
    let mut stream = 1;
    // 101 crumbs of a cookie, by reference to one entry of the table.
    let crumbs = [
        wire::get("/"),
        wire::indexed_field(b"cookie", b"a=1"),
        wire::index(62).repeat(100),
    ]
    .concat();
    // More than 32 KiB as they are counted, in a few bytes.
    let bomb = [
        wire::get("/"),
        wire::indexed_field(b"a", &[b'x'; 3000]),
        wire::index(62).repeat(15),
    ]
    .concat();
    for block in [crumbs, bomb] {
        client.send(wire::request(stream, &block)).await;
        assert_eq!(client.outcome(stream).await.status(), Some(431));
        stream += 2;
    }
    let lines = gateway.log().wait(2).await;
    assert!(lines.iter().all(|line| line["verdict"] == "head_too_large"));
    assert_eq!(client.get(stream, "/").await.status(), Some(200));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_trickles_is_a_408_in_both_dialects() {
    let origin = Origin::echo().await;
    let keys = "limits = { body_rate = 1000 }\ntimeouts = { request_body = \"300ms\" }";
    let gateway = listening(keys, "to = \"u\"", Some(&origin)).await;
    let mut new = H2::connect(gateway.address()).await;
    new.send(wire::head(1, &wire::post("/"))).await;
    let mut old = gateway.connect().await;
    old.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        .await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(900) {
        new.send(wire::data(1, "x")).await;
        old.try_send("x").await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(new.outcome(1).await.status(), Some(408));
    assert_eq!(within("the answer", old.reply()).await.status, 408);
    let lines = gateway.log().wait(2).await;
    assert!(
        lines.iter().all(|line| line["verdict"] == "body_timeout"),
        "{lines:?}"
    );
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_unseen() {
    let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let gateway = listening("limits = { streams = 3 }", "to = \"u\"", Some(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    assert!(client.lives().await);
    let limit = (setting::MAX_CONCURRENT_STREAMS, 3);
    assert!(client.seen.settings.contains(&limit));
    for stream in [1, 3, 5, 7] {
        client.send(wire::request(stream, &wire::get("/"))).await;
    }
    let outcome = client.outcome(7).await;
    assert_eq!(outcome, Outcome::Reset(code::REFUSED_STREAM));
    origin.wait_for_requests(3).await;
    assert_eq!(origin.requests().len(), 3);
}
