//! Peers that stop in the middle: readers that do not read, origins that stall, reset, lie or say
//! too much.

use std::time::Duration;

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, Gateway, Origin, client::NoReply, eventually::within, gateway, load::resident,
    process::Sluice,
};
use tokio::time::sleep;

/// Short enough for a test, long enough for a busy machine to do the rest in time.
const SHORT: &str = "timeouts = { connect = \"500ms\", response_head = \"500ms\", response_body = \"500ms\", write_stall = \"500ms\" }";

async fn to(origin: &Origin) -> Gateway {
    gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\n{SHORT}\n",
        origin.address()
    ))
    .await
}

/// Sends one GET and gives how it ended, with the verdict in the log.
async fn outcome(gateway: &Gateway) -> (Result<u16, NoReply>, String) {
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reply = client.try_reply("GET").await.map(|reply| reply.status);
    let line = gateway.log().wait(1).await.remove(0);
    (
        reply,
        line["verdict"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn a_reader_that_stops_costs_less_than_half_a_megabyte() {
    const READERS: u64 = 40;
    let origin = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            let piece = vec![b'x'; 64 << 10];
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                256 << 20
            ))
            .await;
            for _ in 0..4096 {
                if !peer.send(&piece).await {
                    return;
                }
            }
        }
    })
    .await;
    let gateway = Sluice::run(&format!(
        "[process]\nworkers = 2\n[access_log]\noutput = {{ file = \"access.jsonl\" }}\n[listeners.web]\naddress = \"{{address}}\"\n[routes.r]\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    // The first request pays for what every process needs once.
    let mut first = Client::connect_narrow(gateway.address()).await;
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    first.read_at_least(1 << 20).await;
    let before = resident(&gateway.id().to_string());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = Client::connect_narrow(gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.read_at_least(1024).await;
        readers.push(client);
    }
    settled(&origin).await;
    let cost = resident(&gateway.id().to_string()).saturating_sub(before) / READERS;
    assert!(cost < 512 << 10, "{cost} bytes for each reader");
    assert!(
        origin.written() < READERS * (256 << 20) / 2,
        "the bodies were not held back"
    );
}

/// Waits until the origin can write nothing more.
async fn settled(origin: &Origin) {
    let still = async {
        let mut last = origin.written();
        loop {
            sleep(Duration::from_millis(300)).await;
            let now = origin.written();
            if now == last {
                return;
            }
            last = now;
        }
    };
    within("the origin is held back", still).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_held_back_from_its_origin_and_goes_on_later() {
    const LENGTH: usize = 32 << 20;
    let origin = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
            ))
            .await;
            peer.send(vec![b'x'; LENGTH]).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    let mut client = Client::connect_narrow(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_at_least(1024).await;
    settled(&origin).await;
    assert!(origin.written() < LENGTH as u64, "all of it was taken");
    // Reading on brings the rest: `response_body` counts the origin's pauses, not the client's.
    let mut got = 0;
    while got < LENGTH - 2048 {
        got += client.read_at_least(1).await.len();
    }
}

#[tokio::test]
async fn an_origin_that_never_answers_is_given_up() {
    let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let gateway = to(&origin).await;
    assert_eq!(
        outcome(&gateway).await,
        (Ok(504), "response_timeout".to_owned())
    );
}

#[tokio::test]
async fn an_origin_that_stalls_in_its_body_is_cut_visibly() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            .await;
        peer.hold().await;
    })
    .await;
    let gateway = to(&origin).await;
    let (reply, verdict) = outcome(&gateway).await;
    assert!(
        matches!(reply, Err(NoReply::Closed(_) | NoReply::Reset)),
        "{reply:?}"
    );
    assert_eq!(verdict, "response_broken");
}

#[tokio::test]
async fn an_origin_that_closes_without_a_word_is_a_502() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    let gateway = to(&origin).await;
    assert_eq!(
        outcome(&gateway).await,
        (Ok(502), "upstream_reset".to_owned())
    );
}

#[tokio::test]
async fn an_origin_that_resets_before_it_answers_is_a_502() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    let gateway = to(&origin).await;
    assert_eq!(
        outcome(&gateway).await,
        (Ok(502), "upstream_reset".to_owned())
    );
}

#[tokio::test]
async fn an_origin_that_resets_in_its_body_is_cut_visibly() {
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let origin = Origin::start(move |mut peer| async move {
            peer.request().await;
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nsome\r\n"))
                .await;
            peer.reset();
        })
        .await;
        let gateway = to(&origin).await;
        let (reply, verdict) = outcome(&gateway).await;
        // A client that had read the head sees the connection end early, never a complete body.
        assert!(
            reply == Ok(502) || matches!(reply, Err(NoReply::Closed(_) | NoReply::Reset)),
            "{head}: {reply:?}"
        );
        assert!(
            verdict == "response_broken" || verdict == "upstream_reset",
            "{head}: {verdict}"
        );
    }
}

