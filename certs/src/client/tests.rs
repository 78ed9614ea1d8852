//! Handshakes with a TLS server in memory.

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{Authority, Leaf, Wanted};

fn roots(authority: &Authority) -> Roots {
    Roots::from_pem([authority.pem().as_bytes()]).unwrap()
}

fn good(authority: &Authority) -> Leaf {
    authority.server(&["shop.example"])
}

fn lasting(authority: &Authority, name: &str, (from, until): (i64, i64)) -> Leaf {
    authority.sign(&Wanted::server(&[name]).days(from, until))
}

fn resolver(shown: &Leaf) -> Arc<SingleCertAndKey> {
    let key = Arc::clone(shown.pair().certified());
    Arc::new(SingleCertAndKey::from(key))
}

fn server(shown: &Leaf, change: impl FnOnce(&mut ServerConfig)) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver(shown));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    change(&mut config);
    TlsAcceptor::from(Arc::new(config))
}

fn spec(trust: impl Into<Option<Roots>>) -> ClientSpec {
    ClientSpec {
        trust: trust.into(),
        sni: None,
        names: Vec::new(),
        certificate: None,
        min_version: Version::Tls12,
    }
}

fn names(names: &[&str]) -> Vec<San> {
    names.iter().map(|name| San::new(name).unwrap()).collect()
}

/// What the server saw: the name that was sent.
type Seen = Option<String>;

async fn meet(
    client: &Client,
    server: &TlsAcceptor,
    host: &str,
    offer: Offer,
) -> (
    Result<(ClientStream<DuplexStream>, Handshake), ConnectError>,
    Option<(tokio_rustls::server::TlsStream<DuplexStream>, Seen)>,
) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let host = Host::new(host).unwrap();
    let accept = async {
        let mut stream = server.accept(far).await.ok()?;
        // Tickets go out with the first bytes.
        stream.flush().await.ok()?;
        let seen = stream.get_ref().1.server_name().map(str::to_owned);
        Some((stream, seen))
    };
    tokio::join!(client.connect(near, Some(&host), offer), accept)
}

async fn fails(client: ClientSpec, shown: &Leaf, host: &str) -> ConnectError {
    let client = Client::new(client).unwrap();
    let server = server(shown, |_| {});
    let (outcome, _) = meet(&client, &server, host, Offer::Http1).await;
    outcome.map(|(_, handshake)| handshake).unwrap_err()
}

async fn passes(client: ClientSpec, shown: &Leaf, host: &str) -> Seen {
    let client = Client::new(client).unwrap();
    let server = server(shown, |_| {});
    let (outcome, seen) = meet(&client, &server, host, Offer::Http1).await;
    outcome.unwrap();
    seen.unwrap().1
}

