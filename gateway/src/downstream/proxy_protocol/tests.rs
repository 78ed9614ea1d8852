//! Headers against the facts of the specification, in whatever pieces they come.

use proptest::{collection::vec, prelude::*};

use super::*;

/// What all of `bytes` are, and the length if they begin with a header.
fn whole(bytes: &[u8]) -> Result<Start, Malformed> {
    read(bytes)
}

fn client(source: &str, destination: &str) -> About {
    About::Client {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    }
}

fn plain(about: About) -> Header {
    let extras = Bytes::new();
    Header { about, extras }
}

/// Version 2 with these two bytes behind the signature, a length that is true, and what is behind it.
fn binary(command: u8, protocol: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).expect("short enough");
    let head = [v2::SIGNATURE, &[command, protocol], &length.to_be_bytes()];
    [head.concat().as_slice(), behind].concat()
}

/// 127.0.0.1, port 42, to 127.0.0.1, port 1337.
const ADDRESSES: [u8; 12] = [127, 0, 0, 1, 127, 0, 0, 1, 0, 42, 5, 57];

#[test]
fn lines_are_read_as_they_are_specified() {
    let four = client("192.168.0.1:56324", "192.168.0.11:443");
    let widest = client("255.255.255.255:65535", "255.255.255.255:65535");
    let six = client(
        "[2001:db8::1]:1",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0",
    );
    let cases: &[(&str, About)] = &[
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", four),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            widest,
        ),
        (
            "PROXY TCP6 2001:DB8::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 1 0\r\n",
            six,
        ),
        ("PROXY UNKNOWN\r\n", About::Unnamed),
        (
            "PROXY UNKNOWN ffff:: anything \u{0} at all\r\n",
            About::Unnamed,
        ),
    ];
    for (line, about) in cases {
        let behind = [line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
        let expected = Start::Header(plain(about.clone()), line.len());
        assert_eq!(whole(&behind), Ok(expected), "{line:?}");
    }
}

#[test]
fn the_longest_line_is_read_and_one_byte_more_is_not() {
    let line = |filling: usize| format!("PROXY UNKNOWN {}\r\n", "f".repeat(filling));
    assert_eq!(line(91).len(), 107);
    assert_eq!(
        whole(line(91).as_bytes()),
        Ok(Start::Header(plain(About::Unnamed), 107))
    );
    assert_eq!(whole(line(92).as_bytes()), Err(Malformed::TooLong));
    assert_eq!(whole(&[b'a'; 200]), Ok(Start::Other));
}

#[test]
fn lines_that_are_none_are_refused() {
    use Malformed::{Address, Kind, LineEnd};
    let cases: &[(&str, Malformed)] = &[
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n", LineEnd),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r ", LineEnd),
        ("PROXY UNKNOWN\n\r\n", LineEnd),
        ("PROXY UNKNOWN a\rb\r\n", LineEnd),
        ("PROXY \r\n", Kind),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Kind),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Kind),
        ("PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", Kind),
        ("PROXY UNKNOWNS\r\n", Kind),
        ("PROXY TCP4\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Address),
        ("PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 256.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 ::1 ::2 1 2\r\n", Address),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP6 ::1%lo ::2 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 00 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \u{661}\r\n", Address),
        ("PROXY TCP4 localhost 2.2.2.2 1 2\r\n", Address),
    ];
    for (line, why) in cases {
        assert_eq!(whole(line.as_bytes()), Err(*why), "{line:?}");
    }
}

#[test]
fn binary_headers_are_read_as_they_are_specified() {
    let four = client("127.0.0.1:42", "127.0.0.1:1337");
    let six = client("[2001:db8::1]:258", "[::2]:65535");
    let mut long = [0_u8; 36];
    long[..2].copy_from_slice(&[0x20, 0x01]);
    long[2..4].copy_from_slice(&[0x0d, 0xb8]);
    (long[15], long[31]) = (1, 2);
    long[32..].copy_from_slice(&[1, 2, 0xff, 0xff]);
    let mut paths = [0_u8; 216];
    paths[..5].copy_from_slice(b"/here");
    paths[108..114].copy_from_slice(b"/there");
    let unix = About::Unix(Box::new(paths));
    let cases: &[(u8, u8, &[u8], About)] = &[
        (0x21, 0x11, &ADDRESSES, four.clone()),
        (0x21, 0x12, &ADDRESSES, four),
        (0x21, 0x21, &long, six.clone()),
        (0x21, 0x22, &long, six),
        (0x21, 0x31, &paths, unix.clone()),
        (0x21, 0x32, &paths, unix),
        (0x21, 0x00, &[], About::Unnamed),
        (0x21, 0x00, b"whatever", About::Unnamed),
        (0x20, 0x00, &[], About::Proxy),
        // What is behind LOCAL does not count, whatever the family.
        (0x20, 0x11, &ADDRESSES, About::Proxy),
        (0x20, 0xff, b"whatever", About::Proxy),
    ];
    for (command, protocol, behind, about) in cases {
        let bytes = binary(*command, *protocol, behind);
        let expected = Start::Header(plain(about.clone()), bytes.len());
        let more = [bytes.as_slice(), b"\x16\x03\x01"].concat();
        assert_eq!(whole(&more), Ok(expected), "{command:x} {protocol:x}");
    }
}

