//! Malformed and hostile requests: what the client is told, and what the origin sees of them.

#[path = "hostile/cases.rs"]
mod cases;

use std::fmt::Write as _;

use cases::{Answer, Case, Saw};
use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{Gateway, Origin, client::NoReply, gateway, http1};

/// What reaches the origin, told apart from what reached it before.
struct Watch<'a> {
    origin: &'a Origin,
    before: Vec<usize>,
}

impl<'a> Watch<'a> {
    fn begin(origin: &'a Origin) -> Self {
        Self {
            origin,
            before: origin.saw().iter().map(Vec::len).collect(),
        }
    }

    /// What came since. A last request behind it proves that nothing is still on its way.
    async fn end(self, gateway: &Gateway) -> Vec<u8> {
        let reply = gateway.get("a.example", "/last").await;
        assert_eq!(reply.status, 200, "the gateway still serves others");
        let mut fresh = Vec::new();
        for (number, bytes) in self.origin.saw().iter().enumerate() {
            let start = self.before.get(number).copied().unwrap_or_default();
            let bytes = &bytes[start..];
            let end = http1::find(bytes, b"GET /last ").unwrap_or(bytes.len());
            fresh.extend_from_slice(&bytes[..end]);
        }
        fresh
    }
}

/// Sends a case and gives what was wrong, if anything.
async fn play(gateway: &Gateway, origin: &Origin, case: &Case) -> Result<(), String> {
    let watch = Watch::begin(origin);
    let mut client = gateway.connect().await;
    client.send(case.send).await;
    let (statuses, closes): (&[u16], bool) = match &case.answer {
        Answer::Refused(status) | Answer::Last(status) => (std::slice::from_ref(status), true),
        Answer::Answers(statuses) => (statuses, false),
    };
    for status in statuses {
        let got = client.try_reply("GET").await.map(|reply| reply.status);
        if got != Ok(*status) {
            return Err(format!("wanted {statuses:?}, got {got:?}"));
        }
    }
    if closes {
        match client.try_reply("GET").await {
            Err(NoReply::Reset) => {}
            Err(NoReply::Closed(rest)) if rest.is_empty() => {}
            other => return Err(format!("the connection was not closed: {other:?}")),
        }
    }
    drop(client);
    let fresh = watch.end(gateway).await;
    match case.origin {
        Saw::Nothing if fresh.is_empty() => Ok(()),
        Saw::NoCompleteRequest if http1::requests(&fresh).0.is_empty() => Ok(()),
        Saw::Exactly(wanted) if http1::without_added(&fresh) == wanted => Ok(()),
        Saw::Exactly(wanted) => Err(format!(
            "wanted {wanted:?}\n   got {:?}",
            http1::without_added(&fresh)
        )),
        _ => Err(format!(
            "the origin saw {:?}",
            String::from_utf8_lossy(&fresh)
        )),
    }
}

async fn play_all(cases: &[Case]) {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    let mut wrong = String::new();
    for case in cases {
        if let Err(why) = play(&gateway, &origin, case).await {
            writeln!(wrong, "{}: {why}", case.name).expect("a text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(gateway.count(Counter::Panics), 0);
    // Never without a line and a count, whoever refused it: beside each case one was good.
    gateway.log().wait(cases.len() * 2).await;
    let refused = cases
        .iter()
        .filter(|case| matches!(case.answer, Answer::Refused(_)))
        .count();
    gateway
        .counts(Counter::RequestsRefused, refused as u64)
        .await;
}

#[test]
fn there_are_at_least_sixty_cases_with_distinct_names() {
    let all = [
        cases::FRAMING,
        cases::CHUNKS,
        cases::HOSTS,
        cases::PATHS,
        cases::FIELDS,
        cases::LINES,
    ];
    let names: std::collections::HashSet<_> = all
        .iter()
        .copied()
        .flatten()
        .map(|case| case.name)
        .collect();
    assert_eq!(
        names.len(),
        all.iter().map(|cases| cases.len()).sum::<usize>()
    );
    assert!(names.len() >= 60, "{}", names.len());
}

#[tokio::test]
async fn exactly_one_framing_reaches_the_origin() {
    play_all(cases::FRAMING).await;
}

#[tokio::test]
async fn malformed_chunks_never_complete_a_request() {
    play_all(cases::CHUNKS).await;
}

#[tokio::test]
async fn every_request_has_one_authority() {
    play_all(cases::HOSTS).await;
}

#[tokio::test]
async fn paths_reach_the_origin_in_one_form_or_not_at_all() {
    play_all(cases::PATHS).await;
}

#[tokio::test]
async fn fields_that_lie_are_refused_or_taken_away() {
    play_all(cases::FIELDS).await;
}

#[tokio::test]
async fn first_lines_that_are_no_http_are_refused() {
    play_all(cases::LINES).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_an_origin_hears_of_it() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    let fields: String = (0..101).fold(String::new(), |mut all, number| {
        write!(all, "X-{number}: y\r\n").expect("a text");
        all
    });
    let name = "n".repeat(70_000);
    let long = "v".repeat(40_000);
    let path = "p".repeat(9_000);
    let endless = "e".repeat(200_000);
    let cases = [
        (
            format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a.example\r\n{name}: x\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"),
            431,
        ),
        (
            format!("GET /{path} HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            414,
        ),
        (format!("GET /{endless}"), 431),
        (
            format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {endless}"),
            431,
        ),
    ];
    for (send, status) in cases {
        let mut client = gateway.connect().await;
        client.send(&send).await;
        let got = client.try_reply("GET").await.map(|reply| reply.status);
        let start: String = send.chars().take(60).collect();
        // A client that is still sending when we close may lose the answer to a reset.
        assert!(
            got == Ok(status) || got == Err(NoReply::Reset),
            "{start}…: {got:?} instead of {status}"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn an_endless_stream_of_chunk_extensions_is_cut() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!("[routes.all]\nto = \"{}\"\n", origin.address())).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    // Some megabytes wait in the kernel unread; far more than that can only have been read.
    let mut sent = 0;
    while sent < 64 << 20 && client.try_send(&chunk).await {
        sent += chunk.len();
    }
    assert!(sent < 64 << 20, "all the extensions were read");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_hundred_and_fifty_hosts_are_matched_without_regard_to_case_or_trailing_dot() {
    let origins = [Origin::text("even").await, Origin::text("odd").await];
    let mut config = String::new();
    for number in 0..150 {
        let to = origins[number % 2].address();
        writeln!(
            config,
            "[routes.r{number}]\nhosts = [\"Host{number}.example\"]\nto = \"{to}\""
        )
        .expect("a text");
    }
    let gateway = gateway(&config).await;
    for (host, body) in [
        ("HOST7.example", "odd"),
        ("host148.EXAMPLE.", "even"),
        ("host149.example:80", "odd"),
    ] {
        assert_eq!(gateway.get(host, "/").await.text(), body, "{host}");
    }
    assert_eq!(gateway.get("host150.example", "/").await.status, 404);
}