#[tokio::test]
async fn an_endpoint_with_the_right_certificate_is_spoken_to_by_its_name() {
    let authority = Authority::default();
    let seen = passes(spec(roots(&authority)), &good(&authority), "Shop.Example.").await;
    assert_eq!(seen.as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn an_address_is_not_sent_but_has_to_be_in_the_certificate() {
    let authority = Authority::default();
    let shown = lasting(&authority, "10.1.2.3", (-1, 30));
    let seen = passes(spec(roots(&authority)), &shown, "10.1.2.3").await;
    assert_eq!(seen, None);
    let shown = lasting(&authority, "10.1.2.4", (-1, 30));
    let error = fails(spec(roots(&authority)), &shown, "10.1.2.3").await;
    assert_eq!(error.part(), Part::Name);
}

#[tokio::test]
async fn each_reason_for_no_trust_is_told_apart() {
    let (authority, other) = (Authority::default(), Authority::default());
    for (trust, shown, expected) in [
        (roots(&other), good(&authority), Part::Issuer),
        (
            roots(&authority),
            lasting(&authority, "shop.example", (-9, -1)),
            Part::Validity,
        ),
        (
            roots(&authority),
            lasting(&authority, "shop.example", (1, 9)),
            Part::Validity,
        ),
        (
            roots(&authority),
            lasting(&authority, "other.example", (-1, 9)),
            Part::Name,
        ),
    ] {
        let error = fails(spec(trust), &shown, "shop.example").await;
        assert_eq!(error.part(), expected, "{error}");
    }
}

#[tokio::test]
async fn another_name_can_be_sent_and_others_be_demanded() {
    let authority = Authority::default();
    let shown = || authority.server(&["a.b.shop.example", "spiffe://shop/ns/web"]);
    for (san, fits) in [
        ("a.b.shop.example", true),
        ("*.shop.example", true),
        ("*.b.shop.example", true),
        ("*.example.com", false),
        ("spiffe://shop/ns/web", true),
        ("spiffe://shop/ns/*", true),
        ("spiffe://shop/ns/web/*", false),
        ("spiffe://other/*", false),
    ] {
        let client = ClientSpec {
            sni: Some(Host::new("front.example").unwrap()),
            names: names(&[san]),
            ..spec(roots(&authority))
        };
        if fits {
            let seen = passes(client, &shown(), "10.0.0.1").await;
            assert_eq!(seen.as_deref(), Some("front.example"), "{san}");
        } else {
            let error = fails(client, &shown(), "10.0.0.1").await;
            assert_eq!(error.part(), Part::Name, "{san}");
        }
    }
}

#[tokio::test]
async fn only_who_trusts_nobody_believes_everybody() {
    let authority = Authority::default();
    let shown = lasting(&authority, "other.example", (-9, -1));
    passes(spec(None), &shown, "shop.example").await;
}

#[tokio::test]
async fn the_protocol_inside_is_what_both_want() {
    let authority = Authority::default();
    let client = Client::new(spec(roots(&authority))).unwrap();
    let both = server(&good(&authority), |_| {});
    let old = server(&good(&authority), |config| {
        config.alpn_protocols = vec![HTTP1.to_vec()];
    });
    let silent = server(&good(&authority), |config| config.alpn_protocols.clear());
    for (server, offer, expected) in [
        (&both, Offer::Either, Some(true)),
        (&both, Offer::Http1, Some(false)),
        (&both, Offer::Http2, Some(true)),
        (&both, Offer::Nothing, Some(false)),
        (&old, Offer::Either, Some(false)),
        (&old, Offer::Http2, None),
        (&silent, Offer::Either, Some(false)),
        (&silent, Offer::Http2, None),
    ] {
        let (outcome, _) = meet(&client, server, "shop.example", offer).await;
        if let Some(http2) = expected {
            assert_eq!(outcome.unwrap().1.http2, http2, "{offer:?}");
        } else {
            let error = outcome.map(|it| it.1).unwrap_err();
            assert_eq!(error.part(), Part::Alpn, "{error}");
        }
    }
}

#[tokio::test]
async fn a_second_handshake_continues_the_first_and_another_client_does_not() {
    let authority = Authority::default();
    let client = Client::new(spec(roots(&authority))).unwrap();
    let server = server(&good(&authority), |_| {});
    for resumed in [false, true] {
        let (outcome, seen) = meet(&client, &server, "shop.example", Offer::Http1).await;
        let (mut stream, handshake) = outcome.unwrap();
        assert_eq!(handshake.resumed, resumed);
        // The ticket comes with the first bytes.
        let (mut peer, _) = seen.unwrap();
        peer.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
    }
    let other = Client::new(spec(roots(&authority))).unwrap();
    let (outcome, _) = meet(&other, &server, "shop.example", Offer::Http1).await;
    assert!(!outcome.unwrap().1.resumed);
}

#[tokio::test]
async fn a_server_that_wants_our_certificate_gets_it_or_says_so() {
    let authority = Authority::default();
    let demanding = |versions: &[&'static SupportedProtocolVersion]| {
        let mut roots = rustls::RootCertStore::empty();
        let pem = authority.pem().as_bytes();
        let root = rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap();
        roots.add(root).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver(&good(&authority)));
        TlsAcceptor::from(Arc::new(config))
    };
    let mine = authority.client(&["me.example"]).pair();
    let with = Client::new(ClientSpec {
        certificate: Some(mine),
        ..spec(roots(&authority))
    })
    .unwrap();
    let without = Client::new(spec(roots(&authority))).unwrap();
    for versions in [&[&TLS12], &[&TLS13]] {
        let server = demanding(versions);
        let (outcome, seen) = meet(&with, &server, "shop.example", Offer::Http1).await;
        outcome.unwrap();
        assert!(seen.is_some());
        let (outcome, seen) = meet(&without, &server, "shop.example", Offer::Http1).await;
        assert!(seen.is_none());
        let error = match outcome {
            Err(error) => error,
            // In 1.3 it comes later.
            Ok((mut stream, _)) => {
                let error = stream.read_u8().await.unwrap_err();
                ConnectError::behind(&error).unwrap().clone()
            }
        };
        assert_eq!(error.part(), Part::ClientCertificate, "{error}");
    }
}

#[tokio::test]
async fn what_is_no_tls_and_what_breaks_off_is_told_apart() {
    let client = Client::new(spec(None)).unwrap();
    let host = Host::new("shop.example").unwrap();
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let outcome = client.connect(near, Some(&host), Offer::Http1).await;
    let error = outcome.map(|it| it.1).unwrap_err();
    assert!(matches!(error, ConnectError::Protocol(_)), "{error:?}");
    let (near, far) = tokio::io::duplex(64 * 1024);
    drop(far);
    let outcome = client.connect(near, Some(&host), Offer::Http1).await;
    let error = outcome.map(|it| it.1).unwrap_err();
    assert!(matches!(error, ConnectError::Closed(_)), "{error:?}");
}

#[tokio::test]
async fn an_end_that_was_not_announced_is_an_error_to_the_reader() {
    let authority = Authority::default();
    let client = Client::new(spec(roots(&authority))).unwrap();
    let server = server(&good(&authority), |_| {});
    for announced in [true, false] {
        let (outcome, seen) = meet(&client, &server, "shop.example", Offer::Http1).await;
        let (mut stream, mut peer) = (outcome.unwrap().0, seen.unwrap().0);
        peer.write_all(b"half").await.unwrap();
        peer.flush().await.unwrap();
        if announced {
            peer.shutdown().await.unwrap();
        }
        drop(peer);
        let outcome = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(outcome.is_ok(), announced);
    }
}

#[test]
fn clients_are_equal_when_all_of_their_settings_are() {
    let (authority, other) = (Authority::default(), Authority::default());
    let base = || spec(roots(&authority));
    let identity = |spec| Client::new(spec).unwrap().identity();
    assert_eq!(identity(base()), identity(base()));
    let mine = authority.client(&["me.example"]).pair();
    let different = [
        spec(None),
        spec(roots(&other)),
        ClientSpec {
            sni: Some(Host::new("a.example").unwrap()),
            ..base()
        },
        ClientSpec {
            names: names(&["a.example"]),
            ..base()
        },
        ClientSpec {
            certificate: Some(mine),
            ..base()
        },
        ClientSpec {
            certificate: Some(authority.client(&["me.example"]).pair()),
            ..base()
        },
        ClientSpec {
            min_version: Version::Tls13,
            ..base()
        },
    ];
    let mut seen = vec![identity(base())];
    for spec in different {
        let next = identity(spec);
        assert!(!seen.contains(&next));
        seen.push(next);
    }
}

#[test]
fn bundles_say_what_is_wrong_with_them() {
    let (authority, ended) = (Authority::default(), Authority::valid("Old CA", (-9, -1)));
    let leaf = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let read = |text: &str| Roots::from_pem([text.as_bytes()]).map(|_| ());
    read(authority.pem()).unwrap();
    read(&format!("{}{}", ended.pem(), authority.pem())).unwrap();
    assert!(matches!(read(""), Err(crate::RootsError::Empty)));
    assert!(matches!(read(ended.pem()), Err(crate::RootsError::Expired)));
    let both = format!("{}{leaf}", authority.pem());
    let error = read(&both).unwrap_err();
    assert!(
        matches!(error, crate::RootsError::Unusable { number: 2, .. }),
        "{error:?}"
    );
}
