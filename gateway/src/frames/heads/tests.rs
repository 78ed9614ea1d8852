//! Against the codec itself: whatever a client says, in whichever pieces, the codec keeps its connection,
//! takes every sound request as it was meant, and resets every other stream.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::Waker,
};

use http::HeaderMap;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;
use crate::frames::{PREFACE, huffman::tests::encode};

/// A connection to a client that has said all it says, and of which we read pieces.
struct Peer {
    says: VecDeque<Vec<u8>>,
    heads: Heads,
    found: Vec<Found>,
    heard: Vec<u8>,
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            says, heads, found, ..
        } = self.get_mut();
        let read = heads.poll_read(cx, buffer, |_, buffer| {
            let Some(mut piece) = says.pop_front() else {
                return Poll::Pending;
            };
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                says.push_front(rest);
            }
            Poll::Ready(Ok(()))
        });
        found.extend(heads.found());
        read
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A borrowed connection, so that what it heard is still there when the codec is gone.
struct Lent<'a>(&'a mut Peer);

impl AsyncRead for Lent<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lent<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Names and values in any order of names.
type Fields = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// A name and a value.
type Field = (Vec<u8>, Vec<u8>);

fn sorted(fields: impl IntoIterator<Item = Field>) -> Fields {
    let mut sorted = Fields::new();
    for (name, value) in fields {
        sorted.entry(name).or_default().push(value);
    }
    sorted
}

fn of_map(map: &HeaderMap) -> Fields {
    sorted(map.iter().map(|(name, value)| {
        let name = name.as_str().as_bytes().to_vec();
        (name, value.as_bytes().to_vec())
    }))
}

/// What the codec made of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// The fields of requests by stream, and those of their trailers.
    requests: BTreeMap<u32, (Fields, Option<Fields>)>,
    resets: Vec<u32>,
}

/// Has the codec take what `peer` says, until there is no more of it.
fn serve(peer: &mut Peer) -> Outcome {
    let mut cx = Context::from_waker(Waker::noop());
    let mut outcome = Outcome::default();
    let mut shaking = h2::server::handshake(Lent(&mut *peer));
    let Poll::Ready(codec) = Pin::new(&mut shaking).poll(&mut cx) else {
        panic!("the client has said its preface");
    };
    let mut codec = codec.expect("the preface is right");
    let mut kept = Vec::new();
    while let Poll::Ready(Some(request)) = codec.poll_accept(&mut cx) {
        let (request, answer) = request.expect("the connection lives");
        let (head, body) = request.into_parts();
        let stream = answer.stream_id().as_u32();
        outcome
            .requests
            .insert(stream, (of_map(&head.headers), None));
        kept.push((stream, body, answer));
    }
    assert!(
        codec.poll_closed(&mut cx).is_pending(),
        "the connection lives"
    );
    for (stream, body, _) in &mut kept {
        while let Poll::Ready(Some(Ok(_))) = body.poll_data(&mut cx) {}
        match body.poll_trailers(&mut cx) {
            Poll::Ready(Ok(trailers)) => {
                let request = outcome.requests.get_mut(stream).unwrap();
                request.1 = trailers.as_ref().map(of_map);
            }
            Poll::Ready(Err(_)) => {
                outcome.requests.remove(stream);
            }
            Poll::Pending => panic!("a request that does not end"),
        }
    }
    drop((kept, codec, shaking));
    let mut rest = &*peer.heard;
    while let Some(front) = Front::of(rest) {
        let content = &rest[Front::LENGTH..front.whole()];
        if front.kind == kind::RST_STREAM && content == [0, 0, 0, 1] {
            outcome.resets.push(front.stream);
        }
        rest = &rest[front.whole()..];
    }
    outcome.resets.sort_unstable();
    outcome
}

/// A field, and how it is to be said.
#[derive(Debug, Clone)]
struct Said {
    name: Name,
    value: Vec<u8>,
    indexing: bool,
    coded: (bool, bool),
}

