//! The table of hostile exchanges: what is sent behind the preface, and what must come of it.
//!
//! Every request asks for a path that only the origin has, so that what reaches it is seen.

use sluice_tests::h2::wire::{
    self, code, continuation, data, field, flag, frame, frame_claiming, get, head, index,
    indexed_field, kind, last_data, ping, post, priority, request, reset, setting, settings,
    table_size, window,
};

/// One exchange.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) send: fn() -> Vec<u8>,
    pub(crate) expect: Expect,
    /// How many complete requests the origin may see of it.
    pub(crate) requests: usize,
}

/// What must come of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// The connection ends. With a GOAWAY, its code is this one or the general one.
    Ends(u32),
    /// The connection ends, whatever is said.
    EndsSomehow,
    /// This stream is reset with this code, and nothing else suffers.
    Resets(u32, u32),
    /// This stream is refused: reset, or answered with a 4xx; or the connection ends.
    Refuses(u32),
    /// This stream is answered with 200, and the connection lives.
    Serves(u32),
}

use Expect::{Ends, EndsSomehow, Refuses, Resets, Serves};

const fn case(name: &'static str, expect: Expect, requests: usize, send: fn() -> Vec<u8>) -> Case {
    Case {
        name,
        send,
        expect,
        requests,
    }
}

const NOTHING: u8 = 0;
const END_HEADERS: u8 = flag::END_HEADERS;
const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

/// A well-behaved request on this stream, to see that the connection lives.
fn good(stream: u32) -> Vec<u8> {
    request(stream, &get("/good"))
}

/// A request head up to its body on stream 1.
fn open() -> Vec<u8> {
    head(1, &post("/hostile"))
}

fn then(first: Vec<u8>, second: &[u8]) -> Vec<u8> {
    [first, second.to_vec()].concat()
}

fn setting_of(name: u16, value: u32) -> Vec<u8> {
    settings(&[(name, value)])
}

/// Frames that are longer, shorter or elsewhere than they can be.
pub(crate) const FRAMES: &[Case] = &[
    case(
        "DATA longer than SETTINGS_MAX_FRAME_SIZE",
        Ends(code::FRAME_SIZE),
        0,
        || then(open(), &data(1, vec![0; 16_385])),
    ),
    case(
        "HEADERS longer than SETTINGS_MAX_FRAME_SIZE",
        Ends(code::FRAME_SIZE),
        0,
        || request(1, &then(get("/hostile"), &field(b"x", &[b'y'; 17_000]))),
    ),
    case(
        "a frame that claims sixteen megabytes",
        Ends(code::FRAME_SIZE),
        0,
        || frame_claiming(0x00ff_ffff, kind::DATA, NOTHING, 1, b"x"),
    ),
    case("DATA on stream 0", Ends(code::PROTOCOL), 0, || data(0, "x")),
    case("HEADERS on stream 0", Ends(code::PROTOCOL), 0, || {
        request(0, &get("/hostile"))
    }),
    case("PRIORITY on stream 0", Ends(code::PROTOCOL), 0, || {
        priority(0, 3)
    }),
    case("PRIORITY of 4 bytes", Refuses(1), 0, || {
        then(open(), &frame(kind::PRIORITY, NOTHING, 1, &[0; 4]))
    }),
    case("RST_STREAM on stream 0", Ends(code::PROTOCOL), 0, || {
        reset(0, code::CANCEL)
    }),
    case("RST_STREAM of 3 bytes", Ends(code::FRAME_SIZE), 0, || {
        then(open(), &frame(kind::RST_STREAM, NOTHING, 1, &[0; 3]))
    }),
    case("SETTINGS on a stream", Ends(code::PROTOCOL), 0, || {
        frame(kind::SETTINGS, NOTHING, 1, b"")
    }),
    case("SETTINGS of 5 bytes", Ends(code::FRAME_SIZE), 0, || {
        frame(kind::SETTINGS, NOTHING, 0, &[0; 5])
    }),
    case(
        "an acknowledgement of SETTINGS with a payload",
        Ends(code::FRAME_SIZE),
        0,
        || frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
    ),
    case("PING on a stream", Ends(code::PROTOCOL), 0, || {
        frame(kind::PING, NOTHING, 1, &[0; 8])
    }),
    case("PING of 7 bytes", Ends(code::FRAME_SIZE), 0, || {
        frame(kind::PING, NOTHING, 0, &[0; 7])
    }),
    case("GOAWAY on a stream", Ends(code::PROTOCOL), 0, || {
        frame(kind::GOAWAY, NOTHING, 1, &[0; 8])
    }),
    case(
        "WINDOW_UPDATE of 3 bytes",
        Ends(code::FRAME_SIZE),
        0,
        || frame(kind::WINDOW_UPDATE, NOTHING, 0, &[0; 3]),
    ),
    case("PUSH_PROMISE of a client", Ends(code::PROTOCOL), 0, || {
        then(
            open(),
            &frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        )
    }),
    case(
        "a frame of an unknown type is ignored",
        Serves(1),
        1,
        || then(frame(0x42, 0xff, 1, b"whatever"), &good(1)),
    ),
    case("unknown flags are ignored", Serves(1), 1, || {
        frame(kind::HEADERS, WHOLE | 0x40 | 0x02, 1, &get("/good"))
    }),
    case(
        "an unknown frame amid a header block",
        Ends(code::PROTOCOL),
        0,
        || {
            then(
                frame(kind::HEADERS, NOTHING, 1, &get("/hostile")),
                &frame(0x42, NOTHING, 0, b"x"),
            )
        },
    ),
    case("a second preface", EndsSomehow, 1, || {
        then(good(1), wire::PREFACE)
    }),
];

