//! Fields that the codec can make none of: their stream ends, and no other; whatever is said before,
//! beside and behind them is understood.

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    H2, Origin,
    eventually::eventually,
    gateway,
    h2::{
        Outcome,
        wire::{self, code, continuation, flag, frame, get, index, indexed_field, kind, post},
    },
    process::Sluice,
};

use super::{config, holding, others, requests};

/// A malformed field as it stands on the wire behind its first byte: two strings.
const FIELDS: &[(&str, &[u8])] = &[
    ("upper case in a name", b"\x01X\x01y"),
    ("upper case in a name, coded", b"\x81\xfc\x01y"),
    ("a space in a name", b"\x03x y\x01z"),
    ("a name beyond ASCII", b"\x03x\xc3\xa9\x01y"),
    ("an empty name", b"\x00\x01z"),
    ("an unknown pseudo-header", b"\x05:evil\x01y"),
    ("a line break in a value", b"\x01x\x0ay\r\nevil: z"),
    (
        "a line break in a value, coded",
        b"\x01x\x85\xf3\xff\xff\xff\xe7",
    ),
    ("NUL in a value", b"\x01x\x01\0"),
    ("NUL in a value, coded", b"\x01x\x82\xff\xc7"),
    ("a method with a space", b"\x07:method\x05GET /"),
    ("a path that is no text", b"\x05:path\x02/\xff"),
];

/// How its first byte says it is kept.
const FIRSTS: [(u8, &str); 3] = [
    (0x00, "not indexed"),
    (0x10, "never indexed"),
    (0x40, "indexed"),
];

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Continuation,
    Trailers,
}

/// A stream whose block has this between others, in one piece or three.
fn hostile(stream: u32, place: Place, before: &[u8], bad: &[u8], behind: &[u8]) -> Vec<u8> {
    let (over, last) = (flag::END_STREAM, flag::END_HEADERS);
    let block = [before, bad, behind].concat();
    match place {
        Place::Head => wire::request(stream, &[get("/hostile"), block].concat()),
        Place::Continuation => {
            let first = [&*get("/hostile"), before, &bad[..2]].concat();
            [
                frame(kind::HEADERS, over, stream, &first),
                continuation(stream, 0, &bad[2..]),
                continuation(stream, last, behind),
            ]
            .concat()
        }
        Place::Trailers => {
            let head = wire::head(stream, &post("/hostile"));
            let body = wire::data(stream, "body");
            [head, body, wire::request(stream, &block)].concat()
        }
    }
}

/// One connection through which every field goes, each with good ones around it that later requests
/// refer to.
struct Play {
    client: H2,
    origin: Origin,
    stream: u32,
}

impl Play {
    async fn resets(&mut self, bytes: &[u8], what: &str) {
        self.client.send(bytes).await;
        let outcome = self.client.outcome(self.stream).await;
        assert_eq!(outcome, Outcome::Reset(code::PROTOCOL), "{what}");
        self.stream += 2;
    }

    /// Fields around a malformed one are known by their places in the table, and so is it.
    async fn round(&mut self, number: usize, place: Place, first: u8, field: &[u8], what: &str) {
        let value = format!("value-{number}");
        let before = indexed_field(b"x-before", value.as_bytes());
        let behind = indexed_field(b"x-behind", value.as_bytes());
        let bad = [&[first], field].concat();
        let bytes = hostile(self.stream, place, &before, &bad, &behind);
        self.resets(&bytes, what).await;

        let indexed = first == 0x40;
        let places = if indexed { [64, 62] } else { [63, 62] };
        let fields = [index(places[0]), index(places[1])].concat();
        let good = [get("/good"), fields.clone()].concat();
        self.client.send(wire::request(self.stream, &good)).await;
        let outcome = self.client.outcome(self.stream).await;
        assert_eq!(outcome.status(), Some(200), "behind {what}: {outcome:?}");
        self.stream += 2;
        let seen = self.origin.requests().pop().expect("a request");
        assert_eq!(seen.second(), "/good", "{what}");
        for name in ["x-before", "x-behind"] {
            assert_eq!(seen.header(name), Some(&*value), "{name} behind {what}");
        }

        if indexed {
            let again = [get("/hostile"), index(63)].concat();
            let again = wire::request(self.stream, &again);
            self.resets(&again, &format!("{what}, by its place in the table"))
                .await;
        }
    }
}

#[tokio::test]
async fn a_malformed_field_ends_its_stream_and_no_other() {
    for place in [Place::Head, Place::Continuation, Place::Trailers] {
        let origin = holding().await;
        let gateway = gateway(&config(&origin)).await;
        let mut client = H2::connect(gateway.address()).await;
        // Under way all the time.
        client.send(wire::head(1, &post("/patient"))).await;
        client.send(wire::data(1, "begun ")).await;
        let mut play = Play {
            client,
            origin,
            stream: 3,
        };
        let mut broken = 0;
        for (number, (name, field)) in FIELDS.iter().enumerate() {
            for (first, kept) in FIRSTS {
                let what = format!("{name}, {kept}, {place:?}");
                play.round(number, place, first, field, &what).await;
                broken += if first == 0x40 { 2 } else { 1 };
            }
        }
        let Play {
            mut client, origin, ..
        } = play;
        client.send(wire::last_data(1, "and done")).await;
        assert_eq!(client.outcome(1).await.status(), Some(200), "{place:?}");
        assert!(client.lives().await);
        others(gateway.address()).await.expect("others are served");

        let seen = requests(&origin);
        assert!(
            seen.iter()
                .all(|path| path == "/good" || path == "/patient"),
            "{seen:?}"
        );
        let bytes = String::from_utf8_lossy(&origin.saw().concat()).into_owned();
        assert!(!bytes.contains("evil"), "{bytes}");
        assert_eq!(gateway.count(Counter::Panics), 0);
        // Each of them has its line, once.
        let lines = || {
            let lines = gateway.log().lines().into_iter();
            lines
                .filter(|line| line["verdict"] == "bad_request")
                .count()
        };
        eventually("a line for each", || (lines() >= broken).then_some(())).await;
        assert_eq!(lines(), broken, "{place:?}");
    }
}

