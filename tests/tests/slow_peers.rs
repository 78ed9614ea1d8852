//! Slow and stuck peers by the thousand: they wait for themselves. A well-behaved client beside them
//! is answered as ever, and the process stays small.

use std::time::Duration;

use sluice_tests::{
    H2,
    h2::wire::{self, flag, frame, get, head, index, indexed_field, kind, post, request, setting},
    process::Sluice,
    siege::{ALONE, Report, Witness, go_first, raise_descriptors},
};
use tokio::{
    process::Command,
    time::{Instant, sleep, sleep_until, timeout},
};

/// 99 of 100 answers to the well-behaved client come within this time, in every build.
const P99: Duration = Duration::from_millis(50);

/// Fewer answers say nothing about the slowest of a hundred.
const ANSWERS: usize = 200;

/// So often a siege is measured at most: whatever else runs on the machine, or on its host, can only make
/// an answer later, while a worker that is held up is so every time.
const TRIES: usize = 4;

/// How much the process may grow.
const GROWTH: u64 = 64 << 20;

/// How long each siege lasts once everybody is there.
const SIEGE: Duration = Duration::from_secs(2);

const CLOSED: [(u16, u32); 1] = [(setting::INITIAL_WINDOW_SIZE, 0)];

/// Runs `attack` and expects that a well-behaved client is served in time.
async fn besiege(attack: impl AsyncFn(&Sluice)) {
    let mut reports = Vec::new();
    for _ in 0..TRIES {
        let report = endure(&attack).await;
        if report.p99 < P99 && report.answers >= ANSWERS {
            return;
        }
        reports.push(report);
    }
    panic!("a well-behaved client had to wait: {reports:?}");
}

/// Lets things happen evenly: peers that are slow are not slow in step.
struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    /// As late as that is caught up with; beyond it, it would be a burst.
    const LATE: Duration = Duration::from_millis(20);

    fn per_second(count: u32) -> Self {
        let (next, step) = (Instant::now(), Duration::from_secs(1) / count);
        Self { next, step }
    }

    async fn next(&mut self) {
        sleep_until(self.next).await;
        let latest = Instant::now().checked_sub(Self::LATE);
        self.next = (self.next + self.step).max(latest.unwrap_or(self.next));
    }
}

/// Runs `attack` against a gateway whose answers come from its configuration: what is measured is its
/// own. It must stay small, and go on to serve.
async fn endure(attack: impl AsyncFn(&Sluice)) -> Report {
    let _alone = ALONE.lock().await;
    raise_descriptors(8192);
    go_first();
    let body = "0123456789".repeat(1000);
    let config = format!(
        "[process]\nworkers = 2\n[access_log]\noutput = \"off\"\n[listeners.web]\naddress = \"{{address}}\"\n\
         [routes.r]\nrespond = {{ body = \"ok\" }}\n[[routes.r.rules]]\nmatch = {{ path = \"/big\" }}\n\
         respond = {{ body = {body:?} }}\n"
    );
    let gateway = Sluice::run(&config).await;
    let witness = Witness::start(&gateway).await;
    attack(&gateway).await;
    let report = witness.stop().await;
    eprintln!("{report:?}");
    assert!(report.growth < GROWTH, "{report:?}");
    let output = gateway.output();
    assert!(!output.contains("panicked"), "{output}");
    let reply = gateway.connect().await.get("a.example", "/").await;
    assert_eq!(reply.status, 200, "others are served afterwards");
    report
}

/// Connects a thousand clients of HTTP/1, 500 a second, that say `first`, then `again` five times a second.
async fn trickle(gateway: &Sluice, first: &str, again: &str) {
    let mut pace = Pace::per_second(500);
    let mut peers = Vec::new();
    for _ in 0..1000 {
        pace.next().await;
        let mut peer = gateway.connect().await;
        peer.send(first).await;
        peers.push(peer);
    }
    let mut pace = Pace::per_second(5000);
    let begun = Instant::now();
    for peer in (0..peers.len()).cycle() {
        pace.next().await;
        // Whoever was answered and closed is a peer less.
        peers[peer].try_send(again).await;
        if begun.elapsed() > SIEGE {
            return;
        }
    }
}

/// Connects `count` clients of HTTP/2, 100 a second, that say `bytes` and read nothing any more.
async fn pin(gateway: &Sluice, count: usize, settings: &[(u16, u32)], bytes: &[u8]) -> Vec<H2> {
    let mut pace = Pace::per_second(100);
    let mut peers = Vec::new();
    for _ in 0..count {
        pace.next().await;
        let mut peer = H2::narrow(gateway.address(), settings).await;
        peer.send_blindly(bytes, Duration::from_secs(1)).await;
        peers.push(peer);
    }
    peers
}

/// So many requests on streams of their own.
fn requests(count: u32, block: &[u8]) -> Vec<u8> {
    (0..count)
        .flat_map(|number| request(2 * number + 1, block))
        .collect()
}

