//! The table of floods: one small thing, legal or not, over and over.

use sluice_tests::h2::wire::{
    code, data, flag, frame, get, head, kind, last_data, ping, post, priority, request, reset,
    setting, settings, settings_ack, window,
};

/// A flood on one connection.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    /// Sent once.
    pub(crate) first: fn() -> Vec<u8>,
    /// Sent over and over, with the number of the round, from 0.
    pub(crate) again: fn(u32) -> Vec<u8>,
    /// After how many rounds the connection must be over.
    pub(crate) rounds: u32,
}

const fn flood(
    name: &'static str,
    rounds: u32,
    first: fn() -> Vec<u8>,
    again: fn(u32) -> Vec<u8>,
) -> Flood {
    Flood {
        name,
        first,
        again,
        rounds,
    }
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

/// A body that never ends, on stream 1.
fn open() -> Vec<u8> {
    head(1, &post("/hostile"))
}

/// The stream of a round that opens one.
fn own(round: u32) -> u32 {
    2 * round + 1
}

fn both(one: Vec<u8>, two: &[u8]) -> Vec<u8> {
    [one, two.to_vec()].concat()
}

/// A complete request that the origin keeps waiting.
fn held(round: u32) -> Vec<u8> {
    request(own(round), &get("/hold"))
}

/// Streams that the client gives up, or makes the gateway give up.
pub(crate) const RESETS: &[Flood] = &[
    flood("rapid reset", 5_000, nothing, |round| {
        both(held(round), &reset(own(round), code::CANCEL))
    }),
    flood(
        "rapid reset of what the gateway answers itself",
        20_000,
        nothing,
        |round| {
            let path = get("/here");
            both(request(own(round), &path), &reset(own(round), code::CANCEL))
        },
    ),
    flood(
        "rapid reset of requests with a body",
        5_000,
        nothing,
        |round| {
            let stream = own(round);
            let request = both(head(stream, &post("/hostile")), &data(stream, "x"));
            both(request, &reset(stream, code::NO_ERROR))
        },
    ),
    flood(
        "MadeYouReset: a window update of 0",
        5_000,
        nothing,
        |round| both(held(round), &window(own(round), 0)),
    ),
    flood(
        "MadeYouReset: a window that overflows",
        5_000,
        nothing,
        |round| both(held(round), &window(own(round), 0x7fff_ffff)),
    ),
    flood(
        "MadeYouReset: DATA after the end",
        5_000,
        nothing,
        |round| both(held(round), &data(own(round), "x")),
    ),
    flood(
        "MadeYouReset: HEADERS after the end",
        5_000,
        nothing,
        |round| both(held(round), &held(round)),
    ),
    flood(
        "MadeYouReset: a stream that depends on itself",
        5_000,
        nothing,
        |round| both(held(round), &priority(own(round), own(round))),
    ),
    flood(
        "MadeYouReset: PRIORITY of another length",
        5_000,
        nothing,
        |round| both(held(round), &frame(kind::PRIORITY, 0, own(round), &[0; 4])),
    ),
    flood(
        "MadeYouReset: a body that is longer than it said",
        5_000,
        nothing,
        |round| {
            let stream = own(round);
            let block = both(post("/hostile"), b"\x00\x0econtent-length\x011");
            both(head(stream, &block), &last_data(stream, "xx"))
        },
    ),
    flood("malformed heads", 5_000, nothing, |round| {
        let block = both(get("/hostile"), b"\x00\x01X\x01y");
        request(own(round), &block)
    }),
    flood("more streams than allowed", 5_000, nothing, held),
];

/// Frames that cost their sender nothing.
pub(crate) const USELESS: &[Flood] = &[
    flood("PING", 100_000, nothing, |round| {
        ping(u64::from(round).to_be_bytes())
    }),
    flood(
        "acknowledgements of pings that nobody sent",
        100_000,
        nothing,
        |_| frame(kind::PING, flag::ACK, 0, &[0; 8]),
    ),
    flood("empty SETTINGS", 100_000, nothing, |_| settings(&[])),
    flood(
        "SETTINGS that move every window to and fro",
        50_000,
        open,
        |round| settings(&[(setting::INITIAL_WINDOW_SIZE, 1000 + round % 2)]),
    ),
    flood("SETTINGS of a thousand values", 5_000, nothing, |_| {
        settings(&[(0x4242, 1); 1000])
    }),
    flood(
        "acknowledgements of settings that nobody sent",
        1_000,
        nothing,
        |_| settings_ack(),
    ),
    flood("PRIORITY of idle streams", 100_000, nothing, |round| {
        priority(own(round % 1_000_000), 0)
    }),
    flood("PRIORITY of one stream", 100_000, open, |round| {
        priority(1, 3 + 2 * (round % 50))
    }),
    flood(
        "WINDOW_UPDATE of 1 on the connection",
        100_000,
        nothing,
        |_| window(0, 1),
    ),
    flood("WINDOW_UPDATE of 1 on a stream", 100_000, open, |_| {
        window(1, 1)
    }),
    flood("empty DATA", 100_000, open, |_| data(1, "")),
    flood("empty DATA with padding", 100_000, open, |_| {
        frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0])
    }),
    flood(
        "DATA on a stream that was reset",
        20_000,
        || both(open(), &reset(1, code::CANCEL)),
        |_| data(1, "x"),
    ),
    flood(
        "RST_STREAM of one stream",
        100_000,
        || both(open(), &reset(1, code::CANCEL)),
        |_| reset(1, code::CANCEL),
    ),
    flood("frames of an unknown type", 200_000, nothing, |_| {
        frame(0x42, 0, 0, b"x")
    }),
];
