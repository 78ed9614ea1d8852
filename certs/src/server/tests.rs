use rustls::{SignatureAlgorithm as Algorithm, SignatureScheme as Scheme};
use tokio::io::{AsyncReadExt as _, duplex};

use super::*;
use crate::{
    Pending,
    slot::{Pairs, Slot},
    testing::{Authority, Client, Key, Leaf, Speaks, Wanted, alert},
    verify::{ClientsSpec, Mode},
};

const LIMIT: Duration = Duration::from_secs(5);

fn terms() -> Terms {
    Terms {
        oldest: Version::Tls12,
        protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        tickets: true,
        plain: b"plain",
    }
}

fn choice(leaves: &[&Leaf]) -> Choice {
    let slots = leaves.iter().enumerate().map(|(number, leaf)| {
        let slot = Slot::new(&number.to_string());
        let pair = leaf.pair();
        let names = pair.facts().names.clone();
        slot.set(Pairs::new(vec![pair]).unwrap());
        (Arc::new(slot), names)
    });
    let slots: Vec<_> = slots.collect();
    let named = slots
        .iter()
        .map(|(slot, names)| (Arc::clone(slot), names.iter().map(String::as_str)));
    Choice::new(named, None)
}

fn server(leaves: &[&Leaf], policies: &Policies) -> Server {
    let server = Server::new(terms(), policies, None).unwrap();
    server.present(choice(leaves));
    server
}

fn required(authority: &Authority) -> Clients {
    Clients::new(&ClientsSpec {
        mode: Mode::Required,
        authorities: vec![authority.pem().as_bytes().to_vec()],
        revoked: Vec::new(),
        names: Vec::new(),
        keys: Vec::new(),
    })
    .unwrap()
}

/// What became of a connection on both sides. The client reads once, so that it hears of tickets and of
/// refusals that come after its own part of the handshake.
async fn meet(
    server: &Server,
    client: &Client,
    name: &str,
) -> (
    Result<Session, AcceptError>,
    io::Result<crate::testing::Connected<tokio::io::DuplexStream>>,
) {
    let (near, far) = duplex(64 << 10);
    let accepting = async {
        let Accepted::Client(mut stream, session) = server.accept(near, LIMIT).await? else {
            panic!("this is no validating server");
        };
        stream.write_all(b"x").await?;
        Ok(session)
    };
    let connecting = async {
        let mut stream = client.connect(far, name).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    tokio::join!(accepting, connecting)
}

#[tokio::test]
async fn both_versions_agree_on_a_protocol_and_the_strongest_key_exchange() {
    let authority = Authority::default();
    let leaf = authority.server(&["a.example"]);
    let server = server(&[&leaf], &Policies::default());
    for (speaks, version, group) in [
        (Speaks::Tls13, "TLSv1.3", "X25519MLKEM768"),
        (Speaks::Tls12, "TLSv1.2", "X25519"),
    ] {
        let client = Client::with(&authority, &["http/1.1", "h2"], speaks, None);
        let (session, stream) = meet(&server, &client, "A.example").await;
        let (session, stream) = (session.unwrap(), stream.unwrap());

        assert_eq!(session.version, version);
        assert_eq!(session.sni.as_deref(), Some("a.example"));
        assert_eq!(session.protocol.as_deref(), Some(&b"h2"[..]));
        assert!(session.cipher.starts_with("TLS"), "{}", session.cipher);
        assert!(session.covers("a.example") && !session.covers("b.example"));
        assert_eq!(stream.protocol().as_deref(), Some("h2"));
        assert_eq!(stream.group(), group);
    }
}

#[tokio::test]
async fn a_name_without_a_certificate_gets_an_alert_and_no_certificate() {
    let authority = Authority::default();
    let server = server(&[&authority.server(&["a.example"])], &Policies::default());
    let client = Client::new(&authority, &["h2"]);

    let (session, stream) = meet(&server, &client, "b.example").await;
    assert!(
        matches!(session, Err(AcceptError::UnrecognizedName(Some(name))) if *name == *"b.example")
    );
    assert_eq!(
        alert(&stream.unwrap_err()).as_deref(),
        Some("unrecognized_name")
    );

    let (session, stream) = meet(&server, &client.nameless(), "a.example").await;
    assert!(matches!(session, Err(AcceptError::UnrecognizedName(None))));
    assert_eq!(
        alert(&stream.unwrap_err()).as_deref(),
        Some("unrecognized_name")
    );
}

#[tokio::test]
async fn a_validating_server_is_shown_what_is_pending_and_nothing_else() {
    let authority = Authority::default();
    let leaf = authority.server(&["a.example"]);
    let pending = Pending::none();
    let answer = authority.server(&["a.example"]).pair();
    pending.change(|answers| {
        let certificate = Arc::clone(answer.certified());
        answers.alpn.insert("a.example".to_owned(), certificate);
    });
    let server = Server::new(terms(), &Policies::default(), None).unwrap();
    server.present(choice(&[&leaf]).answering(Arc::clone(&pending)));
    let meet = async |protocols: &[&str], name: &str| {
        let (near, far) = duplex(64 << 10);
        let client = Client::new(&authority, protocols);
        tokio::join!(server.accept(near, LIMIT), client.connect(far, name))
    };

    let (accepted, shown) = meet(&["acme-tls/1"], "A.example").await;
    assert!(matches!(accepted, Ok(Accepted::Validated)), "{accepted:?}");
    let mut shown = shown.unwrap();
    assert_eq!(shown.protocol().as_deref(), Some("acme-tls/1"));
    let serial = shown.certificate().unwrap().serial;
    assert_eq!(serial, answer.facts().serial);
    let mut rest = Vec::new();
    shown.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "nothing is said there");
    assert_eq!(pending.answered(), (0, 1));

    let (accepted, refused) = meet(&["acme-tls/1"], "b.example").await;
    assert_eq!(accepted.unwrap_err().reason(), "no_application_protocol");
    let refused = refused.unwrap_err();
    assert_eq!(alert(&refused).as_deref(), Some("NoApplicationProtocol"));

    // Who offers more is a client.
    let (accepted, shown) = meet(&["acme-tls/1", "h2"], "a.example").await;
    assert!(matches!(accepted, Ok(Accepted::Client(..))), "{accepted:?}");
    assert_eq!(shown.unwrap().protocol().as_deref(), Some("h2"));
}