/// Padding that cannot be.
pub(crate) const PADDING: &[Case] = &[
    case(
        "DATA padded beyond its end",
        Ends(code::PROTOCOL),
        0,
        || {
            then(
                open(),
                &frame(
                    kind::DATA,
                    flag::PADDED | flag::END_STREAM,
                    1,
                    &[6, 1, 2, 3, 4, 5],
                ),
            )
        },
    ),
    case(
        "HEADERS padded beyond their end",
        Ends(code::PROTOCOL),
        0,
        || {
            let block = then(vec![200], &get("/hostile"));
            frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &block)
        },
    ),
    case(
        "padded DATA without a byte",
        Ends(code::FRAME_SIZE),
        0,
        || then(open(), &frame(kind::DATA, flag::PADDED, 1, b"")),
    ),
    case("HEADERS of nothing but padding", EndsSomehow, 0, || {
        frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[1])
    }),
    case("padding is no part of the body", Serves(1), 1, || {
        then(
            head(1, &post("/good")),
            &frame(
                kind::DATA,
                flag::PADDED | flag::END_STREAM,
                1,
                b"\x04body\0\0\0\0",
            ),
        )
    }),
    case(
        "a body of nothing but padding counts against its window",
        Ends(code::CALM),
        0,
        || {
            let mut bytes = open();
            let padding = then(vec![255], &[0; 255]);
            let frame = frame(kind::DATA, flag::PADDED, 1, &padding);
            bytes.extend(frame.repeat(20_000));
            bytes
        },
    ),
];

/// Stream identifiers and states that cannot be.
pub(crate) const STREAMS: &[Case] = &[
    case(
        "a stream with an even number",
        Ends(code::PROTOCOL),
        0,
        || request(2, &get("/hostile")),
    ),
    case(
        "a stream with a lower number than the one before",
        Refuses(3),
        1,
        || then(good(5), &request(3, &get("/hostile"))),
    ),
    case("DATA on an idle stream", Ends(code::PROTOCOL), 0, || {
        data(7, "x")
    }),
    case(
        "RST_STREAM on an idle stream",
        Ends(code::PROTOCOL),
        0,
        || reset(7, code::CANCEL),
    ),
    case(
        "WINDOW_UPDATE on an idle stream",
        Ends(code::PROTOCOL),
        0,
        || window(7, 10),
    ),
    case("DATA after END_STREAM", Refuses(1), 1, || {
        then(request(1, &get("/hold")), &data(1, "x"))
    }),
    case("HEADERS after END_STREAM", Refuses(1), 1, || {
        let first = request(1, &get("/hold"));
        then(first, &request(1, &get("/hostile")))
    }),
    case(
        "CONTINUATION after END_STREAM",
        Ends(code::PROTOCOL),
        1,
        || {
            then(
                request(1, &get("/hold")),
                &continuation(1, END_HEADERS, &get("/hostile")),
            )
        },
    ),
    case("DATA after RST_STREAM", Refuses(1), 0, || {
        [open(), reset(1, code::CANCEL), data(1, "x")].concat()
    }),
    case("HEADERS after RST_STREAM", Refuses(1), 0, || {
        [open(), reset(1, code::CANCEL), request(1, &get("/hostile"))].concat()
    }),
    case(
        "HEADERS amid the body without END_STREAM",
        Refuses(1),
        0,
        || {
            [
                open(),
                data(1, "x"),
                head(1, &field(b"x", b"y")),
                last_data(1, "x"),
            ]
            .concat()
        },
    ),
    case(
        "PRIORITY on an idle stream is ignored",
        Serves(1),
        1,
        || then(priority(9, 3), &good(1)),
    ),
    case(
        "a stream that depends on itself by PRIORITY",
        Refuses(1),
        0,
        || then(open(), &priority(1, 1)),
    ),
    case(
        "a stream that depends on itself by HEADERS",
        Refuses(1),
        0,
        || {
            let block = then(vec![0, 0, 0, 1, 15], &get("/hostile"));
            frame(kind::HEADERS, WHOLE | flag::PRIORITY, 1, &block)
        },
    ),
];