/// RFC 9113 §8.1: trailers have none, whether or not the name is a good one.
#[tokio::test]
async fn a_pseudo_header_in_trailers_ends_its_stream() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    let entry = indexed_field(b":path", b"/evil");
    let blocks = [
        index(2),
        index(4),
        wire::field(b":path", b"/evil"),
        entry,
        index(62),
    ];
    for (number, block) in (0..).zip(&blocks) {
        let stream = 2 * number + 1;
        client.send(wire::head(stream, &post("/hostile"))).await;
        client.send(wire::data(stream, "body")).await;
        let trailers = [wire::field(b"x", b"y"), block.clone()].concat();
        client.send(wire::request(stream, &trailers)).await;
        let outcome = client.outcome(stream).await;
        assert_eq!(outcome, Outcome::Reset(code::PROTOCOL), "{block:x?}");
    }
    // What it put into the table is good for a head.
    let path = index(62);
    let block = [vec![0x82, 0x86, 0x01, 1, b'a'], path].concat();
    client.send(wire::request(101, &block)).await;
    assert_eq!(client.outcome(101).await.status(), Some(200));
    assert_eq!(requests(&origin), ["/evil"]);
    let lines = gateway.log().wait(blocks.len() + 1).await;
    let refused = lines.iter().filter(|line| line["verdict"] == "bad_request");
    assert_eq!(refused.count(), blocks.len());
}

/// To the codec such a stream is reset before its block is read, and the table with it.
#[tokio::test]
async fn a_stream_that_depends_on_itself_leaves_the_table_as_it_should_be() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    let field = indexed_field(b"x-kept", b"yes");
    let block = [vec![0, 0, 0, 1, 15], get("/hostile"), field].concat();
    let flags = flag::END_STREAM | flag::END_HEADERS | flag::PRIORITY;
    client.send(frame(kind::HEADERS, flags, 1, &block)).await;
    assert_eq!(client.outcome(1).await, Outcome::Reset(code::PROTOCOL));
    client
        .send(wire::request(3, &[get("/good"), index(62)].concat()))
        .await;
    assert_eq!(client.outcome(3).await.status(), Some(200));
    assert_eq!(origin.requests()[0].header("x-kept"), Some("yes"));
}

/// To the codec's server that is the end of the connection.
#[tokio::test]
async fn connect_with_a_length_ends_its_stream_and_no_other() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    client.send(wire::head(1, &post("/patient"))).await;
    for (stream, length) in [(3, "5"), (5, "0")] {
        let fields = [
            (":method", "CONNECT"),
            (":authority", "a.example:80"),
            ("content-length", length),
        ];
        client.send(wire::head(stream, &wire::block(&fields))).await;
        let outcome = client.outcome(stream).await;
        if length == "0" {
            assert_eq!(outcome.status(), Some(501), "{outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Reset(code::PROTOCOL));
        }
    }
    client.send(wire::last_data(1, "done")).await;
    assert_eq!(client.outcome(1).await.status(), Some(200));
    assert_eq!(requests(&origin), ["/patient"]);
}

/// What the codec cannot read in pieces without ending the connection, it gets in one.
#[tokio::test]
async fn a_block_in_pieces_is_refused_like_one_in_one() {
    let origin = holding().await;
    let gateway = gateway(&config(&origin)).await;
    let mut client = H2::connect(gateway.address()).await;
    let first = [get("/hostile"), wire::field(b"connection", b"close")].concat();
    let bytes = [
        frame(kind::HEADERS, flag::END_STREAM, 1, &first),
        continuation(1, 0, &wire::field(b"x", b"y")),
        continuation(1, flag::END_HEADERS, b""),
    ];
    client.send(bytes.concat()).await;
    assert_eq!(client.outcome(1).await, Outcome::Reset(code::PROTOCOL));
    assert_eq!(client.get(3, "/good").await.status(), Some(200));
    assert_eq!(requests(&origin), ["/good"]);
}

/// Of the streams for which there never was a request, the log has what was wrong.
#[tokio::test]
async fn the_log_says_which_stream_was_broken_and_why() {
    let origin = holding().await;
    let text = format!(
        "[process]\nworkers = 1\n[listeners.web]\naddress = \"{{address}}\"\n{}",
        config(&origin)
    );
    let gateway = Sluice::verbose(&text).await;
    let mut client = H2::connect(gateway.address()).await;
    let upper = [get("/hostile"), wire::field(b"X", b"y")].concat();
    let connection = [get("/hostile"), wire::field(b"connection", b"close")].concat();
    for (stream, block) in [(5, upper), (7, connection)] {
        client.send(wire::request(stream, &block)).await;
        assert_eq!(client.outcome(stream).await, Outcome::Reset(code::PROTOCOL));
    }
    let output = gateway.says("\"stream\":7").await;
    let line = |text: &str, stream: u32| {
        let stream = format!("\"stream\":{stream}");
        output
            .lines()
            .any(|line| line.contains(text) && line.contains(&stream))
    };
    assert!(line("a header block is malformed", 5), "{output}");
    assert!(line("a field has a malformed name", 5), "{output}");
    assert!(line("its client broke the protocol", 5), "{output}");
    assert!(line("its client broke the protocol", 7), "{output}");
    assert!(line("\"listener\":\"web\"", 7), "{output}");
}
