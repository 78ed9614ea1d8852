use super::*;
use crate::frames::huffman::tests::encode;

fn string(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 0x7f);
    [&[length], text].concat()
}

fn coded(text: &[u8]) -> Vec<u8> {
    let mut bytes = string(&encode(text));
    bytes[0] |= 0x80;
    bytes
}

fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[first], &*string(name), &*string(value)].concat()
}

fn judge(block: &[u8]) -> Judged {
    Table::new().judge(block, false)
}

const SOUND: Judged = Judged::Sound { interim: false };

fn flawed(flaw: Flaw, block: &[u8]) -> Judged {
    Judged::Flawed(flaw, [block, &SPOILT].concat())
}

#[test]
fn a_field_without_a_place_in_the_table_is_left_out() {
    for first in [0x00, 0x10] {
        for (name, value, flaw) in [
            (&b"X-Upper"[..], &b"y"[..], Flaw::Name),
            (b"", b"y", Flaw::Name),
            (b":evil", b"y", Flaw::Name),
            (b"x y", b"z", Flaw::Name),
            (b"x", b"y\r\nz: evil", Flaw::Value),
            (b"x", b"\0", Flaw::Value),
            (b":path", b"/\xff", Flaw::Value),
            (b":method", b"GET /", Flaw::Value),
        ] {
            let bad = literal(first, name, value);
            let block = [&[0x82], &*bad, &[0x86]].concat();
            assert_eq!(
                judge(&block),
                flawed(flaw, &[0x82, 0x86]),
                "{name:?}: {value:?}"
            );
            let bad = [&[first], &*coded(name), &*coded(value)].concat();
            let block = [&[0x82], &*bad, &[0x86]].concat();
            assert_eq!(
                judge(&block),
                flawed(flaw, &[0x82, 0x86]),
                "{name:?}: {value:?}, coded"
            );
        }
        // By the name of an entry: `cookie` is the 32nd.
        let block = [&[first | 0x0f, 32 - 15], &*string(b"a\nb")].concat();
        assert_eq!(judge(&block), flawed(Flaw::Value, b""));
    }
}

#[test]
fn an_entry_has_one_of_its_size_instead_that_keeps_its_name() {
    for (bad, flaw, instead) in [
        (
            literal(0x40, b"X-Upper", b"yy"),
            Flaw::Name,
            literal(0x40, b"xxxxxxx", b"xx"),
        ),
        (
            literal(0x40, b"", b"yy"),
            Flaw::Name,
            literal(0x40, b"x", b"x"),
        ),
        (
            literal(0x40, b"x-a", b"y\0z"),
            Flaw::Value,
            literal(0x40, b"x-a", b"xxx"),
        ),
        (
            literal(0x40, b":method", b""),
            Flaw::Value,
            literal(0x40, b"xxxxxxx", b""),
        ),
        (
            literal(0x40, b":status", b"ok"),
            Flaw::Value,
            literal(0x40, b"xxxxxxx", b"xx"),
        ),
        (
            [&[0x60], &*string(b"\0")].concat(),
            Flaw::Value,
            [&[0x60], &*string(b"x")].concat(),
        ),
        (
            [&[0x48], &*string(b"1")].concat(),
            Flaw::Value,
            literal(0x40, b"xxxxxxx", b"x"),
        ),
        (
            [&[0x40], &*coded(b"Xx"), &*coded(b"yy")].concat(),
            Flaw::Name,
            literal(0x40, b"xx", b"xx"),
        ),
    ] {
        assert_eq!(judge(&bad), flawed(flaw, &instead), "{bad:x?}");
    }
    // Nothing is as small as that.
    assert_eq!(judge(&literal(0x40, b"", b"")), Judged::Unreadable);
}

#[test]
fn what_stands_in_is_never_taken_for_a_field() {
    let mut table = Table::new();
    let entry = |name: &[u8], value: &[u8]| literal(0x40, name, value);
    let block = [entry(b"x-a", b"\0"), entry(b"X", b"y"), entry(b"x-b", b"z")].concat();
    assert!(matches!(
        table.judge(&block, false),
        Judged::Flawed(Flaw::Value, _)
    ));
    // The newest first: `x-b` is 62, `X` is 63, `x-a` is 64.
    let named = |index: u8, value: &[u8]| [&[0x0f, index - 15], &*string(value)].concat();
    for (block, expected) in [
        (vec![0xbe], SOUND),
        (vec![0xbf], flawed(Flaw::Name, b"")),
        (vec![0xc0], flawed(Flaw::Value, b"")),
        (named(62, b"good"), SOUND),
        (named(63, b"good"), flawed(Flaw::Name, b"")),
        // The name of a malformed value was none the worse for it.
        (named(64, b"good"), SOUND),
    ] {
        assert_eq!(table.judge(&block, false), expected, "{block:x?}");
    }
}