#[tokio::test]
async fn an_origin_that_promises_more_than_it_sends_is_cut_visibly() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            .await;
    })
    .await;
    let gateway = to(&origin).await;
    let (reply, verdict) = outcome(&gateway).await;
    assert!(
        matches!(reply, Err(NoReply::Closed(_) | NoReply::Reset)),
        "{reply:?}"
    );
    assert_eq!(verdict, "response_broken");
}

#[tokio::test]
async fn an_origin_that_breaks_its_chunks_is_cut_visibly() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzzz\r\n")
            .await;
        peer.hold().await;
    })
    .await;
    let gateway = to(&origin).await;
    let (reply, verdict) = outcome(&gateway).await;
    assert!(
        matches!(reply, Err(NoReply::Closed(_) | NoReply::Reset)),
        "{reply:?}"
    );
    assert_eq!(verdict, "response_broken");
}

#[tokio::test]
async fn bytes_beyond_the_promised_length_are_never_seen_and_the_connection_is_not_used_again() {
    let origin =
        Origin::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil")
            .await;
    let gateway = to(&origin).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("a", "/").await.text(), "ok");
    }
    assert_eq!(origin.connections(), 5);
}

#[tokio::test]
async fn a_second_answer_to_one_request_reaches_nobody() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond",
    )
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    for _ in 0..10 {
        assert_eq!(client.get("a", "/").await.text(), "first");
    }
    assert_eq!(origin.connections(), 10);
}

#[tokio::test]
async fn an_answer_sent_before_any_request_reaches_nobody() {
    let origin = Origin::start(|mut peer| async move {
        // Answers the request, then volunteers another answer a little later.
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            sleep(Duration::from_millis(20)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                .await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("a", "/").await.text(), "ok");
        sleep(Duration::from_millis(40)).await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_502() {
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    ] {
        let origin = Origin::raw(answer).await;
        let gateway = to(&origin).await;
        assert_eq!(
            outcome(&gateway).await,
            (Ok(502), "upstream_protocol".to_owned()),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_with_both_framings_is_refused_or_has_one_for_the_client() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let gateway = to(&origin).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The client of these tests refuses a message with two framings.
    let reply = client.try_reply("GET").await.expect("one framing");
    assert!(reply.status == 502 || reply.text() == "ok", "{reply:?}");
}

#[tokio::test]
async fn an_endless_head_of_an_origin_is_a_502() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\n").await;
        while peer.send(format!("X: {}\r\n", "y".repeat(8000))).await {}
    })
    .await;
    let gateway = to(&origin).await;
    assert_eq!(outcome(&gateway).await.0, Ok(502));
}

#[tokio::test]
async fn an_origin_that_stops_reading_a_request_is_given_up() {
    let origin = Origin::start(|peer| async move {
        peer.narrow();
        sleep(Duration::from_mins(1)).await;
        drop(peer);
    })
    .await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\ntimeouts = {{ write_stall = \"500ms\" }}\n",
        origin.address()
    ))
    .await;
    let mut client = gateway.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            64 << 20
        ))
        .await;
    let piece = vec![b'x'; 64 << 10];
    let reply = within("an answer", async {
        loop {
            if !client
                .try_send_for(&piece, Duration::from_millis(200))
                .await
            {
                return client.try_reply("POST").await;
            }
        }
    })
    .await;
    assert!(reply.as_ref().is_ok_and(|reply| reply.status == 504) || reply.is_err());
    assert_eq!(
        gateway.log().wait(1).await[0]["verdict"],
        "upstream_stalled"
    );
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_upstream_connection() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.hold().await;
        // Only reached when the gateway closed.
        peer.send("").await;
    })
    .await;
    let gateway = gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    client.reset();
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "client_closed");
    assert_eq!(line["status"], 499);
    assert_eq!(gateway.count(Counter::Panics), 0);
}

#[tokio::test]
async fn an_origin_that_switches_protocols_unasked_is_a_502_and_opens_no_tunnel() {
    let origin = Origin::raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    )
    .await;
    let gateway = to(&origin).await;
    // Neither when nothing is asked for, nor when what is asked for is not allowed.
    for upgrade in ["", "Connection: Upgrade\r\nUpgrade: other\r\n"] {
        let reply = gateway
            .ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"))
            .await;
        assert_eq!(reply.status, 502);
    }
}

#[tokio::test]
async fn endless_interim_answers_are_no_answer() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        while peer.send("HTTP/1.1 103 Early Hints\r\n\r\n").await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let gateway = to(&origin).await;
    assert_eq!(
        outcome(&gateway).await,
        (Ok(504), "response_timeout".to_owned())
    );
}
