use super::*;
use crate::frames::{
    flag::{ACK, END_HEADERS},
    kind::{CONTINUATION, DATA, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE},
};

const HEAD: usize = 32 << 10;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.resize(bytes.len() + length, 0);
    bytes
}

fn guard() -> (Guard, Instant) {
    let now = Instant::now();
    let mut guard = Guard::new(HEAD, 200, now);
    take(&mut guard, PREFACE, now).unwrap();
    take(&mut guard, &frame(SETTINGS, 0, 0, 0), now).unwrap();
    (guard, now)
}

/// The client sent this, in as many turns as it takes.
fn take(guard: &mut Guard, mut bytes: &[u8], now: Instant) -> Result<(), Breach> {
    while !bytes.is_empty() {
        guard.begin_turn();
        let later = guard.received(bytes, now)?;
        bytes = &bytes[bytes.len() - later..];
    }
    Ok(())
}

/// Sends `frame` until it is too much; how often it went well.
fn until_flood(frame: &[u8], most: usize) -> (usize, Option<Breach>) {
    let (mut guard, now) = guard();
    for count in 0..most {
        if let Err(flood) = take(&mut guard, frame, now) {
            return (count, Some(flood));
        }
    }
    (most, None)
}

#[test]
fn frames_to_no_purpose_are_bounded() {
    for (name, frame, most) in [
        ("PING", frame(PING, 0, 0, 8), 1000),
        ("SETTINGS", frame(SETTINGS, 0, 0, 0), 200),
        ("SETTINGS ack", frame(SETTINGS, 1, 0, 0), 200),
        ("PRIORITY", frame(PRIORITY, 0, 1, 5), 2000),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, 4), 4000),
        ("empty DATA", frame(DATA, 0, 1, 0), 200),
        ("unknown", frame(0xbe, 0, 0, 3), 2000),
        ("PRIORITY_UPDATE", frame(0x10, 0, 0, 6), 2000),
    ] {
        let (count, flood) = until_flood(&frame, 5000);
        assert_eq!((count, flood), (most, Some(Breach::Useless)), "{name}");
    }
}

#[test]
fn requests_taken_back_are_bounded_within_any_thirty_seconds() {
    let reset = frame(RST_STREAM, 0, 1, 4);
    assert_eq!(until_flood(&reset, 300), (200, Some(Breach::Resets)));

    let (mut guard, now) = guard();
    for second in 0..600 {
        for _ in 0..5 {
            let now = now + Duration::from_secs(second);
            take(&mut guard, &reset, now).unwrap();
        }
    }
    let late = now + Duration::from_hours(1);
    for _ in 0..200 {
        take(&mut guard, &reset, late).unwrap();
    }
    assert_eq!(take(&mut guard, &reset, late), Err(Breach::Resets));
}

#[test]
fn a_client_that_asks_and_reads_is_never_cut() {
    let (mut guard, now) = guard();
    for stream in 0..20_000 {
        take(
            &mut guard,
            &frame(HEADERS, END_HEADERS, stream * 2 + 1, 50),
            now,
        )
        .unwrap();
        take(&mut guard, &frame(PING, 0, 0, 8), now).unwrap();
        take(&mut guard, &frame(DATA, 0, 1, 1000), now).unwrap();
        for _ in 0..10 {
            guard.sent(&frame(DATA, 0, 1, 16384), now, |_, _| {});
            for _ in 0..8 {
                take(&mut guard, &frame(WINDOW_UPDATE, 0, 1, 4), now).unwrap();
            }
        }
    }
}

#[test]
fn a_head_has_a_bound_in_pieces_and_in_bytes() {
    for (length, most) in [(0, 16), (1024, 16), (16384, 7)] {
        let (mut guard, now) = guard();
        take(&mut guard, &frame(HEADERS, 0, 1, length), now).unwrap();
        assert!(guard.head_since().is_some());
        let piece = frame(CONTINUATION, 0, 1, length);
        let answers = (0..100).map(|_| take(&mut guard, &piece, now));
        let answers: Vec<_> = answers.take(most + 1).collect();
        assert!(
            answers[..most].iter().all(Result::is_ok),
            "pieces of {length}"
        );
        assert_eq!(answers[most], Err(Breach::Continuation));
    }
}

#[test]
fn a_head_is_under_way_until_its_last_piece() {
    let (mut guard, now) = guard();
    take(&mut guard, &frame(HEADERS, 0, 1, 5), now).unwrap();
    let later = now + Duration::from_secs(1);
    take(&mut guard, &frame(CONTINUATION, 0, 1, 5), later).unwrap();
    assert_eq!(guard.head_since(), Some(now));
    let last = frame(CONTINUATION, END_HEADERS, 1, 5);
    take(&mut guard, &last, later).unwrap();
    assert_eq!(guard.head_since(), None);
}

