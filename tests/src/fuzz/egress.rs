//! Whom somebody wants to reach, as it is written.

use std::net::{IpAddr, ToSocketAddrs as _};

use sluice_gateway::{
    egress::{Ask, Asker, Kind, Table, Target, is_public},
    http::normalize::authority::Authority,
};

/// Targets, good and bad.
pub const SEEDS: &[&[u8]] = &[
    b"api.stripe.com:443",
    b"[2606:4700::1111]:443",
    b"93.184.216.34:80",
    b"127.0.0.1:443",
    b"0x7f.1:443",
    b"xn--bcher-kva.example:8443",
    b"[::ffff:127.0.0.1]:443",
    b"a.localhost:80",
    b"",
];

/// What targets are made of.
pub const PIECES: &[&str] = &[
    ":",
    "[",
    "]",
    "::",
    ".",
    "..",
    "@",
    "%",
    "0",
    "0x",
    "127",
    "2130706433",
    "65535",
    "xn--",
    "ffff:",
    "64:ff9b::",
    "2002:",
    "2001:0:",
    "localhost",
    "\u{3002}",
    "\u{ff11}",
];

/// What is read is in one form, means itself when it is read again, means the same to other readers, and is
/// never allowed to anything that is not public.
pub fn target(input: &[u8]) {
    let Ok((target, port)) = Target::parse(input, None) else {
        return;
    };
    let text = format!("{target}:{port}");
    let again = Target::parse(&text, None).expect("what came out goes in again");
    assert_eq!(again, (target.clone(), port));
    assert_eq!(
        text.as_bytes().to_ascii_lowercase(),
        input.to_ascii_lowercase()
    );

    // Whoever reads a request reads the same in it.
    let authority = Authority::parse(input).expect("an authority");
    assert_eq!(authority.to_string(), text);

    let asker = Asker {
        source: IpAddr::from([10, 0, 0, 1]),
        user: None,
        identity: None,
    };
    let ask = Ask {
        target: &target,
        port,
        kind: Kind::Tcp,
    };
    let decision = Table::compile(None).decide(&asker, &ask);
    match &target {
        Target::Address(address) => {
            assert_eq!(decision.passes(), is_public(*address), "{text}");
            // The system's own reader of addresses agrees.
            let mut system = text.to_socket_addrs().expect("an address");
            let found = system.next().expect("one address");
            assert_eq!((found.ip(), found.port()), (*address, port));
        }
        Target::Name(name) => {
            assert_eq!(decision.passes(), !target.is_loopback_name(), "{text}");
            assert!(name.parse::<IpAddr>().is_err(), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            );
            assert!(
                name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()))
            );
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(!last.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        }
    }
}