#[tokio::test]
async fn a_client_is_refused_for_what_it_speaks() {
    let authority = Authority::default();
    let leaf = authority.server(&["a.example"]);
    let newest = Terms {
        oldest: Version::Tls13,
        ..terms()
    };
    let server = Server::new(newest, &Policies::default(), None).unwrap();
    server.present(choice(&[&leaf]));

    let older = Client::with(&authority, &["h2"], Speaks::Tls12, None);
    let (session, stream) = meet(&server, &older, "a.example").await;
    assert_eq!(session.unwrap_err().reason(), "protocol_version");
    assert_eq!(
        alert(&stream.unwrap_err()).as_deref(),
        Some("ProtocolVersion")
    );

    let other = Client::new(&authority, &["imap"]);
    let (session, stream) = meet(&server, &other, "a.example").await;
    assert_eq!(session.unwrap_err().reason(), "no_application_protocol");
    assert_eq!(
        alert(&stream.unwrap_err()).as_deref(),
        Some("NoApplicationProtocol")
    );

    let silent = Client::new(&authority, &[]);
    let (session, _) = meet(&server, &silent, "a.example").await;
    assert_eq!(session.unwrap().protocol, None);
}

#[tokio::test]
async fn whoever_speaks_no_tls_is_told_apart() {
    let server = server(&[], &Policies::default());
    for (bytes, reason, answer) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "plain_http", &b"plain"[..]),
        (b"\x80\x2e\x01\x00\x02", "not_tls", b""),
        (
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            "malformed",
            b"\x15\x03\x03\x00\x02\x02\x32",
        ),
        (b"", "closed", b""),
    ] {
        let (near, mut far) = duplex(64 << 10);
        far.write_all(bytes).await.unwrap();
        if bytes.is_empty() {
            far.shutdown().await.unwrap();
        }
        let error = server.accept(near, LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error:?}");
        let mut told = Vec::new();
        far.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, answer, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn silent_and_slow_handshakes_end_at_their_limit() {
    let server = server(&[], &Policies::default());
    for pace in [None, Some(Duration::from_millis(900))] {
        let (near, mut far) = duplex(64 << 10);
        let trickle = async {
            let Some(pace) = pace else {
                return std::future::pending().await;
            };
            // The beginning of a message that never ends.
            let bytes = [22, 3, 1, 0x10, 0, 1, 0, 0x0f, 0xfc];
            for byte in bytes.into_iter().chain(std::iter::repeat(0)) {
                if far.write_u8(byte).await.is_err() {
                    return;
                }
                tokio::time::sleep(pace).await;
            }
        };
        let started = tokio::time::Instant::now();
        let error = tokio::select! {
            accepted = server.accept(near, LIMIT) => accepted.unwrap_err(),
            () = trickle => unreachable!("it ends first"),
        };
        assert_eq!(error.reason(), "timeout");
        assert_eq!(started.elapsed(), LIMIT);
    }
}

#[tokio::test]
async fn of_several_pairs_the_client_gets_the_one_that_it_can_verify() {
    let authority = Authority::default();
    let rsa = authority.sign(&Wanted::server(&["a.example"]).key(Key::Rsa));
    let ecdsa = authority.server(&["a.example"]);
    let slot = Slot::new("a");
    slot.set(Pairs::new(vec![rsa.pair(), ecdsa.pair()]).unwrap());
    let pairs = slot.pairs().unwrap();
    let kind = |schemes: &[rustls::SignatureScheme]| {
        let certified = pairs.for_schemes(schemes)?;
        Some(certified.key.algorithm())
    };
    let both = [Scheme::RSA_PSS_SHA256, Scheme::ECDSA_NISTP256_SHA256];
    assert_eq!(kind(&both), Some(Algorithm::ECDSA));
    assert_eq!(kind(&both[..1]), Some(Algorithm::RSA));
    assert_eq!(kind(&[Scheme::ED25519]), None);
}

#[tokio::test]
async fn a_client_comes_back_where_it_was_and_nowhere_else() {
    let authority = Authority::default();
    let leaf = authority.server(&["a.example", "b.example"]);
    let (one, other) = (
        server(&[&leaf], &Policies::default()),
        server(&[&leaf], &Policies::default()),
    );
    for speaks in [Speaks::Tls13, Speaks::Tls12] {
        let client = Client::with(&authority, &["h2"], speaks, None);
        let resumed = async |server, name| {
            let (session, stream) = meet(server, &client, name).await;
            let session = session.unwrap();
            assert_eq!(session.resumed, stream.unwrap().is_resumed());
            session.resumed
        };
        assert!(!resumed(&one, "a.example").await);
        assert!(resumed(&one, "a.example").await);
        assert!(!resumed(&one, "b.example").await, "another name");
        assert!(!resumed(&other, "a.example").await, "another listener");
    }
}

#[tokio::test]
async fn sessions_outlive_a_reload_that_changes_nothing_of_theirs() {
    let authority = Authority::default();
    let leaf = authority.server(&["a.example"]);
    let first = server(&[&leaf], &Policies::default());
    let client = Client::new(&authority, &["h2"]);
    let again = Server::new(terms(), &Policies::default(), Some(&first)).unwrap();
    let changed = Terms {
        protocols: vec![b"h2".to_vec()],
        ..terms()
    };
    let changed = Server::new(changed, &Policies::default(), Some(&first)).unwrap();
    changed.present(choice(&[&leaf]));

    let (session, _) = meet(&first, &client, "a.example").await;
    assert!(!session.unwrap().resumed);
    let (session, _) = meet(&again, &client, "a.example").await;
    assert!(session.unwrap().resumed);
    let (session, _) = meet(&changed, &client, "a.example").await;
    assert!(!session.unwrap().resumed);
}

#[tokio::test]
async fn a_session_does_not_pass_from_one_policy_to_another() {
    let authority = Authority::default();
    let leaf = authority.server(&["open.example", "closed.example"]);
    let policies = Policies {
        base: None,
        hosts: vec![("closed.example".to_owned(), Some(required(&authority)))],
    };
    let server = server(&[&leaf], &policies);
    let stranger = Client::new(&authority, &["h2"]);
    let known = authority.client(&["spiffe://shop/cart"]);
    let known = Client::with(&authority, &["h2"], Speaks::Any, Some(&known));

    let (session, _) = meet(&server, &stranger, "open.example").await;
    assert!(session.unwrap().peer.is_none());
    let (session, _) = meet(&server, &stranger, "closed.example").await;
    assert_eq!(session.unwrap_err().reason(), "certificate_required");

    for resumed in [false, true] {
        let (session, _) = meet(&server, &known, "closed.example").await;
        let session = session.unwrap();
        let peer = session.peer.unwrap();
        assert_eq!(session.resumed, resumed);
        assert_eq!(peer.name(), Some("spiffe://shop/cart"));
        assert_eq!(session.policy, server.policy(Some("closed.example")));
    }
    assert_ne!(
        server.policy(Some("open.example")),
        server.policy(Some("closed.example"))
    );

    // Before a reload the name was open to everybody: its sessions are worth nothing afterwards.
    let before = Server::new(terms(), &Policies::default(), None).unwrap();
    before.present(choice(&[&leaf]));
    let after = Server::new(terms(), &policies, Some(&before)).unwrap();
    let (session, _) = meet(&before, &stranger, "closed.example").await;
    assert!(session.is_ok());
    let (session, _) = meet(&after, &stranger, "closed.example").await;
    assert_eq!(session.unwrap_err().reason(), "certificate_required");
}

#[tokio::test]
async fn a_client_whose_certificate_has_ended_does_not_come_back() {
    let authority = Authority::valid("Short", (-1, 10));
    let leaf = authority.server(&["a.example"]);
    let policies = Policies {
        base: Some(required(&authority)),
        hosts: Vec::new(),
    };
    let server = server(&[&leaf], &policies);
    let known = authority.client(&["a"]);
    let known = Client::with(&authority, &["h2"], Speaks::Any, Some(&known));
    let (session, _) = meet(&server, &known, "a.example").await;
    assert!(session.is_ok());

    // The authority ends: nothing of it counts from now on.
    let clients = policies.base.as_ref().unwrap();
    clients.verifier.end();
    let (session, _) = meet(&server, &known, "a.example").await;
    assert_eq!(session.unwrap_err().reason(), "certificate_authority");
}