#[test]
fn binary_headers_that_are_none_are_refused() {
    use Malformed::{Address, Checksum, Extra, Kind, TooLong};
    let behind = |more: &[u8]| [&ADDRESSES, more].concat();
    let cases: &[(u8, u8, Vec<u8>, Malformed)] = &[
        (0x11, 0x11, behind(b""), Kind),
        (0x31, 0x11, behind(b""), Kind),
        (0x22, 0x11, behind(b""), Kind),
        (0x2f, 0x11, behind(b""), Kind),
        (0x21, 0x13, behind(b""), Kind),
        (0x21, 0x41, behind(b""), Kind),
        (0x21, 0x10, behind(b""), Kind),
        (0x21, 0x01, behind(b""), Kind),
        (0x21, 0x11, vec![], Address),
        (0x21, 0x11, ADDRESSES[..11].to_vec(), Address),
        (0x21, 0x21, vec![0; 35], Address),
        (0x21, 0x31, vec![0; 215], Address),
        // One byte short of the header's end, and one beyond it.
        (0x21, 0x11, behind(b"\x02\x00\x041234\0"), Extra),
        (0x21, 0x11, behind(b"\x02\x00\x0612345"), Extra),
        (0x21, 0x11, behind(b"\x02\x00"), Extra),
        (0x21, 0x11, behind(b"\xe0\xff\xff"), Extra),
        (0x21, 0x11, behind(b"\x03\x00\x03123"), Extra),
        (0x21, 0x11, behind(b"\x03\x00\x041234"), Checksum),
        (0x21, 0x11, behind(&[0; 4096]), TooLong),
    ];
    for (command, protocol, behind, why) in cases {
        let bytes = binary(*command, *protocol, behind);
        assert_eq!(whole(&bytes), Err(*why), "{bytes:?}");
    }
}

#[test]
fn what_is_said_besides_is_kept_but_for_what_is_about_the_header() {
    let said = b"\x02\x00\x0512345\xe0\x00\x00";
    let padded = [&ADDRESSES[..], &said[..8], b"\x04\x00\x02xx", &said[8..]].concat();
    let Ok(Start::Header(header, _)) = whole(&binary(0x21, 0x11, &padded)) else {
        panic!("a header");
    };
    assert_eq!(&header.extras[..], said);
    let again = binary(0x21, 0x11, &[&ADDRESSES[..], said].concat());
    assert_eq!(&header.write(Version::V2)[..], again);
}

#[test]
fn a_checksum_is_that_of_the_header_with_zeros_in_its_place() {
    let zeros = [&ADDRESSES[..], b"\x03\x00\x04\0\0\0\0\x02\x00\x01a"].concat();
    let mut bytes = binary(0x21, 0x11, &zeros);
    let sum = crc32c::sum([bytes.as_slice()]).to_be_bytes();
    bytes[31..35].copy_from_slice(&sum);
    let Ok(Start::Header(header, _)) = whole(&bytes) else {
        panic!("a header");
    };
    assert_eq!(&header.extras[..], b"\x02\x00\x01a");
    // With another type in its place there is no checksum.
    for at in (16..28).chain(29..bytes.len()) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(whole(&other).is_err(), "byte {at} is another");
    }
}

#[test]
fn what_begins_otherwise_is_no_header() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"PROXY\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        assert_eq!(whole(bytes), Ok(Start::Other), "{bytes:?}");
    }
}

#[test]
fn the_lines_that_are_written_are_those_of_the_specification() {
    let line = |about: About| String::from_utf8(plain(about).write(Version::V1).into());
    let cases = [
        (
            client("192.168.0.1:56324", "192.168.0.11:443"),
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ),
        (
            client("[2001:db8::1]:1", "192.0.2.1:2"),
            "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2\r\n",
        ),
        (About::Unnamed, "PROXY UNKNOWN\r\n"),
        (About::Proxy, "PROXY UNKNOWN\r\n"),
        (About::Unix(Box::new([0; 216])), "PROXY UNKNOWN\r\n"),
    ];
    for (about, expected) in cases {
        assert_eq!(line(about).as_deref(), Ok(expected));
    }
}