#[test]
fn the_farewell_names_the_last_stream() {
    let (mut guard, now) = guard();
    let request = frame(HEADERS, END_HEADERS, 77, 5);
    take(&mut guard, &request, now).unwrap();
    assert_eq!(
        guard.farewell(),
        [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 11]
    );
    guard.sent(&frame(SETTINGS, 0, 0, 6)[..10], now, |_, _| {});
    assert!(!guard.may_send());
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    let mut bytes = frame(RST_STREAM, 0, stream, 4);
    bytes.truncate(Front::LENGTH);
    bytes.extend(code.to_be_bytes());
    bytes
}

#[test]
fn streams_that_we_have_to_reset_count_like_those_that_the_client_resets() {
    let ping = frame(PING, 0, 0, 8);
    for (code, counts) in [
        (0, false),
        (1, true),
        (2, false),
        (3, true),
        (5, true),
        (7, false),
        (8, false),
    ] {
        let (mut guard, now) = guard();
        let mut told = Vec::new();
        for stream in 0..200 {
            guard.sent(&reset(stream, code), now, |stream, code| {
                told.push((stream, code));
            });
            take(&mut guard, &frame(PING, 0, 0, 8), now).unwrap();
        }
        let expected: Vec<_> = (0..200)
            .map(|stream| (stream, counts.then_some(code)))
            .collect();
        assert_eq!(told, expected, "{code}");
        let one_more = take(&mut guard, &frame(RST_STREAM, 0, 1, 4), now);
        let expected = if counts { Err(Breach::Resets) } else { Ok(()) };
        assert_eq!(one_more, expected, "{code}");

        let later = now + Duration::from_mins(1);
        assert_eq!(take(&mut guard, &ping, later), Ok(()), "{code}");
    }
}

#[test]
fn what_we_send_may_be_cut_anywhere() {
    let bytes = [
        frame(DATA, 0, 1, 5),
        reset(7, 0x0103_0507),
        frame(PING, 1, 0, 8),
        reset(9, 3),
    ]
    .concat();
    for size in 1..bytes.len() {
        let (mut guard, now) = guard();
        let mut told = Vec::new();
        for piece in bytes.chunks(size) {
            guard.sent(piece, now, |stream, code| told.push((stream, code)));
        }
        assert_eq!(
            told,
            [(7, Some(0x0103_0507)), (9, Some(3))],
            "pieces of {size}"
        );
        assert!(guard.may_send());
    }
}

#[test]
fn the_first_frame_is_settings() {
    for (kind, flags, good) in [
        (SETTINGS, 0, true),
        (SETTINGS, ACK, false),
        (HEADERS, END_HEADERS, false),
        (PING, 0, false),
    ] {
        let now = Instant::now();
        let mut guard = Guard::new(HEAD, 200, now);
        take(&mut guard, PREFACE, now).unwrap();
        let expected = if good {
            Ok(())
        } else {
            Err(Breach::NoSettings)
        };
        assert_eq!(
            take(&mut guard, &frame(kind, flags, 0, 0), now),
            expected,
            "{kind}"
        );
        assert_eq!(guard.farewell()[16], if good { 11 } else { 1 });
    }
}

#[test]
fn a_turn_ends_between_two_frames_however_the_bytes_are_cut() {
    let heads: Vec<u8> = (0..50)
        .flat_map(|number| frame(HEADERS, END_HEADERS, number * 2 + 1, 100))
        .collect();
    // Each costs 528: the eighth ends the turn.
    let whole = 8 * 109;
    for size in [1, 7, 109, 500, 3000, heads.len()] {
        let (mut guard, now) = guard();
        guard.begin_turn();
        let mut taken = 0;
        while !guard.ends_turn() {
            let piece = &heads[taken..heads.len().min(taken + size)];
            let later = guard.received(piece, now).unwrap();
            taken += piece.len() - later;
        }
        assert_eq!(taken, whole, "pieces of {size}");
        assert_eq!(
            guard.received(&heads[taken..], now),
            Ok(heads.len() - taken)
        );
        guard.begin_turn();
        assert!(guard.received(&heads[taken..], now).unwrap() < heads.len() - taken);
    }
}

#[test]
fn one_large_head_is_a_turn_and_contents_are_none() {
    let (mut guard, now) = guard();
    guard.begin_turn();
    let large = frame(HEADERS, END_HEADERS, 1, 16_384);
    assert_eq!(
        guard.received(&[&*large, &*large].concat(), now),
        Ok(large.len())
    );
    guard.begin_turn();
    let data = frame(DATA, 0, 1, 16_384).repeat(100);
    assert_eq!(guard.received(&data, now), Ok(0));
    assert!(!guard.ends_turn());
}
