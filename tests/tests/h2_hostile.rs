//! Hostile HTTP/2, frame by frame: what becomes of the peer, that others do not notice, and that
//! origins see nothing of it.

#[path = "h2_hostile/cases.rs"]
mod cases;
#[path = "h2_hostile/endpoint.rs"]
mod endpoint;
#[path = "h2_hostile/floods.rs"]
mod floods;
#[path = "h2_hostile/malformed.rs"]
mod malformed;

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use cases::{Case, Expect};
use floods::Flood;
use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, H2, Origin,
    eventually::within,
    gateway,
    h2::{
        Outcome,
        wire::{self, code},
    },
    http1,
    load::resident,
    origin::ok,
    process::Sluice,
};
use tokio::time::timeout;

/// How long a hostile connection may last. Generous: a loaded machine is not a failure.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of a process' memory a flood may cost.
const GROWTH: u64 = 64 << 20;

/// Answers everything but `/hold`.
async fn holding() -> Origin {
    Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.second() == "/hold" {
                peer.hold().await;
            }
            peer.send(ok("ok")).await;
        }
    })
    .await
}

fn config(origin: &Origin) -> String {
    format!(
        "[routes.r]\nto = \"u\"\n[[routes.r.rules]]\nmatch = {{ path = \"/here\" }}\nrespond = {{ body = \"here\" }}\n\
         [upstreams.u]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

/// How many complete requests an origin saw, those of [`others`] left out.
fn requests(origin: &Origin) -> Vec<String> {
    let paths = origin.requests().into_iter();
    paths
        .map(|request| request.second().to_owned())
        .filter(|path| path != "/last")
        .collect()
}

/// Others are served, in both dialects.
async fn others(address: SocketAddr) -> Result<(), String> {
    let mut client = H2::connect(address).await;
    let outcome = client.get(1, "/last").await;
    if outcome.status() != Some(200) {
        return Err(format!("another client got {outcome:?}"));
    }
    let reply = Client::connect(address)
        .await
        .get("a.example", "/last")
        .await;
    if reply.status != 200 {
        return Err(format!("another client got {}", reply.status));
    }
    Ok(())
}

/// Whether the connection ended as it should. `PROTOCOL_ERROR` is right wherever a more exact code is
/// (RFC 9113 §7): the codec often stays with it.
fn ended(outcome: &Outcome, wanted: Option<u32>) -> bool {
    match (outcome, wanted) {
        (Outcome::Gone(Some(code)), Some(wanted)) => [wanted, code::PROTOCOL].contains(code),
        (Outcome::Gone(_), _) => true,
        _ => false,
    }
}

async fn judge(client: &mut H2, expect: Expect) -> Result<(), String> {
    match expect {
        Expect::Ends(code) => {
            let outcome = client.end().await;
            let good = ended(&outcome, Some(code));
            good.then_some(())
                .ok_or_else(|| format!("wanted the end with {code}, got {outcome:?}"))
        }
        Expect::EndsSomehow => {
            let outcome = client.end().await;
            let good = ended(&outcome, None);
            good.then_some(())
                .ok_or_else(|| format!("wanted the end, got {outcome:?}"))
        }
        Expect::Resets(stream, code) => {
            let outcome = client.outcome(stream).await;
            if outcome != Outcome::Reset(code) {
                return Err(format!("wanted a reset with {code}, got {outcome:?}"));
            }
            lives(client).await
        }
        Expect::Refuses(stream) => {
            let outcome = client.outcome(stream).await;
            let refused = match &outcome {
                Outcome::Answer(answer) => (400..500).contains(&answer.status),
                Outcome::Reset(_) | Outcome::Gone(_) => true,
                Outcome::Silence => false,
            };
            refused
                .then_some(())
                .ok_or_else(|| format!("wanted a refusal, got {outcome:?}"))
        }
        Expect::Serves(stream) => {
            let outcome = client.outcome(stream).await;
            if outcome.status() != Some(200) {
                return Err(format!("wanted 200, got {outcome:?}"));
            }
            lives(client).await
        }
    }
}

async fn lives(client: &mut H2) -> Result<(), String> {
    let lives = client.lives().await;
    lives
        .then_some(())
        .ok_or_else(|| format!("the connection did not survive: {:?}", client.seen.goaway))
}

/// Plays a case and gives what was wrong, if anything.
async fn play(address: SocketAddr, origin: &Origin, case: &Case) -> Result<(), String> {
    let before = requests(origin).len();
    let mut client = H2::connect(address).await;
    client.send((case.send)()).await;
    let judged = timeout(DEADLINE, judge(&mut client, case.expect)).await;
    judged.map_err(|_| "nothing happened in time".to_owned())??;
    drop(client);
    others(address).await?;
    let seen = requests(origin).split_off(before);
    let served = matches!(case.expect, Expect::Serves(_));
    if seen.len() > case.requests || (served && seen.len() < case.requests) {
        return Err(format!("the origin saw {seen:?}"));
    }
    if seen.iter().any(|path| path == "/hostile") {
        return Err("a hostile request reached the origin".to_owned());
    }
    Ok(())
}

async fn play_all(cases: &[Case]) {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut wrong = String::new();
    for case in cases {
        if let Err(why) = play(gateway.address(), &origin, case).await {
            writeln!(wrong, "{}: {why}", case.name).expect("a text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(gateway.count(Counter::Panics), 0);
    // What a client took back, the origin is no longer asked for.
    let bytes = origin.saw().concat();
    let (complete, _) = http1::requests(&bytes);
    assert!(
        complete
            .iter()
            .all(|request| request.header("host") == Some("a.example"))
    );
}

#[test]
fn there_are_at_least_a_hundred_exchanges_with_distinct_names() {
    let cases = [
        cases::FRAMES,
        cases::PADDING,
        cases::STREAMS,
        cases::WINDOWS,
        cases::BLOCKS,
        cases::CONTINUATIONS,
    ];
    let floods = [floods::RESETS, floods::USELESS];
    let names: Vec<_> = cases
        .iter()
        .copied()
        .flatten()
        .map(|case| case.name)
        .collect();
    let more = floods.iter().copied().flatten().map(|flood| flood.name);
    let names: Vec<_> = names.into_iter().chain(more).collect();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.len() >= 100, "{}", names.len());
}

#[tokio::test]
async fn frames_that_cannot_be_end_their_connection() {
    play_all(cases::FRAMES).await;
}

#[tokio::test]
async fn padding_hides_nothing_and_costs_its_sender() {
    play_all(cases::PADDING).await;
}

#[tokio::test]
async fn streams_have_one_life_each() {
    play_all(cases::STREAMS).await;
}

#[tokio::test]
async fn settings_and_windows_keep_their_ranges() {
    play_all(cases::WINDOWS).await;
}

#[tokio::test]
async fn header_blocks_are_bounded_before_they_are_believed() {
    play_all(cases::BLOCKS).await;
}

#[tokio::test]
async fn header_blocks_end() {
    play_all(cases::CONTINUATIONS).await;
}

#[tokio::test]
async fn what_is_no_http2_after_all_is_dropped() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let opening = wire::PREFACE;
    let text: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let no_frames = [opening, text].concat();
    let bent = opening[..opening.len() - 1].to_vec();
    let bent = [bent.as_slice(), b"!", text].concat();
    for bytes in [no_frames, bent] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(&bytes).await;
        within("the gateway closes", client.rest()).await;
    }
    others(gateway.address()).await.expect("others are served");
    assert!(requests(&origin).is_empty());
}

#[tokio::test]
async fn who_does_not_begin_with_settings_is_told_to_go() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    for first in [
        wire::request(1, &wire::get("/hostile")),
        wire::settings_ack(),
        wire::ping(*b"12345678"),
    ] {
        let mut client = H2::silent(gateway.address()).await;
        client.send([wire::PREFACE, &first].concat()).await;
        assert_eq!(client.end().await, Outcome::Gone(Some(code::PROTOCOL)));
        assert!(client.seen.streams.is_empty(), "{:?}", client.seen);
    }
    others(gateway.address()).await.expect("others are served");
    assert!(requests(&origin).is_empty());
    let line = gateway.log().wait_for("verdict", "bad_request").await;
    assert_eq!(line["status"], 400);
}

/// A stream that the client breaks so that we reset it costs us what one costs that it takes back.
#[tokio::test]
async fn who_makes_us_reset_streams_is_told_to_go_like_who_resets_them() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    let mut broken = 0;
    // One at a time, so that it is known which one was too many.
    for number in 0..300 {
        let stream = 2 * number + 1;
        let block = [wire::get("/hostile"), wire::field(b"connection", b"close")].concat();
        client.send(wire::request(stream, &block)).await;
        match client.outcome(stream).await {
            Outcome::Reset(code::PROTOCOL) => broken += 1,
            Outcome::Gone(Some(code::CALM)) => break,
            other => panic!("after {broken}: {other:?}"),
        }
    }
    assert!((200..=202).contains(&broken), "{broken}");
    others(gateway.address()).await.expect("others are served");
    assert_eq!(gateway.count(Counter::Floods), 1);
}

