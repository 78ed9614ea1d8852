//! Bodies: their ends, their limits, their clocks.

use std::{sync::Arc, time::Duration};

use sluice_config::model::Limit;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use crate::rig::{GET, OK, PLAIN, Rig, local, respond};

#[tokio::test(start_paused = true)]
async fn head_gets_the_length_and_no_body() {
    local(async {
        let mut rig = Rig::new(|_, route, _| route.rules.insert(0, respond("/own", "mine")));
        rig.answers("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n");
        let mut client = rig.client();

        for (path, length) in [("/own", 4), ("/origin", 1234), ("/own", 4)] {
            client
                .send(&format!("HEAD {path} HTTP/1.1\r\nhost: app.test\r\n\r\n"))
                .await;
            let head = client.head().await;
            assert!(
                head.contains(&format!("content-length: {length}\r\n")),
                "{head}"
            );
        }
        let lines = rig.lines();
        assert!(lines.iter().all(|line| line["bytes_out"] == 0), "{lines:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_to_go_on_when_the_origin_takes_the_body() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            let head = peer.head().await;
            assert!(!head.contains("expect"), "{head}");
            assert_eq!(peer.exactly(4).await, "body");
            peer.send(OK).await;
        });
        let mut client = rig.client();

        client
            .send("POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
            .await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body").await;

        assert_eq!(client.message().await.1, "ok");
        assert_eq!(rig.line()["bytes_in"], 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_not_told_to_go_on() {
    for (head, status) in [
        (
            "host: app.test\r\nexpect: 100-continue\r\ncontent-length: 50",
            "413",
        ),
        (
            "host: app.test\r\nexpect: 100-continue\r\ncontent-length: 5",
            "503",
        ),
        (
            "host: no.test\r\nexpect: 100-continue\r\ncontent-length: 5",
            "404",
        ),
        (
            "host: app.test\r\nexpect: magic\r\ncontent-length: 5",
            "417",
        ),
    ] {
        local(async {
            let mut rig = Rig::new(|_, route, upstream| {
                route.filters.max_body = Some(Limit::At(10));
                upstream.endpoints.clear();
            });
            let mut client = rig.client();

            client
                .send(&format!("POST / HTTP/1.1\r\n{head}\r\n\r\n"))
                .await;
            let answer = client.rest().await;

            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(!answer.contains("HTTP/1.1 100"), "{answer}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_too_large_is_refused_while_it_comes() {
    local(async {
        let mut rig = Rig::new(|_, route, _| route.filters.max_body = Some(Limit::At(10)));
        rig.origin(|_, mut peer| async move {
            peer.rest().await;
        });
        let mut client = rig.client();

        client
            .send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..4 {
            client.send("4\r\nbody\r\n").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answer = client.rest().await;

        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(rig.line()["verdict"], "body_too_large");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_body_is_never_taken_for_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: no.test\r\n\r\n";
    for (size, kept) in [(smuggled.len(), true), (100_000, false)] {
        local(async {
            let mut rig = Rig::new(PLAIN);
            let mut client = rig.client();

            let head =
                format!("POST / HTTP/1.1\r\nhost: no.test\r\ncontent-length: {size}\r\n\r\n");
            client.send(&head).await;
            client.send(smuggled).await;
            let (head, _) = client.message().await;

            assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
            assert_eq!(!head.contains("connection: close\r\n"), kept, "{head}");
            if kept {
                client
                    .send("GET /next HTTP/1.1\r\nhost: no.test\r\n\r\n")
                    .await;
                client.message().await;
            } else {
                assert_eq!(client.rest().await, "");
            }
            let lines = rig.lines();
            assert!(
                lines.iter().all(|line| line["path"] != "/smuggled"),
                "{lines:?}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_given_up() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.rest().await;
        });
        let mut client = rig.client();
        let start = Instant::now();

        client
            .send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 9\r\n\r\nhalf")
            .await;
        let head = client.head().await;

        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(start.elapsed().as_secs(), 30);
        assert_eq!(rig.line()["verdict"], "body_timeout");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_given_up_and_costs_little() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        rig.origin(move |_, mut peer| {
            let counted = Arc::clone(&counted);
            async move {
                peer.head().await;
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
                    .await;
                let piece = [b'x'; 1000];
                while peer.0.write_all(&piece).await.is_ok() {
                    counted.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
        let mut client = rig.client();
        client.send(GET).await;

        tokio::time::sleep(Duration::from_secs(29)).await;
        assert!(rig.lines().is_empty());
        // Two pipes of 64 KiB stand for kernel buffers.
        let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!(sent < (128 + 512) << 10, "{sent} bytes were taken in");
        tokio::time::sleep(Duration::from_secs(2)).await;

        let line = rig.line();
        assert_eq!(line["verdict"], "client_stalled");
        assert_eq!(line["status"], 200);
        drop(client);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_rule_cuts_a_body_off_so_that_the_client_notices() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.timeout = Some(Limit::At(Duration::from_secs(3)));
        });
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            for _ in 0..60 {
                peer.send("1\r\nx\r\n").await;
                tokio::time::sleep(Duration::from_millis(900)).await;
            }
        });
        let mut client = rig.client();

        client.send(GET).await;
        let answer = client.rest().await;

        assert!(answer.ends_with("1\r\nx\r\n1\r\nx\r\n"), "{answer}");
        let line = rig.line();
        assert_eq!(line["verdict"], "request_timeout");
        assert_eq!(line["status"], 200);
        assert_eq!(line["bytes_out"], 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_travel_both_ways() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            let head = peer.head().await;
            assert!(head.contains("te: trailers\r\n"), "{head}");
            let body = peer
                .exactly("4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n".len())
                .await;
            assert_eq!(body, "4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n");
            peer.send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                 2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n",
            )
            .await;
        });
        let mut client = rig.client();

        client
            .send(
                "POST / HTTP/1.1\r\nhost: app.test\r\nte: trailers\r\nconnection: te\r\n\
                 transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                 4\r\nbody\r\n0\r\nx-sum: 1\r\nx-forwarded-for: 6.6.6.6\r\n\r\n",
            )
            .await;
        client.head().await;

        let body = "2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n";
        assert_eq!(client.exactly(body.len()).await, body);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_old_client_gets_no_chunks() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.answers("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let mut client = rig.client();

        client
            .send("GET / HTTP/1.0\r\nhost: app.test\r\n\r\n")
            .await;
        let answer = client.rest().await;

        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(!answer.contains("chunked"), "{answer}");
        assert_eq!(rig.line()["protocol"], "HTTP/1.0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                .await;
        });
        let mut client = rig.client();

        client.send(GET).await;
        let answer = client.rest().await;

        assert!(answer.ends_with("\r\n\r\nhalf"), "{answer}");
        assert_eq!(rig.line()["verdict"], "response_broken");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_with_broken_framing_is_refused_and_nothing_after_it_is_read() {
    for chunks in [
        "5;\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!0\r\n\r\n",
    ] {
        local(async {
            let mut rig = Rig::new(PLAIN);
            rig.origin(|_, mut peer| async move {
                peer.rest().await;
            });
            let mut client = rig.client();

            let head = "POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n";
            client.send(&[head, chunks, GET].concat()).await;
            let answer = client.rest().await;

            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{chunks:?}: {answer:?}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(rig.line()["verdict"], "bad_request", "{chunks:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_at_once() {
    local(async {
        let mut rig = Rig::new(PLAIN);
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            for _ in 0..3 {
                assert_eq!(peer.exactly(9).await, "4\r\nping\r\n");
                peer.send("4\r\npong\r\n").await;
            }
            assert_eq!(peer.exactly(5).await, "0\r\n\r\n");
            peer.send("0\r\n\r\n").await;
        });
        let mut client = rig.client();

        client
            .send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for turn in 0..3 {
            client.send("4\r\nping\r\n").await;
            if turn == 0 {
                assert!(client.head().await.starts_with("HTTP/1.1 200 "));
            }
            assert_eq!(client.exactly(9).await, "4\r\npong\r\n");
            // Longer than a head or an idle connection may take.
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(client.exactly(5).await, "0\r\n\r\n");

        let line = rig.line();
        assert_eq!(line["bytes_in"], 12);
        assert_eq!(line["bytes_out"], 12);
        assert_eq!(line["verdict"], serde_json::Value::Null);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_followed_by_the_end_of_sending_but_not_cut_by_it() {
    for (body, status) in [("body", 200), ("bo", 499)] {
        local(async {
            let mut rig = Rig::new(PLAIN);
            rig.origin(|_, mut peer| async move {
                peer.head().await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut body = [0; 4];
                if peer.0.read_exact(&mut body).await.is_ok() {
                    peer.send(OK).await;
                }
            });
            let mut client = rig.client();

            let head = "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 4\r\n\r\n";
            client.send(&[head, body].concat()).await;
            client.0.shutdown().await.unwrap();
            let answer = client.rest().await;

            assert_eq!(answer.ends_with("ok"), status == 200, "{answer}");
            assert_eq!(rig.line()["status"], status);
        })
        .await;
    }
}
