//! One connection at a time through the whole engine, byte by byte, under a paused clock: what a
//! client, an origin, the access log and the counters see.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute; here everything is one"
)]

#[path = "http1/bodies.rs"]
mod bodies;
#[path = "http1/faults.rs"]
mod faults;
#[path = "http1/retries.rs"]
mod retries;
#[path = "http1/rig.rs"]
mod rig;
#[path = "http1/upgrades.rs"]
mod upgrades;

use std::{sync::Arc, time::Duration};

use sluice_config::model::{HeaderEdits, HeaderName, HttpsRedirect, Limit, Template};
use sluice_gateway::telemetry::metrics::Counter;
use tokio::{io::AsyncWriteExt as _, time::Instant};

use rig::{GET, OK, PLAIN, Rig, local, respond};

#[tokio::test(start_paused = true)]
async fn a_request_reaches_its_origin_and_leaves_one_line() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.answers(OK);
        let mut client = rig.client();

        client
            .send("GET /a?secret=1 HTTP/1.1\r\nHost: App.Test:80\r\nuser-agent: t\r\n\r\n")
            .await;
        let (head, body) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, "ok");
        let line = rig.line();
        assert_eq!(line["listener"], "web");
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(line["method"], "GET");
        assert_eq!(line["host"], "app.test");
        assert_eq!(line["path"], "/a");
        assert_eq!(line["status"], 200);
        assert_eq!(line["verdict"], serde_json::Value::Null);
        assert_eq!(line["bytes_out"], 2);
        assert_eq!(line["route"], "app");
        assert_eq!(line["rule"], "*");
        assert_eq!(line["upstream"], "origin");
        assert_eq!(line["attempts"], 1);
        assert_eq!(line["user_agent"], "t");
        assert!(!line.to_string().contains("secret"));
        assert_eq!(rig.count(Counter::Requests), 1);
        assert_eq!(rig.count(Counter::RequestsRefused), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_route_is_refused_in_the_form_the_client_reads() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        let mut client = rig.client();

        client
            .send("GET / HTTP/1.1\r\nhost: other.test\r\naccept: application/json\r\n\r\n")
            .await;
        let (head, body) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(!head.to_lowercase().contains("server:"), "{head}");
        assert_eq!(body, "{\"status\":404,\"title\":\"Not Found\"}\n");
        assert_eq!(rig.line()["verdict"], "no_route");
        assert_eq!(rig.count(Counter::RequestsRefused), 1);
        // The connection goes on.
        client.send(GET).await;
        assert!(client.head().await.starts_with("HTTP/1.1 50"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_given_up_after_a_total_time() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        let mut client = rig.client();
        let start = Instant::now();

        let answer = async {
            for byte in GET.as_bytes() {
                if client.0.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            client.rest().await
        };
        let answer = answer.await;

        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        // One second of lingering for a client that is still sending.
        assert!(
            start.elapsed() <= Duration::from_secs(13),
            "{:?}",
            start.elapsed()
        );
        let line = rig.line();
        assert_eq!(line["verdict"], "head_timeout");
        assert_eq!(line["status"], 408);
        assert_eq!(line["duration_ms"], 10_000.0);
        assert_eq!(rig.count(Counter::RequestsRefused), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_line() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.answers(OK);
        let (mut fresh, mut used) = (rig.client(), rig.client());
        used.send(GET).await;
        used.message().await;
        let start = Instant::now();

        assert_eq!(fresh.rest().await, "");
        assert_eq!(used.rest().await, "");

        let idle = start.elapsed().as_secs();
        assert!((74..=76).contains(&idle), "{idle}");
        assert_eq!(rig.lines().len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_use_outlives_the_idle_and_head_times() {
    local(async {
        let mut rig = Rig::new(|_, _, upstream| {
            upstream.timeouts.response_head = Duration::from_secs(500);
        });
        rig.origin(|_, mut peer| async move {
            while !peer.head().await.is_empty() {
                tokio::time::sleep(Duration::from_secs(200)).await;
                peer.send(OK).await;
            }
        });
        let mut client = rig.client();
        for _ in 0..3 {
            client.send(GET).await;
            assert_eq!(client.message().await.1, "ok");
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_codec_refuses_is_answered_logged_and_counted() {
    let many = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let large = format!(
        "GET / HTTP/1.1\r\nhost: a\r\na: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(9_000));
    for (request, status, verdict) in [
        ("NO HTTP\r\n\r\n", 400, "bad_request"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n",
            400,
            "bad_request",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\na: b\r\n folded\r\n\r\n",
            400,
            "bad_request",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\na: \x01\r\n\r\n",
            400,
            "bad_request",
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/3.7\r\n\r\n", 400, "bad_request"),
        (&*many, 431, "head_too_large"),
        (&*large, 431, "head_too_large"),
        (&*target, 414, "uri_too_long"),
    ] {
        local(async {
            let mut rig = Rig::new(PLAIN);
            let mut client = rig.client();

            client.send(request).await;
            let head = client.head().await;

            let what = request.get(..40).unwrap_or(request);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{what:?}: {head}"
            );
            let line = rig.line();
            assert_eq!(line["verdict"], verdict, "{what:?}");
            assert_eq!(line["status"], status, "{what:?}");
            assert_eq!(rig.count(Counter::RequestsRefused), 1, "{what:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            for path in ["/one", "/two"] {
                route.rules.insert(0, respond(path, path));
            }
        });
        rig.answers(OK);
        let mut client = rig.client();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: app.test\r\n\r\n");

        client
            .send(&[get("/one"), get("/"), get("/two")].concat())
            .await;

        assert_eq!(client.message().await.1, "/one");
        assert_eq!(client.message().await.1, "ok");
        assert_eq!(client.message().await.1, "/two");
        assert_eq!(rig.lines().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closed_its_sending_side_still_gets_its_answer() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            peer.send(OK).await;
        });
        let mut client = rig.client();

        client.send(GET).await;
        client.0.shutdown().await.unwrap();

        let answer = client.rest().await;
        assert!(
            answer.ends_with("\r\n\r\nok"),
            "{answer:?} {:?}",
            rig.lines()
        );
        assert_eq!(rig.line()["status"], 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_its_upstream_request_along() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        let left = Arc::new(tokio::sync::Notify::new());
        let (seen, told) = (Arc::clone(&left), Arc::clone(&left));
        rig.origin(move |_, mut peer| {
            let told = Arc::clone(&told);
            async move {
                peer.head().await;
                assert_eq!(peer.rest().await, "");
                told.notify_one();
            }
        });
        let mut client = rig.client();
        client.send(GET).await;
        tokio::time::sleep(Duration::from_millis(10)).await;

        drop(client);
        seen.notified().await;

        let line = rig.line();
        assert_eq!(line["verdict"], "client_closed");
        assert_eq!(line["status"], 499);
        assert_eq!(line["attempts"], 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_rule_bounds_the_wait_for_the_head() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.timeout = Some(Limit::At(Duration::from_secs(3)));
        });
        rig.origin(|_, mut peer| async move {
            peer.rest().await;
        });
        let mut client = rig.client();
        let start = Instant::now();

        client.send(GET).await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        assert_eq!(start.elapsed().as_secs(), 3);
        assert_eq!(rig.line()["verdict"], "request_timeout");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reused_connection_that_died_without_a_word_costs_nobody_a_request() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        // Each connection answers once, then takes a request and closes.
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            peer.send(OK).await;
            peer.head().await;
        });
        let mut client = rig.client();

        for _ in 0..2 {
            client.send(GET).await;
            assert_eq!(client.message().await.1, "ok");
        }

        let lines = rig.lines();
        assert_eq!(lines[1]["attempts"], 2);
        assert_eq!(lines[1]["reused"], false);
        assert_eq!(rig.count(Counter::UpstreamRetries), 1);
        // What an origin may have acted upon is not repeated.
        let post = GET
            .replace("GET", "POST")
            .replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n");
        client.send(&post).await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 502 "));
        let lines = rig.lines();
        assert_eq!(lines[2]["verdict"], "upstream_reset");
        assert_eq!(lines[2]["attempts"], 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_never_answers_is_asked_once() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
        });
        let mut client = rig.client();

        client.send(GET).await;

        assert!(client.message().await.0.starts_with("HTTP/1.1 502 "));
        assert_eq!(rig.line()["attempts"], 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_sends_everybody_to_https_needs_no_route() {
    local(async {
        let mut rig = Rig::new(|listener, _, _| {
            listener.https_redirect = Some(HttpsRedirect::default());
        });
        let mut client = rig.client();

        client
            .send("GET /a?b=c HTTP/1.1\r\nhost: other.test:80\r\n\r\n")
            .await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 301 "), "{head}");
        assert!(
            head.contains("location: https://other.test/a?b=c\r\n"),
            "{head}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_gateway_finishes_what_is_under_way_and_says_so() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            peer.send(OK).await;
        });
        let (mut busy, mut idle) = (rig.client(), rig.client());
        busy.send(GET).await;
        tokio::time::sleep(Duration::from_millis(10)).await;

        let drained = Box::pin(rig.engine.drain(Duration::from_secs(30)));
        let (drained, answer, nothing) = tokio::join!(drained, busy.rest(), idle.rest());

        assert!(drained);
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("ok"), "{answer}");
        assert_eq!(nothing, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn response_filters_see_refusals_too() {
    local(async {
        let mut rig = Rig::new(|listener, _, upstream| {
            listener.filters.response_headers = Some(HeaderEdits {
                set: vec![(
                    HeaderName::new("x-gate").unwrap(),
                    Template::literal("sluice"),
                )],
                ..HeaderEdits::default()
            });
            upstream.endpoints.clear();
        });
        let mut client = rig.client();

        for (request, status) in [
            (GET.to_owned(), 503),
            (GET.replace("app", "no"), 404),
            (GET.replace("/a", "/%2f"), 400),
        ] {
            client.send(&request).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(head.contains("x-gate: sluice\r\n"), "{head}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_old_client_may_keep_its_connection() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.answers(OK);
        let mut client = rig.client();

        for _ in 0..2 {
            client
                .send("GET / HTTP/1.0\r\nhost: app.test\r\nconnection: keep-alive\r\n\r\n")
                .await;
            let (head, body) = client.message().await;
            assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
            assert_eq!(body, "ok");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_head_that_never_ends_is_given_up_in_time() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            peer.send(OK).await;
        });
        let mut client = rig.client();
        let start = Instant::now();

        client.send(GET).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send("GET / HT").await;
        let answer = client.rest().await;

        assert!(answer.contains("\r\n\r\nokHTTP/1.1 408 "), "{answer}");
        assert!((10..12).contains(&start.elapsed().as_secs()));
        assert_eq!(rig.lines()[1]["verdict"], "head_timeout");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn origins_own_date_and_server_pass_through_once() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.answers(
            "HTTP/1.1 200 OK\r\nserver: origin/1\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             keep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n",
        );
        let mut client = rig.client();

        client.send(GET).await;
        let head = client.head().await;

        assert_eq!(head.matches("date:").count(), 1, "{head}");
        assert!(head.contains("server: origin/1\r\n"), "{head}");
        assert!(!head.contains("keep-alive"), "{head}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlasts_the_drain_says_so_in_its_line() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.rest().await;
        });
        let mut client = rig.client();
        client.send(GET).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let log = rig.log.clone();

        let drained = Box::pin(rig.engine.drain(Duration::from_secs(5))).await;

        assert!(!drained);
        let lines = log.lines();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("\"verdict\":\"draining\""), "{lines:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_was_just_let_in_is_heard_before_it_is_told_to_go() {
    local(async {
        for pause in [0, 900] {
            let mut rig = Rig::new(PLAIN);
            rig.answers(OK);
            let (mut speaks, mut silent) = (rig.client(), rig.client());
            tokio::task::yield_now().await;
            let start = Instant::now();
            let asks = async {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                speaks.send(GET).await;
                let (head, body) = speaks.message().await;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                assert!(head.contains("connection: close"), "{head}");
                assert_eq!(body, "ok");
                assert_eq!(speaks.rest().await, "");
                assert_eq!(silent.rest().await, "");
            };
            let (in_time, ()) = tokio::join!(rig.engine.drain(Duration::from_secs(10)), asks);
            assert!(in_time);
            assert_eq!(start.elapsed(), Duration::from_secs(1));
        }
    })
    .await;
}
