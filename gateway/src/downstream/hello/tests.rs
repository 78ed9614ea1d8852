use proptest::prelude::*;
use sluice_certs::testing::{Authority, Client, Speaks};

use super::*;

/// Cuts into records what `message` says.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, 3, 1][..], &length, part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// A message with this body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

/// What a message says with these extensions.
fn body(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extension =
        |(kind, value): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &vector(2, value)].concat();
    let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
    [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[9; 32]),
        &vector(2, &[0x13, 1]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let name = [&[0][..], &vector(2, name)].concat();
    (0, vector(2, &name))
}

fn alpn(names: &[&str]) -> (u16, Vec<u8>) {
    let names = names.iter().flat_map(|name| vector(1, name.as_bytes()));
    (16, vector(2, &names.collect::<Vec<u8>>()))
}

/// All of it at once.
fn at_once(bytes: &[u8]) -> Result<Option<Hello>, Flaw> {
    Reader::default().read(bytes)
}

/// As it grows, first by `first` bytes, then by `step` each time, until there is an answer.
fn in_steps(bytes: &[u8], first: usize, step: usize) -> Result<Option<Hello>, Flaw> {
    let mut reader = Reader::default();
    let mut end = first.min(bytes.len());
    loop {
        let answer = reader.read(&bytes[..end]);
        if answer != Ok(None) || end == bytes.len() {
            return answer;
        }
        end = end.saturating_add(step).min(bytes.len());
    }
}

fn of(extensions: &[(u16, Vec<u8>)]) -> Result<Option<Hello>, Flaw> {
    at_once(&records(&message(CLIENT_HELLO, &body(extensions)), RECORD))
}

fn said(hello: &Hello) -> (Option<&str>, Vec<String>) {
    let protocols = hello.protocols();
    let protocols = protocols.map(|name| String::from_utf8_lossy(name).into_owned());
    (hello.sni.as_deref(), protocols.collect())
}

#[test]
fn a_real_client_is_read_whatever_it_speaks() {
    let authority = Authority::default();
    for speaks in [Speaks::Any, Speaks::Tls12, Speaks::Tls13] {
        let client = Client::with(&authority, &["h2", "http/1.1"], speaks, None);
        let bytes = client.first_message("Shop.Example.com");
        let hello = at_once(&bytes).unwrap().unwrap();
        let protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
        assert_eq!(said(&hello), (Some("shop.example.com"), protocols));

        let bytes = client.nameless().first_message("shop.example.com");
        assert_eq!(at_once(&bytes).unwrap().unwrap().sni, None);
    }
    let bytes = Client::new(&authority, &[]).first_message("a.example");
    let hello = at_once(&bytes).unwrap().unwrap();
    assert_eq!(said(&hello), (Some("a.example"), vec![]));
    assert!(!hello.encrypted);

    let bytes = Client::hiding(&authority, &["h2"], "public.example").first_message("a.example");
    let hello = at_once(&bytes).unwrap().unwrap();
    assert_eq!(said(&hello).0, Some("public.example"));
    assert!(hello.encrypted);
}

