use super::*;
use crate::testing::{Authority, Leaf, Wanted};

fn spec(authorities: &[&Authority]) -> ClientsSpec {
    ClientsSpec {
        mode: Mode::Required,
        authorities: authorities
            .iter()
            .map(|authority| authority.pem().as_bytes().to_vec())
            .collect(),
        revoked: Vec::new(),
        names: Vec::new(),
        keys: Vec::new(),
    }
}

/// What the policy says to a client: nothing, or the word for its refusal.
fn verdict(spec: &ClientsSpec, client: &Leaf) -> Option<&'static str> {
    verdict_at(spec, client, 0)
}

fn verdict_at(spec: &ClientsSpec, client: &Leaf, days: u64) -> Option<&'static str> {
    let clients = Clients::new(spec).unwrap();
    let chain = crate::pair::certificates(client.chain.as_bytes()).unwrap();
    let now = UnixTime::now().as_secs() + days * 86_400;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let verified = clients
        .verifier
        .verify_client_cert(&chain[0], &chain[1..], now);
    let refusal = verified.err().map(crate::AcceptError::from);
    refusal.map(|refusal| refusal.reason())
}

#[test]
fn only_clients_of_the_authorities_are_admitted() {
    let (ours, theirs) = (Authority::default(), Authority::new("Others"));
    let below = ours.intermediate("Below");

    assert_eq!(verdict(&spec(&[&ours]), &ours.client(&["a"])), None);
    assert_eq!(verdict(&spec(&[&ours]), &below.client(&["a"])), None);
    let foreign = verdict(&spec(&[&ours]), &theirs.client(&["a"]));
    assert_eq!(foreign, Some("certificate_authority"));
    assert_eq!(
        verdict(&spec(&[&ours, &theirs]), &theirs.client(&["a"])),
        None
    );
    // A certificate for servers is none for clients.
    let server = verdict(&spec(&[&ours]), &ours.server(&["a"]));
    assert_eq!(server, Some("certificate_invalid"));
}

#[test]
fn certificates_and_authorities_count_while_they_are_valid() {
    let old = Authority::valid("Old", (-100, -1));
    let short = Authority::valid("Short", (-1, 10));
    let client = Wanted::client(&["a"]).days(-1, 90);
    let ended = Wanted::client(&["a"]).days(-10, -1);

    let spec_of = |authority| spec(&[authority]);
    assert_eq!(
        verdict(&spec_of(&old), &old.sign(&client)),
        Some("certificate_authority")
    );
    assert_eq!(
        verdict(&spec_of(&short), &short.sign(&ended)),
        Some("certificate_expired")
    );
    let client = short.sign(&client);
    assert_eq!(verdict(&spec_of(&short), &client), None);
    assert_eq!(verdict_at(&spec_of(&short), &client, 9), None);
    assert_eq!(
        verdict_at(&spec_of(&short), &client, 11),
        Some("certificate_authority")
    );
}

#[test]
fn an_authority_that_ends_while_we_run_vouches_for_nobody_from_then_on() {
    let (short, long) = (
        Authority::valid("Short", (-1, 10)),
        Authority::valid("Long", (-1, 100)),
    );
    let clients = Clients::new(&spec(&[&short, &long])).unwrap();
    let (first, second) = (short.client(&["a"]), long.client(&["a"]));
    let admits = |leaf: &Leaf, days: u64| {
        let chain = crate::pair::certificates(leaf.chain.as_bytes()).unwrap();
        let now = UnixTime::now().as_secs() + days * 86_400;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let verified = clients.verifier.verify_client_cert(&chain[0], &[], now);
        verified.is_ok()
    };

    assert!(admits(&first, 1) && admits(&second, 1));
    assert!(!admits(&first, 20) && admits(&second, 20));
}

