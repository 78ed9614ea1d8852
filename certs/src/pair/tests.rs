use super::*;
use crate::testing::{Authority, Key, Wanted};

fn pem(chain: &str, key: &str) -> Result<Pair, PairError> {
    Pair::from_pem(chain.as_bytes(), key.as_bytes())
}

#[test]
fn every_kind_of_key_makes_a_pair_that_says_its_kind() {
    let authority = Authority::default();
    for (key, expected) in [
        (Key::P256, KeyKind::Ecdsa(256)),
        (Key::P384, KeyKind::Ecdsa(384)),
        (Key::Rsa, KeyKind::Rsa(2048)),
        (Key::Ed25519, KeyKind::Ed25519),
    ] {
        let leaf = authority.sign(&Wanted::server(&["a.example"]).key(key));
        assert_eq!(leaf.pair().facts().key, expected);
    }
}

#[test]
fn a_pair_says_what_its_certificate_says() {
    let wanted = Wanted::server(&["A.example", "*.b.example", "10.0.0.1", "::1"]);
    let leaf = Authority::new("Root, of \"all\"").sign(&wanted.subject("#1 shop+more"));
    let pair = leaf.pair();
    let facts = pair.facts();

    assert_eq!(facts.names, ["a.example", "*.b.example", "10.0.0.1", "::1"]);
    assert_eq!(facts.subject, "CN=\\#1 shop\\+more");
    assert_eq!(facts.issuer, "CN=Root\\, of \\\"all\\\"");
    assert!(facts.is_valid(time::OffsetDateTime::now_utc()));
    for (host, expected) in [
        ("a.example", true),
        ("A.EXAMPLE.", true),
        ("x.b.example", true),
        ("x.y.b.example", false),
        ("b.example", false),
        ("10.0.0.1", true),
        ("10.0.0.2", false),
        ("[::1]", true),
        ("::ffff:10.0.0.1", true),
    ] {
        assert_eq!(facts.covers(host), expected, "{host}");
    }
}

#[test]
fn a_name_with_an_embedded_nul_covers_nothing() {
    let leaf = Authority::default().server(&["bank.example\0.evil.example", "good.example"]);
    let pair = leaf.pair();

    assert_eq!(pair.facts().names, ["good.example"]);
    assert!(!pair.facts().covers("bank.example"));
}

#[test]
fn broken_pairs_are_refused_with_their_reason() {
    let authority = Authority::default().intermediate("Intermediate");
    let (one, other) = (
        authority.server(&["a.example"]),
        authority.server(&["a.example"]),
    );
    let (first, second) = one.chain.split_at(one.chain.rfind("-----BEGIN").unwrap());
    let turned = format!("{second}{first}");
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (chain, key, expected) in [
        (&*one.chain, &*other.key, "does not belong"),
        (&turned, &one.key, "not the first"),
        (&one.chain, &encrypted, "encrypted"),
        (&one.chain, older, "encrypted"),
        (&one.chain, "", "no private key"),
        (&one.chain, &one.chain, "no private key"),
        ("", &one.key, "no certificate"),
        (&one.key, &one.key, "no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &one.key,
            "cannot be read",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            &one.key,
            "PEM cannot be read",
        ),
    ] {
        let error = pem(chain, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?}, not {expected:?}");
    }
}

#[test]
fn an_expired_certificate_is_a_pair() {
    let leaf = Authority::default().sign(&Wanted::server(&["a.example"]).days(-20, -10));
    assert!(
        !leaf
            .pair()
            .facts()
            .is_valid(time::OffsetDateTime::now_utc())
    );
}

#[test]
fn no_key_is_ever_printed() {
    let leaf = Authority::default().server(&["a.example"]);
    let shown = format!("{:?}", leaf.pair());
    assert!(shown.contains("a.example"));
    assert!(!shown.to_lowercase().contains("private"), "{shown}");
}

#[test]
fn chain_and_key_of_one_text_come_apart() {
    let leaf = Authority::new("root")
        .intermediate("between")
        .server(&["a.example"]);
    let text = format!("Directory: x\n{}between\n{}after\n", leaf.key, leaf.chain);
    let (chain, key) = split(&text).unwrap();
    assert_eq!(pem(&chain, &key).unwrap(), leaf.pair());
    assert_eq!(chain.replace('\r', ""), leaf.chain.replace('\r', ""));
    assert_eq!(key.replace('\r', ""), leaf.key.replace('\r', ""));
    assert!(matches!(split(&leaf.chain), Err(PairError::NoKey)));
    assert!(matches!(split(&leaf.key), Err(PairError::NoCertificate)));
}
