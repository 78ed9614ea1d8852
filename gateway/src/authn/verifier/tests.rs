use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_remembered_has_a_bound_and_an_end() {
    let mut shard = Shard::default();
    let fingerprint = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let most = KEPT / SHARDS;
    for number in 0..most * 3 {
        shard.keep(fingerprint(number));
        assert!(shard.right.len() <= most && shard.order.len() <= most);
    }
    assert!(!shard.has(&fingerprint(most * 2 - 1)));
    assert!(shard.has(&fingerprint(most * 2)));

    tokio::time::advance(KEEP).await;
    assert!(!shard.has(&fingerprint(most * 3 - 1)));
    shard.keep(fingerprint(0));
    assert_eq!((shard.right.len(), shard.order.len()), (1, 1));
}

#[test]
fn what_is_remembered_tells_nothing_and_no_two_are_the_same() {
    let hash = |text| PasswordHash::parse(text).expect("a hash");
    let one = hash("$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy");
    let other = hash("$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i");
    let verifier = Verifier::default();
    let all = [
        verifier.fingerprint("alice", "b", &one, true),
        verifier.fingerprint("alice", "b", &one, false),
        verifier.fingerprint("alice", "b", &other, true),
        verifier.fingerprint("alic", "eb", &one, true),
        verifier.fingerprint("alice", "", &one, true),
        Verifier::default().fingerprint("alice", "b", &one, true),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(all[0], verifier.fingerprint("alice", "b", &one, true));
}