#[derive(Debug, Clone)]
enum Name {
    Literal(&'static str),
    /// The name of an entry.
    Static(usize),
    /// The name of the entry at this place, if there are so many.
    Dynamic(usize),
    /// A whole entry.
    Entry(usize),
    /// A whole entry, counted from the one that goes next.
    Oldest(usize),
}

/// A request, in how many pieces its blocks come, and its trailers.
#[derive(Debug, Clone)]
struct Request {
    fields: Vec<Said>,
    trailers: Option<Vec<Said>>,
    pieces: usize,
    padding: Option<u8>,
    priority: Option<bool>,
    /// The table gets this size first.
    table: Option<usize>,
}

/// Speaks HPACK as RFC 7541 has it, with every liberty.
struct Speaker {
    table: VecDeque<Field>,
    most: usize,
}

/// Those that are said by number here, and the fields that they stand for.
const STATIC: [(usize, &str, &str); 6] = [
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (16, "accept-encoding", "gzip, deflate"),
    (32, "cookie", ""),
    (57, "transfer-encoding", ""),
    (58, "user-agent", ""),
];

impl Speaker {
    /// Appends a field to a block; gives it.
    fn say(&mut self, said: &Said, block: &mut Vec<u8>) -> Option<Field> {
        let (name, index) = match said.name {
            Name::Literal(name) => (name.as_bytes().to_vec(), 0),
            Name::Static(which) => {
                let (index, name, _) = STATIC[which % STATIC.len()];
                (name.as_bytes().to_vec(), index)
            }
            Name::Dynamic(place) => (self.table.get(place)?.0.clone(), 62 + place),
            Name::Entry(place) => {
                let entry = self.table.get(place)?.clone();
                block.extend(integer(7, 0x80, 62 + place));
                return Some(entry);
            }
            Name::Oldest(place) => {
                let place = self.table.len().checked_sub(place + 1)?;
                block.extend(integer(7, 0x80, 62 + place));
                return Some(self.table[place].clone());
            }
        };
        let value = said.value.clone();
        // The one entry that nothing can stand in for.
        let indexing = said.indexing && name.len() + value.len() > 0;
        block.extend(if indexing {
            integer(6, 0x40, index)
        } else {
            integer(4, 0, index)
        });
        if index == 0 {
            block.extend(string(&name, said.coded.0));
        }
        block.extend(string(&value, said.coded.1));
        if indexing {
            self.table.push_front((name.clone(), value.clone()));
            self.evict();
        }
        Some((name, value))
    }

    fn evict(&mut self) {
        let size = |(name, value): &Field| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.most {
            self.table.pop_back();
        }
    }

    /// Appends a new size of the table to a block.
    fn resize(&mut self, most: usize, block: &mut Vec<u8>) {
        self.most = most;
        self.evict();
        block.extend(integer(5, 0x20, most));
    }