/// Settings and windows that cannot be.
pub(crate) const WINDOWS: &[Case] = &[
    case("SETTINGS_ENABLE_PUSH of 2", Ends(code::PROTOCOL), 0, || {
        setting_of(setting::ENABLE_PUSH, 2)
    }),
    case(
        "SETTINGS_INITIAL_WINDOW_SIZE of 2^31",
        Ends(code::FLOW_CONTROL),
        0,
        || setting_of(setting::INITIAL_WINDOW_SIZE, 0x8000_0000),
    ),
    case(
        "SETTINGS_MAX_FRAME_SIZE of 16383",
        Ends(code::PROTOCOL),
        0,
        || setting_of(setting::MAX_FRAME_SIZE, 16_383),
    ),
    case(
        "SETTINGS_MAX_FRAME_SIZE of 2^24",
        Ends(code::PROTOCOL),
        0,
        || setting_of(setting::MAX_FRAME_SIZE, 1 << 24),
    ),
    case(
        "SETTINGS_ENABLE_CONNECT_PROTOCOL of 2",
        EndsSomehow,
        0,
        || setting_of(setting::ENABLE_CONNECT_PROTOCOL, 2),
    ),
    case("an unknown setting is ignored", Serves(1), 1, || {
        then(setting_of(0x4242, 7), &good(1))
    }),
    case(
        "a table of headers of four gigabytes is not taken up",
        Serves(1),
        1,
        || then(setting_of(setting::HEADER_TABLE_SIZE, u32::MAX), &good(1)),
    ),
    case(
        "WINDOW_UPDATE of 0 on the connection",
        Ends(code::PROTOCOL),
        0,
        || window(0, 0),
    ),
    case("WINDOW_UPDATE of 0 on a stream", Refuses(1), 1, || {
        then(request(1, &get("/hold")), &window(1, 0))
    }),
    case(
        "the connection's window overflows",
        Ends(code::FLOW_CONTROL),
        0,
        || window(0, 0x7fff_ffff),
    ),
    case(
        "a stream's window overflows",
        Resets(1, code::FLOW_CONTROL),
        1,
        || then(request(1, &get("/hold")), &window(1, 0x7fff_ffff)),
    ),
    case(
        "a stream's window overflows by a setting",
        Ends(code::FLOW_CONTROL),
        1,
        || {
            let settings = setting_of(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff);
            [request(1, &get("/hold")), window(1, 1), settings].concat()
        },
    ),
];

/// Header blocks that no decoder can read, or that are too much for one.
pub(crate) const BLOCKS: &[Case] = &[
    case(
        "an index beyond the tables",
        Ends(code::COMPRESSION),
        0,
        || request(1, &then(get("/hostile"), &index(70))),
    ),
    case("index 0", Ends(code::COMPRESSION), 0, || {
        request(1, &then(get("/hostile"), &[0x80]))
    }),
    case(
        "a string longer than its block",
        Ends(code::COMPRESSION),
        0,
        || request(1, &then(get("/hostile"), &[0x00, 0x7f, 0xff, 0x01, b'x'])),
    ),
    case("an integer without end", Ends(code::COMPRESSION), 0, || {
        request(1, &then(get("/hostile"), &[0xff; 40]))
    }),
    case(
        "a table larger than we allow",
        Ends(code::COMPRESSION),
        0,
        || request(1, &then(table_size(1 << 20), &get("/hostile"))),
    ),
    case(
        "a change of the table amid a block",
        Ends(code::COMPRESSION),
        0,
        || request(1, &then(get("/hostile"), &table_size(0))),
    ),
    case(
        "Huffman code that holds EOS",
        Ends(code::COMPRESSION),
        0,
        || {
            request(
                1,
                &then(
                    get("/hostile"),
                    &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'x'],
                ),
            )
        },
    ),
    case(
        "the HTTP/2 bomb: one small field, sixty thousand times",
        Refuses(1),
        0,
        || bomb(1, 60_000),
    ),
    case(
        "the HTTP/2 bomb, small: four thousand times",
        Refuses(1),
        0,
        || bomb(1, 4_000),
    ),
    case(
        "the HTTP/2 bomb, smallest: four hundred and fifty",
        Refuses(1),
        0,
        || bomb(1, 450),
    ),
    case("the cookie bomb: crumbs are fields", Refuses(1), 0, || {
        let crumbs = then(indexed_field(b"cookie", b"a=b"), &index(62).repeat(4_000));
        request(1, &then(get("/hostile"), &crumbs))
    }),
    case(
        "the HPACK bomb: a large field, sixteen thousand times",
        Refuses(1),
        0,
        || {
            let large = indexed_field(b"x", &[b'y'; 3000]);
            let many = [get("/hostile"), large, index(62).repeat(13_000)].concat();
            request(1, &many)
        },
    ),
    case("a field larger than a head may be", Refuses(1), 0, || {
        let block = then(get("/hostile"), &field(b"x", &[b'y'; 60_000]));
        pieces(1, &block, 16_000)
    }),
    case("a path longer than it may be", Refuses(1), 0, || {
        request(1, &get(&format!("/{}", "p".repeat(9_000))))
    }),
    case("two hundred different fields", Refuses(1), 0, || {
        let fields = (0..200).map(|n| field(format!("x-{n}").as_bytes(), b"y"));
        request(
            1,
            &then(get("/hostile"), &fields.collect::<Vec<_>>().concat()),
        )
    }),
    case("trailers of four thousand fields", Refuses(1), 0, || {
        let many = then(indexed_field(b"x", b"y"), &index(62).repeat(4_000));
        [open(), data(1, "x"), request(1, &many)].concat()
    }),
];