#[test]
fn a_real_message_of_several_records_is_read_in_any_pieces() {
    let names: Vec<String> = (0..4000).map(|n| format!("made-up/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let client = Client::new(&Authority::default(), &names);
    let bytes = client.first_message("a.example");
    assert!(bytes.len() > 48 << 10, "{} bytes", bytes.len());

    let whole = at_once(&bytes).unwrap().unwrap();
    assert_eq!(whole.sni.as_deref(), Some("a.example"));
    let lengths = whole.protocols().map(<[u8]>::len);
    assert!(lengths.eq(names.iter().map(|name| name.len())));
    for (first, step) in [(1, 1), (5, 1000), (1 << 14, 1 << 14), (3, 4096)] {
        assert_eq!(in_steps(&bytes, first, step), Ok(Some(whole.clone())));
    }
}

#[test]
fn what_stands_outside_counts_and_what_nobody_knows_is_passed_over() {
    // A value nobody knows (RFC 8701), an encrypted message (RFC 9849), the name, the protocols.
    let hello = of(&[
        (0x0a0a, vec![]),
        (0xfe0d, vec![0; 300]),
        server_name(b"Public.Example."),
        alpn(&["\u{1}\u{2}", "h2"]),
        (0x1a1a, vec![0]),
    ]);
    assert_eq!(
        said(&hello.unwrap().unwrap()),
        (
            Some("public.example"),
            vec!["\u{1}\u{2}".to_owned(), "h2".to_owned()]
        )
    );
    // Without any, and as before TLS 1.3 without even their length.
    assert_eq!(of(&[]), Ok(Some(Hello::default())));
    let short = body(&[]);
    let short = &short[..short.len() - 2];
    let bytes = records(&message(CLIENT_HELLO, short), RECORD);
    assert_eq!(at_once(&bytes), Ok(Some(Hello::default())));
}

#[test]
fn a_name_that_is_none_is_not_taken_for_one() {
    for (name, expected) in [
        (&b"a_b-1.example"[..], Ok(Some("a_b-1.example"))),
        // An address is nobody's name (RFC 6066 §3).
        (b"127.0.0.1", Ok(None)),
        (b"::1", Ok(None)),
        (b"", Err(())),
        (b".", Err(())),
        (b"a..example", Err(())),
        (b".example", Err(())),
        (b"*.example", Err(())),
        (b"a.example\0", Err(())),
        (b"a example", Err(())),
        (b"a/example", Err(())),
        ("ä.example".as_bytes(), Err(())),
        (&[0xff; 4], Err(())),
        (&[b'a'; 254], Err(())),
    ] {
        let found = of(&[server_name(name)]);
        let found = found.map(|hello| hello.unwrap().sni).map_err(|_| ());
        let expected = expected.map(|name: Option<&str>| name.map(Box::from));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn lengths_that_contradict_each_other_and_things_said_twice_are_refused() {
    let name = server_name(b"a.example");
    let (kind, value) = alpn(&["h2"]);
    for extensions in [
        vec![name.clone(), name.clone()],
        vec![(kind, value.clone()), (kind, value.clone())],
        vec![(kind, vector(2, b""))],
        vec![(kind, vector(2, &[0]))],
        vec![(kind, vector(2, &[3, b'h']))],
        vec![(kind, [&value[..], &[0]].concat())],
        vec![(0, vector(2, b""))],
        vec![(0, vector(2, &[0, 0, 9, b'a']))],
        vec![(
            0,
            vector(
                2,
                &[&[0][..], &vector(2, b"a"), &[0], &vector(2, b"b")].concat(),
            ),
        )],
    ] {
        assert_eq!(of(&extensions), Err(Flaw::Malformed), "{extensions:?}");
    }
    let whole = body(&[name]);
    for cut in 0..whole.len() {
        let bytes = records(&message(CLIENT_HELLO, &whole[..cut]), RECORD);
        // Where its extensions would begin it may end.
        let expected = if whole.len() - cut == 2 + 18 {
            Ok(Some(Hello::default()))
        } else {
            Err(Flaw::Malformed)
        };
        assert_eq!(at_once(&bytes), expected, "{cut} of {}", whole.len());
    }
}

#[test]
fn what_is_no_tls_is_known_by_its_first_bytes() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x04",
        b"\x15\x03\x01\x00\x02\x02\x28",
        // A record of nothing, one that is too long, and another message.
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x04\x02",
    ] {
        assert_eq!(at_once(bytes), Err(Flaw::NotTls), "{bytes:?}");
    }
    // It began well.
    let mut bytes = records(&message(CLIENT_HELLO, &body(&[])), 10);
    bytes[15] = 23;
    assert_eq!(at_once(&bytes), Err(Flaw::Malformed));
}

#[test]
fn nobody_is_read_who_sends_too_much() {
    // A message that would be longer than any, which its first record says.
    let bytes = records(&message(CLIENT_HELLO, &vec![0; MESSAGE]), RECORD);
    assert_eq!(at_once(&bytes[..RECORD + 5]), Err(Flaw::TooLarge));
    // As long as can be.
    let padding = MESSAGE - MESSAGE_HEAD - body(&[(21, vec![])]).len();
    let longest = body(&[(21, vec![0; padding])]);
    let bytes = records(&message(CLIENT_HELLO, &longest), RECORD);
    assert_eq!(at_once(&bytes), Ok(Some(Hello::default())));
    // One byte in each record.
    let bytes = records(&message(CLIENT_HELLO, &longest), 1);
    assert_eq!(at_once(&bytes), Err(Flaw::TooLarge));
    assert_eq!(in_steps(&bytes, 1, 1), Err(Flaw::TooLarge));
    assert_eq!(at_once(&bytes[..LIMIT - 1]), Ok(None));
}

/// Something like a message, and now and then one.
fn arbitrary() -> impl Strategy<Value = Vec<u8>> {
    let name = "[a-zA-Z0-9._-]{0,20}".prop_map(|name| server_name(name.as_bytes()));
    let names = prop::collection::vec("[a-z0-9/]{0,5}", 0..4);
    let names = names.prop_map(|names| alpn(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    let other = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..40));
    let extensions = prop::collection::vec(prop_oneof![name, names, other], 0..5);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (extensions, 1..200_usize, damage, 0..40_usize).prop_map(|(extensions, size, damage, more)| {
        let mut bytes = records(&message(CLIENT_HELLO, &body(&extensions)), size);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.extend(vec![22; more]);
        bytes
    })
}

proptest! {
    #[test]
    fn the_pieces_make_no_difference(
        bytes in arbitrary(), first in 0..40_usize, step in 1..60_usize,
    ) {
        prop_assert_eq!(in_steps(&bytes, first, step), at_once(&bytes));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300), first in 0..9_usize, step in 1..9_usize,
    ) {
        let bytes = [&[22, 3, 1, 0][..], &bytes].concat();
        prop_assert_eq!(in_steps(&bytes, first, step), at_once(&bytes));
    }
}