#[test]
fn who_is_on_a_list_is_not_admitted_and_neither_is_who_no_current_list_vouches_for() {
    let authority = Authority::default();
    let other = Authority::new("Other");
    let (good, bad) = (authority.client(&["good"]), authority.client(&["bad"]));
    let with = |list: String| ClientsSpec {
        revoked: vec![list.into_bytes()],
        ..spec(&[&authority, &other])
    };

    let current = with(authority.crl(&[&bad]));
    assert_eq!(verdict(&current, &good), None);
    assert_eq!(verdict(&current, &bad), Some("certificate_revoked"));
    assert_eq!(
        verdict(&current, &other.client(&["good"])),
        Some("certificate_status")
    );
    let old = with(authority.crl_valid(&[&bad], (-10, -1)));
    assert_eq!(verdict(&old, &good), Some("certificate_status"));
}

#[test]
fn names_and_keys_narrow_who_is_admitted() {
    let authority = Authority::default();
    let client = authority.client(&[
        "spiffe://shop/ns/web/sa/cart",
        "cart.shop.example",
        "10.0.0.1",
    ]);
    let wild = authority.client(&["*.shop.example"]);
    let named = |names: &[&str]| ClientsSpec {
        names: names.iter().map(|name| NamePattern::new(name)).collect(),
        ..spec(&[&authority])
    };
    for (pattern, admitted) in [
        ("spiffe://shop/ns/web/sa/cart", true),
        ("spiffe://shop/*", true),
        ("spiffe://shop/ns/web/sa/cart*", false),
        ("spiffe://sho*", true),
        ("spiffe://other/*", false),
        ("cart.shop.example", true),
        ("Cart.Shop.Example", true),
        ("*.shop.example", true),
        ("*.example", true),
        ("*.cart.shop.example", false),
        ("shop.example", false),
        ("10.0.0.1", true),
        ("10.0.0.2", false),
    ] {
        let refused = (!admitted).then_some("certificate_not_named");
        assert_eq!(verdict(&named(&[pattern]), &client), refused, "{pattern}");
    }
    let refused = Some("certificate_not_named");
    assert_eq!(verdict(&named(&["*.shop.example"]), &wild), refused);

    let pinned = |key| ClientsSpec {
        keys: vec![key],
        ..spec(&[&authority])
    };
    let own = client.pair().facts().spki;
    assert_eq!(verdict(&pinned(own), &client), None);
    assert_eq!(verdict(&pinned([0; 32]), &client), refused);
}

#[test]
fn policies_are_told_apart_by_their_content() {
    let authority = Authority::default();
    let base = spec(&[&authority]);
    let id = |spec: &ClientsSpec| Clients::new(spec).unwrap().id();
    assert_eq!(id(&base), id(&base.clone()));
    let others = [
        ClientsSpec {
            mode: Mode::Optional,
            ..base.clone()
        },
        ClientsSpec {
            revoked: vec![authority.crl(&[]).into_bytes()],
            ..base.clone()
        },
        ClientsSpec {
            names: vec![NamePattern::new("a")],
            ..base.clone()
        },
        ClientsSpec {
            keys: vec![[0; 32]],
            ..base.clone()
        },
    ];
    for other in &others {
        assert_ne!(id(&base), id(other), "{other:?}");
    }
}

#[test]
fn what_holds_no_authority_and_no_list_is_refused() {
    let authority = Authority::default();
    let empty = ClientsSpec {
        authorities: vec![b"nothing".to_vec()],
        ..spec(&[])
    };
    assert!(matches!(
        Clients::new(&empty),
        Err(ClientsError::NoAuthority)
    ));
    let no_list = ClientsSpec {
        revoked: vec![authority.pem().as_bytes().to_vec()],
        ..spec(&[&authority])
    };
    assert!(matches!(Clients::new(&no_list), Err(ClientsError::NoList)));
}

#[test]
fn an_identity_is_told_as_envoy_tells_it() {
    let authority = Authority::default();
    let wanted = Wanted::client(&["spiffe://shop/a;b", "cart.example", "10.0.0.1"]);
    let leaf = authority.sign(&wanted.subject("Cart \"x\""));
    let chain = crate::pair::certificates(leaf.chain.as_bytes()).unwrap();
    let peer = Peer::read(&chain).unwrap().unwrap();
    let hash = peer.facts().fingerprint_hex();
    assert_eq!(
        peer.forwarded(),
        format!(
            "Hash={hash};Subject=\"CN=Cart \\\\\\\"x\\\\\\\"\";URI=\"spiffe://shop/a;b\";DNS=cart.example"
        )
    );
}