#[test]
fn a_table_forgets_as_its_sender_does() {
    let filler = |length: usize| {
        let mut block = vec![0x40, 1, b'x'];
        fill(&mut block, length);
        block
    };
    // 32 beside, 1 of the name: one byte more than a table has.
    let (fits, too_large) = (filler(TABLE - 33), filler(TABLE - 32));
    let bad = literal(0x40, b"X", b"y");
    for (later, reference) in [(fits, 63), (too_large, 62)] {
        let mut table = Table::new();
        table.judge(&bad, false);
        assert_eq!(table.judge(&later, false), SOUND);
        let after = table.judge(&[0x80 + reference], false);
        let known = reference == 63;
        assert_eq!(matches!(after, Judged::Flawed(..)), known);
    }
    // A table of nothing keeps nothing.
    let mut table = Table::new();
    assert_eq!(table.judge(&[0x20], false), SOUND);
    table.judge(&bad, false);
    assert_eq!(table.judge(&[0xbe], false), Judged::Unreadable);
}

#[test]
fn trailers_have_no_pseudo_headers_whatever_they_are_made_of() {
    let mut table = Table::new();
    let path = literal(0x40, b":path", b"/evil");
    assert_eq!(table.judge(&path, true), flawed(Flaw::Trailers, &path));
    let status = literal(0x00, b":status", b"200");
    for block in [vec![0x82], vec![0xbe], vec![0x88], path, status] {
        assert_eq!(table.judge(&block, true), flawed(Flaw::Trailers, &block));
        assert_eq!(table.judge(&block, false), SOUND);
    }
    assert_eq!(table.judge(&literal(0x40, b"x", b"y"), true), SOUND);
    assert_eq!(table.judge(&[0xbe], true), SOUND);
}

#[test]
fn connect_has_no_length_whatever_it_is_made_of() {
    let mut table = Table::new();
    let entry = [
        literal(0x40, b":method", b"CONNECT"),
        literal(0x40, b"content-length", b"5"),
    ];
    let refused = |block: &[u8]| flawed(Flaw::Connect, block);
    let both = entry.concat();
    assert_eq!(table.judge(&both, false), refused(&both));
    // By their places in the tables: `content-length` is the 28th of the static one.
    let static_name = [&[0x0f, 28 - 15], &*string(b"7")].concat();
    for (method, length, good) in [
        (vec![0xbf], vec![0xbe], false),
        (vec![0xbf], static_name, false),
        (vec![0xbf], literal(0x00, b"content-length", b"0"), true),
        (vec![0xbf], vec![0x80 + 28], true),
        (vec![0x83], vec![0xbe], true),
        (literal(0x00, b":method", b"connect"), vec![0xbe], true),
    ] {
        let block = [method, length].concat();
        let expected = if good { SOUND } else { refused(&block) };
        assert_eq!(table.judge(&block, false), expected, "{block:x?}");
    }
}

#[test]
fn interim_responses_are_known_by_their_status() {
    let mut table = Table::new();
    let early = literal(0x40, b":status", b"103");
    let named = [&[0x08], &*string(b"100")].concat();
    let interim = Judged::Sound { interim: true };
    for block in [early, vec![0xbe], named] {
        assert_eq!(table.judge(&block, false), interim, "{block:x?}");
    }
    // The name of that entry, with another value.
    let last = [&[0x0f, 62 - 15], &*string(b"200")].concat();
    assert_eq!(table.judge(&last, false), SOUND);
    assert_eq!(table.judge(&[0x88], false), SOUND);
}

#[test]
fn what_is_no_block_is_the_codecs_to_refuse() {
    for block in [
        &[0x80][..],
        &[0xbe],
        &[0x0f],
        &[0x00, 1],
        &[0x00, 1, b'x', 5, b'y'],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x00, 0x81, 0xff, 1, b'y'],
        &[0x3f, 0xe2, 0x1f],
    ] {
        assert_eq!(judge(block), Judged::Unreadable, "{block:x?}");
    }
    // A table of 4096 is as large as it may be.
    assert_eq!(judge(&[0x3f, 0xe1, 0x1f]), SOUND);
}

#[test]
fn lengths_are_written_as_they_are_read() {
    for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_511, 16_512, 100_000] {
        let mut bytes = Vec::new();
        fill(&mut bytes, length);
        let mut reader = Reader {
            rest: &bytes,
            text: Vec::new(),
        };
        assert_eq!(reader.string().unwrap().len(), length);
        assert_eq!(reader.rest, b"");
    }
}