/// Only while nobody takes the body at the other end: else its window opens again and again. The
/// stream is reset; the connection ends, too, when it is overrun before its window is given back
/// (RFC 9113, section 6.9.1, allows both).
#[tokio::test]
async fn a_body_beyond_its_window_is_refused() {
    const FAR_BEYOND: usize = 64 << 20;
    let origin = Origin::start(|mut peer| async move {
        peer.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    client.send(wire::head(1, &wire::post("/hostile"))).await;
    let piece = wire::data(1, vec![0; 16_384]);
    let mut sent = 0;
    while sent < FAR_BEYOND && client.send(&piece).await {
        sent += piece.len();
    }
    let outcome = client.outcome(1).await;
    let reset = outcome == Outcome::Reset(code::FLOW_CONTROL);
    let over = ended(&outcome, Some(code::FLOW_CONTROL));
    assert!(reset || over, "{outcome:?}");
    let mut other = H2::connect(gateway.address()).await;
    assert_eq!(other.get(1, "/here").await.status(), Some(200));
    assert!(requests(&origin).is_empty());
}

/// Pours until the connection is over; gives after how many rounds, or what happened instead.
async fn pour(address: SocketAddr, flood: &Flood) -> Result<u32, String> {
    const BATCH: u32 = 50;
    let mut client = H2::connect(address).await;
    client.send((flood.first)()).await;
    let mut round = 0;
    while round < flood.rounds {
        let batch: Vec<u8> = (round..round + BATCH).flat_map(flood.again).collect();
        if !client.send(batch).await {
            break;
        }
        round += BATCH;
    }
    match client.end().await {
        Outcome::Gone(_) => Ok(round),
        other => Err(format!("the connection outlived {round} rounds: {other:?}")),
    }
}

async fn pour_all(floods: &[Flood]) {
    let origin = holding().await;
    let text = format!(
        "[process]\nworkers = 2\n[access_log]\noutput = \"off\"\n[listeners.web]\naddress = \"{{address}}\"\n{}",
        config(&origin)
    );
    let gateway = Sluice::run(&text).await;
    others(gateway.address()).await.expect("all is well");
    let before = resident(&gateway.id().to_string());
    let mut wrong = String::new();
    for flood in floods {
        let poured = timeout(DEADLINE, pour(gateway.address(), flood)).await;
        let poured = poured.unwrap_or_else(|_| Err("it took too long".to_owned()));
        let served = match poured {
            Ok(_) => others(gateway.address()).await,
            Err(why) => Err(why),
        };
        if let Err(why) = served {
            writeln!(wrong, "{}: {why}", flood.name).expect("a text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let growth = resident(&gateway.id().to_string()).saturating_sub(before);
    assert!(growth < GROWTH, "the gateway grew by {growth} bytes");
    assert!(
        !gateway.output().contains("panicked"),
        "{}",
        gateway.output()
    );
    assert!(!requests(&origin).iter().any(|path| path == "/hostile"));
}

#[tokio::test]
async fn who_wastes_streams_loses_the_connection() {
    pour_all(floods::RESETS).await;
}

#[tokio::test]
async fn who_floods_loses_the_connection() {
    pour_all(floods::USELESS).await;
}