    fn block(&mut self, said: &[Said], head: bool) -> (Vec<u8>, Vec<Field>) {
        let start = [&[0x82, 0x86, 0x84, 0x01, 1], &b"a"[..]].concat();
        let mut block = if head { start } else { Vec::new() };
        let fields = said.iter().filter_map(|said| self.say(said, &mut block));
        let fields = fields.collect();
        (block, fields)
    }
}

fn integer(bits: u8, first: u8, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap();
    if value < most {
        return vec![first | byte(value)];
    }
    let mut bytes = vec![first | byte(most)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(byte(rest % 128) | 0x80);
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

fn string(text: &[u8], coded: bool) -> Vec<u8> {
    let bytes = if coded { encode(text) } else { text.to_vec() };
    let mut string = integer(7, if coded { 0x80 } else { 0 }, bytes.len());
    string.extend(bytes);
    string
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Whether RFC 9113 §8 takes such fields behind the pseudo-headers, or in trailers.
fn is_sound((name, value): &Field) -> bool {
    http::HeaderName::from_lowercase(name).is_ok()
        && http::HeaderValue::from_bytes(value).is_ok()
        && !matches!(&name[..], b"transfer-encoding" | b"connection")
        && (name != b"te" || value == b"trailers")
}

fn frames_of(block: &[u8], over: bool, request: &Request, stream: u32) -> Vec<u8> {
    let mut pieces = block
        .chunks(block.len().div_ceil(request.pieces).max(1))
        .peekable();
    let first = pieces.next().unwrap_or_default();
    let mut content = Vec::new();
    let mut flags = if over { flag::END_STREAM } else { 0 };
    if let Some(padding) = request.padding {
        flags |= flag::PADDED;
        content.push(padding);
    }
    if let Some(on_itself) = request.priority {
        flags |= flag::PRIORITY;
        let on = if on_itself { stream } else { 0 };
        content.extend(on.to_be_bytes());
        content.push(15);
    }
    content.extend_from_slice(first);
    content.resize(content.len() + usize::from(request.padding.unwrap_or(0)), 0);
    let last = |more: bool| if more { 0 } else { flag::END_HEADERS };
    let mut bytes = frame(
        kind::HEADERS,
        flags | last(pieces.peek().is_some()),
        stream,
        &content,
    );
    while let Some(piece) = pieces.next() {
        let flags = last(pieces.peek().is_some());
        bytes.extend(frame(kind::CONTINUATION, flags, stream, piece));
    }
    bytes
}

/// Names to say in full: four good ones, then others.
const LITERALS: [&str; 14] = [
    "x-a",
    "x-b",
    "cookie",
    "x-a-longer-name",
    "X-Upper",
    "x y",
    ":evil",
    ":path",
    "",
    "te",
    "connection",
    "x\n",
    ":method",
    ":status",
];

fn said() -> impl Strategy<Value = Said> {
    let name = prop_oneof![
        6 => prop::sample::select(&LITERALS[..4]).prop_map(Name::Literal),
        1 => prop::sample::select(&LITERALS[4..]).prop_map(Name::Literal),
        2 => (2..STATIC.len()).prop_map(Name::Static),
        1 => (0..STATIC.len()).prop_map(Name::Static),
        3 => (0..6_usize).prop_map(Name::Dynamic),
        3 => (0..6_usize).prop_map(Name::Entry),
        4 => (0..3_usize).prop_map(Name::Oldest),
    ];
    let value = prop_oneof![
        8 => "[a-z0-9 ]{0,20}".prop_map(String::into_bytes),
        1 => Just(b"trailers".to_vec()),
        1 => (0..3000_usize).prop_map(|length| vec![b'v'; length]),
        1 => Just(vec![b'w'; 4090]),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => Just(b"y\r\nevil: yes".to_vec()),
    ];
    (name, value, any::<bool>(), any::<(bool, bool)>()).prop_map(
        |(name, value, indexing, coded)| Said {
            name,
            value,
            indexing,
            coded,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let fields = || prop::collection::vec(said(), 0..5);
    (
        fields(),
        prop::option::of(fields()),
        1..4_usize,
        prop::option::weighted(0.2, 0..20_u8),
        prop::option::weighted(0.2, prop::bool::weighted(0.2)),
        prop::option::weighted(0.2, prop_oneof![100..400_usize, 0..4097_usize]),
    )
        .prop_map(
            |(fields, trailers, pieces, padding, priority, table)| Request {
                fields,
                trailers,
                pieces,
                padding,
                priority,
                table,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_codec_takes_what_is_sound_and_survives_the_rest(
        requests in prop::collection::vec(request(), 1..12),
        sizes in prop::collection::vec(1..4000_usize, 1..8),
    ) {
        let mut speaker = Speaker { table: VecDeque::new(), most: 4096 };
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, 0, b""));
        let mut expected = Outcome::default();
        for (number, request) in requests.iter().enumerate() {
            let stream = u32::try_from(number).unwrap() * 2 + 1;
            let mut whole = Vec::new();
            if let Some(most) = request.table {
                speaker.resize(most, &mut whole);
            }
            let (block, fields) = speaker.block(&request.fields, true);
            whole.extend(block);
            let block = whole;
            let over = request.trailers.is_none();
            bytes.extend(frames_of(&block, over, request, stream));
            let on_itself = request.priority == Some(true);
            let mut sound = !on_itself && fields.iter().all(is_sound);
            let mut with = None;
            if let Some(trailers) = &request.trailers {
                let (block, fields) = speaker.block(trailers, false);
                bytes.extend(frame(kind::DATA, 0, stream, b"body"));
                bytes.extend(frames_of(&block, true, request, stream));
                sound &= fields.iter().all(is_sound);
                with = Some(sorted(fields));
            }
            if sound {
                expected.requests.insert(stream, (sorted(fields), with));
            } else {
                expected.resets.push(stream);
            }
        }
        let mut sizes = sizes.into_iter().cycle();
        let mut says = VecDeque::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(sizes.next().unwrap()));
            says.push_back(piece.to_vec());
            rest = more;
        }
        let heads = Heads::behind(PREFACE.len());
        let mut peer = Peer { says, heads, found: Vec::new(), heard: Vec::new() };
        let outcome = serve(&mut peer);
        prop_assert_eq!(outcome, expected);
        prop_assert!(peer.says.is_empty());
        prop_assert!(peer.heads.held.is_empty() && peer.heads.ready.is_empty() && !peer.heads.lost);
    }
}

/// What the codec would get of this, in pieces of every size.
fn passed(bytes: &[u8]) -> Vec<u8> {
    let mut all: Option<Vec<u8>> = None;
    for size in 1..=bytes.len() {
        let mut heads = Heads::behind(0);
        let mut pieces = bytes.chunks(size);
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut space = [0; 64];
            let mut buffer = ReadBuf::new(&mut space);
            let read = heads.poll_read(&mut cx, &mut buffer, |_, buffer| {
                if let Some(piece) = pieces.next() {
                    let length = piece.len().min(buffer.remaining());
                    assert_eq!(length, piece.len(), "a piece fits");
                    buffer.put_slice(piece);
                }
                Poll::Ready(Ok(()))
            });
            assert!(matches!(read, Poll::Ready(Ok(()))));
            if buffer.filled().is_empty() {
                break;
            }
            out.extend_from_slice(buffer.filled());
        }
        match &all {
            Some(all) => assert_eq!(&out, all, "pieces of {size}"),
            None => all = Some(out),
        }
        if size >= 64 {
            break;
        }
    }
    all.unwrap_or_default()
}

const WHOLE: u8 = flag::END_STREAM | flag::END_HEADERS;

#[test]
fn what_is_sound_or_senseless_passes_as_it_came() {
    let data = frame(kind::DATA, 0, 1, &[7; 300]);
    for bytes in [
        [frame(kind::HEADERS, WHOLE, 1, &[0x82]), data.clone()].concat(),
        [frame(0x42, 0xff, 9, b"whatever"), data.clone()].concat(),
        // Amid a block comes something else.
        [
            frame(kind::HEADERS, 0, 1, &[0x82]),
            frame(kind::PING, 0, 0, &[0; 8]),
            data.clone(),
        ]
        .concat(),
        [
            frame(kind::HEADERS, 0, 1, &[0x82]),
            frame(kind::CONTINUATION, 4, 3, &[0x82]),
        ]
        .concat(),
        // More padding than there is, no priority, no block.
        [
            frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[9, 0x82]),
            data.clone(),
        ]
        .concat(),
        [
            frame(kind::HEADERS, WHOLE | flag::PRIORITY, 1, &[0, 0, 0, 3]),
            data.clone(),
        ]
        .concat(),
        [frame(kind::HEADERS, WHOLE, 1, &[0x80]), data].concat(),
    ] {
        assert_eq!(passed(&bytes), bytes);
    }
}

#[test]
fn a_block_in_pieces_goes_on_as_one() {
    let bytes = [
        frame(
            kind::HEADERS,
            flag::END_STREAM | flag::PADDED,
            1,
            &[2, 0x82, 0, 0],
        ),
        frame(kind::CONTINUATION, 0, 1, &[0x86, 0x01]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[1, b'a']),
        frame(kind::PING, 0, 0, &[0; 8]),
    ];
    let expected = [
        frame(kind::HEADERS, WHOLE, 1, &[0x82, 0x86, 0x01, 1, b'a']),
        frame(kind::PING, 0, 0, &[0; 8]),
    ];
    assert_eq!(passed(&bytes.concat()), expected.concat());
}

#[test]
fn a_mended_block_larger_than_a_frame_is_spoilt_in_its_last_piece() {
    let letters = vec![b'y'; 20_000];
    let mut block = vec![0x82, 0x00, 1, b'X', 1, b'y', 0x00, 1, b'x'];
    block.extend(string(&letters, false));
    let front = Front {
        length: 0,
        kind: kind::HEADERS,
        flags: flag::END_STREAM | flag::PRIORITY,
        stream: 5,
    };
    let Judged::Flawed(Flaw::Name, mended) = Table::new().judge(&block, false) else {
        panic!("a malformed name");
    };
    let (first, last) = mended.split_at(LARGEST);
    let expected = [
        frame(kind::HEADERS, flag::END_STREAM, 5, first),
        frame(kind::CONTINUATION, flag::END_HEADERS, 5, last),
    ];
    assert_eq!(frames(front, &mended), expected.concat());
    assert!(last.ends_with(&[0x82, 0x82]));
}

#[test]
fn what_is_held_is_bounded() {
    let mut heads = Heads::behind(0);
    let mut bytes = frame(kind::HEADERS, 0, 1, &[0x82; 16_000]);
    assert_eq!(heads.pass(&bytes), 0);
    bytes[3] = kind::CONTINUATION;
    for _ in 0..100 {
        heads.pass(&bytes);
        assert!(heads.held.len() <= MOST_HELD + bytes.len());
    }
    assert!(heads.lost && heads.held.is_empty());
}

#[test]
fn streams_are_forgotten_when_nothing_more_can_come_of_them() {
    let mut heads = Heads::behind(0);
    let open = |heads: &mut Heads, stream| {
        heads.pass(&frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x82]));
    };
    for (stream, end) in [
        (1, frame(kind::DATA, flag::END_STREAM, 1, b"x")),
        (3, frame(kind::RST_STREAM, 0, 3, &[0; 4])),
        (5, frame(kind::HEADERS, WHOLE, 5, &[0x00, 1, b'x', 0])),
        (7, frame(kind::HEADERS, WHOLE, 7, &[0x82])),
    ] {
        open(&mut heads, stream);
        assert!(heads.open.contains(&stream));
        heads.pass(&end);
        assert!(heads.open.is_empty(), "{stream}");
    }
    let found = heads.found();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].stream, found[0].flaw), (7, Flaw::Trailers));
    heads.ready.clear();
    open(&mut heads, 9);
    heads.forget(9);
    assert!(heads.open.is_empty());
    for stream in 0..10_000 {
        open(&mut heads, stream * 2 + 11);
    }
    assert_eq!(heads.open.len(), MOST_OPEN);
}