/// A hundred requests, all but the first with so many fields, each of which costs one byte.
fn bombs(name: &[u8], fields: usize) -> Vec<u8> {
    let first = [get("/big"), indexed_field(name, b"")].concat();
    let block = [get("/big"), index(62).repeat(fields)].concat();
    let others = (1..100).flat_map(|number| request(2 * number + 1, &block));
    request(1, &first).into_iter().chain(others).collect()
}

#[tokio::test]
async fn a_thousand_heads_that_never_end() {
    let head = "GET / HTTP/1.1\r\nHost: a.example\r\nX: ";
    besiege(async |gateway| trickle(gateway, head, "x").await).await;
}

#[tokio::test]
async fn a_thousand_connections_without_a_word() {
    besiege(async |gateway| trickle(gateway, "", "").await).await;
}

#[tokio::test]
async fn a_thousand_prefaces_of_http2_that_never_end() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r";
    besiege(async |gateway| trickle(gateway, preface, "").await).await;
}

#[tokio::test]
async fn a_thousand_bodies_that_never_end() {
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\nx";
    besiege(async |gateway| trickle(gateway, head, "x").await).await;
}

#[tokio::test]
async fn two_thousand_streams_of_http2_with_pinned_windows() {
    besiege(async |gateway| {
        let _peers = pin(gateway, 200, &CLOSED, &requests(10, &get("/big"))).await;
        sleep(SIEGE).await;
    })
    .await;
}

#[tokio::test]
async fn windows_that_open_a_byte_at_a_time() {
    besiege(async |gateway| {
        let mut peers = pin(gateway, 200, &CLOSED, &requests(10, &get("/big"))).await;
        let windows = (0..10).flat_map(|number| wire::window(2 * number + 1, 1));
        let windows: Vec<u8> = windows.collect();
        // Each twice a second: 4,000 bytes of answers, one by one.
        let mut pace = Pace::per_second(400);
        let begun = Instant::now();
        for peer in (0..peers.len()).cycle() {
            pace.next().await;
            peers[peer]
                .send_blindly(&windows, Duration::from_secs(1))
                .await;
            if begun.elapsed() > SIEGE {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn heads_and_bodies_of_http2_that_never_end() {
    let begun = frame(kind::HEADERS, flag::END_STREAM, 1, &get("/"));
    let body = |number: u32| {
        let stream = 2 * number + 1;
        [head(stream, &post("/")), wire::data(stream, "x")].concat()
    };
    let bodies: Vec<u8> = (0..10).flat_map(body).collect();
    besiege(async |gateway| {
        let _heads = pin(gateway, 300, &[], &begun).await;
        let _bodies = pin(gateway, 200, &[], &bodies).await;
        sleep(SIEGE).await;
    })
    .await;
}

/// Bombs with each of these numbers of fields.
async fn bomb(gateway: &Sluice, fields: &[usize]) {
    let mut peers = Vec::new();
    for fields in fields {
        for name in [&b"a"[..], b"cookie"] {
            peers.extend(pin(gateway, 3, &CLOSED, &bombs(name, *fields)).await);
        }
    }
    sleep(SIEGE).await;
}

#[tokio::test]
async fn bombs_of_http2_with_windows_closed_do_not_fill_memory() {
    besiege(async |gateway| bomb(gateway, &[90, 450, 4000]).await).await;
}

#[tokio::test]
async fn the_largest_bombs_of_http2_hold_up_others_for_one_at_a_time() {
    // A head of as many fields as one frame can name is read at once: how long that takes is a matter of how
    // the codec was compiled. Of hundreds of them others must not notice more than of a few.
    let report = endure(async |gateway| bomb(gateway, &[15_000]).await).await;
    assert!(
        report.answers > 0 && report.p99 < Duration::from_secs(1),
        "{report:?}"
    );
}

/// Slow heads, slow bodies and slow readers at once, by another hand.
#[tokio::test]
async fn slowhttptest_finds_the_gateway_available() {
    if Command::new("slowhttptest")
        .arg("-h")
        .output()
        .await
        .is_err()
    {
        let missing = "slowhttptest is missing: tests/setup installs it";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("SKIPPED: {missing}");
        return;
    }
    let attack = async |gateway: &Sluice| {
        let url = format!("http://{}/big", gateway.address());
        let reader = [
            "-X", "-k", "3", "-w", "10", "-y", "20", "-n", "1", "-z", "5",
        ];
        let said = tokio::join!(
            slowhttptest(&["-H"], &url),
            slowhttptest(&["-B"], &url),
            slowhttptest(&reader, &url)
        );
        for text in [said.0, said.1, said.2] {
            assert!(text.contains("service available:   YES"), "{text}");
            assert!(!text.contains("service available:   NO"), "{text}");
        }
    };
    Box::pin(besiege(attack)).await;
}

async fn slowhttptest(mode: &[&str], url: &str) -> String {
    let running = Command::new("slowhttptest")
        .args(mode)
        .args(["-c", "600", "-r", "200", "-i", "1", "-l", "4", "-x", "24"])
        .args(["-p", "3", "-u", url])
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(15), running).await;
    let output = output.expect("it ends").expect("it runs");
    // It writes in colours, whoever reads.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut pieces = text.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| {
        plain + piece.split_once('m').map_or(piece, |(_, rest)| rest)
    })
}