/// A field put into the table once and named so often.
fn bomb(stream: u32, times: usize) -> Vec<u8> {
    let block = [
        get("/hostile"),
        indexed_field(b"a", b""),
        index(62).repeat(times),
    ]
    .concat();
    pieces(stream, &block, 16_000)
}

/// A request whose header block comes in pieces.
fn pieces(stream: u32, block: &[u8], size: usize) -> Vec<u8> {
    let mut parts = block.chunks(size).peekable();
    let mut bytes = Vec::new();
    let mut first = true;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() {
            END_HEADERS
        } else {
            NOTHING
        };
        if first {
            bytes.extend(frame(kind::HEADERS, last | flag::END_STREAM, stream, part));
        } else {
            bytes.extend(continuation(stream, last, part));
        }
        first = false;
    }
    bytes
}

/// `CONTINUATION` where it must not be, or without end.
pub(crate) const CONTINUATIONS: &[Case] = &[
    case(
        "CONTINUATION without HEADERS",
        Ends(code::PROTOCOL),
        0,
        || continuation(1, END_HEADERS, &get("/hostile")),
    ),
    case("CONTINUATION on stream 0", Ends(code::PROTOCOL), 0, || {
        continuation(0, END_HEADERS, &get("/hostile"))
    }),
    case(
        "CONTINUATION of another stream",
        Ends(code::PROTOCOL),
        0,
        || {
            let begun = frame(kind::HEADERS, NOTHING, 1, &get("/hostile"));
            then(begun, &continuation(3, END_HEADERS, b""))
        },
    ),
    case("DATA amid a header block", Ends(code::PROTOCOL), 0, || {
        then(
            frame(kind::HEADERS, NOTHING, 1, &get("/hostile")),
            &data(1, "x"),
        )
    }),
    case("PING amid a header block", Ends(code::PROTOCOL), 0, || {
        then(
            frame(kind::HEADERS, NOTHING, 1, &get("/hostile")),
            &ping([0; 8]),
        )
    }),
    case(
        "HEADERS of another stream amid a header block",
        Ends(code::PROTOCOL),
        0,
        || then(frame(kind::HEADERS, NOTHING, 1, &get("/hostile")), &good(3)),
    ),
    case("two continuations are served", Serves(1), 1, || {
        let (one, two) = (get("/good"), field(b"x", b"y"));
        let begun = frame(kind::HEADERS, flag::END_STREAM, 1, &one);
        [
            begun,
            continuation(1, NOTHING, &two),
            continuation(1, END_HEADERS, b""),
        ]
        .concat()
    }),
    case(
        "CONTINUATION flood of a kilobyte each",
        EndsSomehow,
        0,
        || {
            let begun = frame(kind::HEADERS, flag::END_STREAM, 1, &get("/hostile"));
            let piece = field(b"x", &[b'y'; 1000]);
            then(begun, &continuation(1, NOTHING, &piece).repeat(4_000))
        },
    ),
    case("CONTINUATION flood of a byte each", EndsSomehow, 0, || {
        let begun = frame(kind::HEADERS, flag::END_STREAM, 1, &get("/hostile"));
        then(begun, &continuation(1, NOTHING, &index(2)).repeat(100_000))
    }),
    case("CONTINUATION flood of nothing", EndsSomehow, 0, || {
        let begun = frame(kind::HEADERS, flag::END_STREAM, 1, &get("/hostile"));
        then(begun, &continuation(1, NOTHING, b"").repeat(100_000))
    }),
];