#[test]
fn an_addition_takes_the_place_of_one_of_its_kind() {
    let mut header = plain(client("127.0.0.1:42", "127.0.0.1:1337"));
    header.extras = Bytes::from_static(b"\x02\x00\x01a\x05\x00\x01b");
    header.set_extra(Extra::Authority, b"host");
    header.set_extra(Extra::Alpn, b"h2");
    assert_eq!(
        &header.extras[..],
        b"\x05\x00\x01b\x02\x00\x04host\x01\x00\x02h2"
    );
}

fn headers() -> impl Strategy<Value = Header> {
    let addresses = any::<((std::net::IpAddr, u16), (std::net::IpAddr, u16))>();
    let about = prop_oneof![
        Just(About::Proxy),
        Just(About::Unnamed),
        addresses.prop_map(|(source, destination)| {
            // As both are written: in one family.
            let six = |(ip, port)| SocketAddr::new(v1::six(ip).into(), port);
            if source.0.is_ipv4() && destination.0.is_ipv4() {
                About::Client {
                    source: source.into(),
                    destination: destination.into(),
                }
            } else {
                About::Client {
                    source: six(source),
                    destination: six(destination),
                }
            }
        }),
        any::<[[u8; 108]; 2]>().prop_map(|paths| {
            About::Unix(Box::new(std::array::from_fn(|at| {
                paths[at / 108][at % 108]
            })))
        }),
    ];
    let extras = vec((5_u8.., vec(any::<u8>(), 0..40)), 0..5);
    (about, extras).prop_map(|(about, extras)| {
        let extras: Vec<u8> = extras
            .into_iter()
            .flat_map(|(kind, value)| {
                let length = u16::try_from(value.len()).expect("short").to_be_bytes();
                [&[kind][..], &length, &value].concat()
            })
            .collect();
        let unsaid = matches!(about, About::Proxy | About::Unnamed);
        let extras = if unsaid { Bytes::new() } else { extras.into() };
        Header { about, extras }
    })
}

/// Bytes that are often nearly a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let written = (headers(), any::<bool>()).prop_map(|(header, text)| {
        let version = if text { Version::V1 } else { Version::V2 };
        header.write(version).to_vec()
    });
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (written, changes, vec(any::<u8>(), 0..20)).prop_map(|(mut bytes, changes, behind)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(behind);
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(header in headers(), behind in vec(any::<u8>(), 0..20)) {
        let binary = header.write(Version::V2);
        let bytes = [&binary[..], &behind].concat();
        prop_assert_eq!(read(&bytes), Ok(Start::Header(header.clone(), binary.len())));

        let line = header.write(Version::V1);
        let bytes = [&line[..], &behind].concat();
        let about = match header.about {
            client @ About::Client { .. } => client,
            About::Proxy | About::Unnamed | About::Unix(_) => About::Unnamed,
        };
        prop_assert_eq!(read(&bytes), Ok(Start::Header(plain(about), line.len())));
    }

    #[test]
    fn pieces_make_no_difference(bytes in nearly()) {
        let all = read(&bytes);
        let mut first = None;
        for length in 0..=bytes.len() {
            let now = read(&bytes[..length]);
            if now != Ok(Start::Unfinished) {
                first.get_or_insert_with(|| (now.clone(), length));
                prop_assert_eq!(&now, &all, "after {} bytes", length);
            }
        }
        // No header needs more bytes than it has to be recognised.
        if let (Some((_, needed)), Ok(Start::Header(_, length))) = (first, all) {
            prop_assert_eq!(needed, length);
        }
    }

    #[test]
    fn nothing_behind_a_binary_header_has_to_be_read(header in headers(), sizes in vec(1_usize..50, 1..50)) {
        let bytes = header.write(Version::V2);
        let (mut come, mut sizes) = (0, sizes.into_iter().cycle());
        while read(&bytes[..come]) == Ok(Start::Unfinished) {
            let wanted = missing(&bytes[..come]);
            prop_assert!((1..=MOST - come).contains(&wanted));
            come += sizes.next().expect("a size").min(wanted);
            prop_assert!(come <= bytes.len());
        }
        prop_assert_eq!(come, bytes.len());
    }

    #[test]
    fn whatever_comes_is_answered(bytes in vec(any::<u8>(), 0..300)) {
        let behind = [v2::SIGNATURE, &bytes].concat();
        let line = [v1::SIGNATURE, &bytes].concat();
        for bytes in [bytes, behind, line] {
            if let Ok(Start::Header(_, length)) = read(&bytes) {
                prop_assert!(length <= bytes.len() && length <= MOST);
            }
        }
    }
}
