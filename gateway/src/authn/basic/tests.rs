use base64::engine::general_purpose::STANDARD;
use futures_util::{FutureExt as _, future::join_all};
use http::{HeaderMap, header::PROXY_AUTHORIZATION};
use tokio::time::advance;

use super::*;

/// `open sesame`, `password`, and 72 times `x`.
const ALICE: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
const BOB: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const LONG: &str = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";

fn users(all: &[(&str, &str)]) -> Arc<Users> {
    let mut users = Users::default();
    for (name, hash) in all {
        users.add(name, hash).expect("a user");
    }
    Arc::new(users)
}

fn place(all: &[(&str, &str)]) -> (Basic, Verifier) {
    let verifier = Verifier::default();
    let basic = Basic::new("sluice", verifier.clone(), None);
    basic.admit(users(all));
    (basic, verifier)
}

fn all() -> (Basic, Verifier) {
    place(&[("alice", ALICE), ("bob", BOB), ("long", LONG)])
}

fn header(credentials: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn ask(basic: &Basic, values: &[&[u8]]) -> Result<String, Denied> {
    let mut headers = HeaderMap::new();
    for value in values {
        let value = HeaderValue::from_bytes(value).expect("a value");
        headers.append(PROXY_AUTHORIZATION, value);
    }
    let verified = basic.verify(headers.get_all(PROXY_AUTHORIZATION)).await;
    verified.map(|user| user.to_string())
}

async fn says(basic: &Basic, credentials: &str) -> Result<String, Denied> {
    ask(basic, &[header(credentials).as_bytes()]).await
}

#[tokio::test]
async fn a_right_password_gives_the_user_and_a_wrong_one_nobody() {
    let (basic, _) = all();
    let long = "x".repeat(72);
    for (credentials, outcome) in [
        ("alice:open sesame", Ok("alice")),
        ("bob:password", Ok("bob")),
        (&format!("long:{long}"), Ok("long")),
        // Only the first colon divides.
        ("alice:open:sesame", Err(Denied::Wrong)),
        ("alice:password", Err(Denied::Wrong)),
        ("bob:open sesame", Err(Denied::Wrong)),
        ("alice:", Err(Denied::Wrong)),
        (":", Err(Denied::Wrong)),
        ("Alice:open sesame", Err(Denied::Wrong)),
        ("carol:open sesame", Err(Denied::Wrong)),
        // bcrypt alone would let it in.
        (&format!("long:{long}x"), Err(Denied::Wrong)),
        (&format!("alice:{ALICE}"), Err(Denied::Wrong)),
    ] {
        // Once more, since what was right is remembered.
        for _ in 0..2 {
            let outcome = outcome.map(str::to_owned);
            assert_eq!(says(&basic, credentials).await, outcome, "{credentials}");
        }
    }
}

#[tokio::test]
async fn hostile_headers_are_refused_and_cost_nothing() {
    let (basic, verifier) = all();
    let good = header("alice:open sesame");
    let huge = header(vec![b'a'; 48 << 10]);
    let latin = header(b"alice:open ses\xe4me");
    let (nul, bell) = (
        header("alice:open sesame\0"),
        header("alice\x07:open sesame"),
    );
    let (none, next) = (header("alice"), header("alice:open\u{85}sesame"));
    let tail = format!("{good}!");
    for (values, denied) in [
        (vec![], Denied::Missing),
        (vec![""], Denied::Missing),
        (vec!["Bearer abc"], Denied::Missing),
        (vec!["Basically YWxpY2U6b3BlbiBzZXNhbWU="], Denied::Missing),
        (vec!["Basic"], Denied::Malformed),
        (vec!["Basic "], Denied::Malformed),
        (vec![&none], Denied::Malformed),
        (vec!["Basic not base64"], Denied::Malformed),
        (vec!["Basic YWxpY2U6b3BlbiBzZXNhbWU=="], Denied::Malformed),
        // The same bytes, were the last bits not looked at.
        (vec!["Basic YWxpY2U6b3BlbiBzZXNhbWV="], Denied::Malformed),
        (vec!["Basic YWxpY2U6b3BlbiBzZXNh bWU="], Denied::Malformed),
        (vec!["Basic YWxpY2U6b3BlbiBzZXNhbWU_"], Denied::Malformed),
        (vec![&tail], Denied::Malformed),
        (vec![&nul], Denied::Malformed),
        (vec![&bell], Denied::Malformed),
        (vec![&next], Denied::Malformed),
        (vec![&latin], Denied::Malformed),
        (vec![&huge], Denied::Malformed),
        (vec![&good, &good], Denied::Malformed),
        (vec!["Bearer abc", &good], Denied::Malformed),
    ] {
        let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(ask(&basic, &bytes).await, Err(denied), "{values:?}");
    }
    assert_eq!(
        ask(&basic, &[b"Basic \xff\xfe"]).await,
        Err(Denied::Malformed)
    );
    assert_eq!(verifier.begun(), 0);

    for value in [
        good.clone(),
        good.replace("Basic", "bASIC"),
        good.replace(' ', "   "),
        good.trim_end_matches('=').to_owned(),
    ] {
        let outcome = ask(&basic, &[value.as_bytes()]).await;
        assert_eq!(outcome, Ok("alice".to_owned()), "{value}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_costs_what_one_costs_that_somebody_has() {
    let (basic, verifier) = all();
    for (credentials, name) in [("alice:wrong", "known"), ("mallory:wrong", "unknown")] {
        // Not remembered either: whoever tries again waits again.
        for _ in 0..3 {
            let before = verifier.begun();
            assert_eq!(says(&basic, credentials).await, Err(Denied::Wrong));
            assert_eq!(verifier.begun() - before, 1, "{name}");
        }
    }

    // Nobody gets in by the hash that stands in for his own.
    let (basic, verifier) = place(&[("alice", ALICE)]);
    for _ in 0..2 {
        let outcome = says(&basic, "mallory:open sesame").await;
        assert_eq!(outcome, Err(Denied::Wrong));
    }
    assert_eq!(verifier.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_right_is_verified_again_after_five_minutes() {
    let (basic, verifier) = all();
    for (seconds, begun) in [(0, 1), (0, 1), (299, 1), (2, 2), (298, 2), (3, 3)] {
        advance(std::time::Duration::from_secs(seconds)).await;
        let outcome = says(&basic, "alice:open sesame").await;
        assert_eq!(outcome, Ok("alice".to_owned()));
        assert_eq!(verifier.begun(), begun, "{seconds} s later");
    }
}

#[tokio::test]
async fn another_list_counts_from_the_next_request_on() {
    let (basic, verifier) = all();
    let outcome = says(&basic, "alice:open sesame").await;
    assert_eq!(outcome, Ok("alice".to_owned()));

    // Gone, though what was right is remembered.
    basic.admit(users(&[("bob", BOB)]));
    assert_eq!(says(&basic, "alice:open sesame").await, Err(Denied::Wrong));
    // Another password, too.
    basic.admit(users(&[("alice", BOB), ("bob", BOB)]));
    assert_eq!(says(&basic, "alice:open sesame").await, Err(Denied::Wrong));
    assert_eq!(says(&basic, "alice:password").await, Ok("alice".to_owned()));

    // Back as it was: what was right counts again.
    let before = verifier.begun();
    basic.admit(users(&[("alice", ALICE)]));
    let outcome = says(&basic, "alice:open sesame").await;
    assert_eq!(outcome, Ok("alice".to_owned()));
    assert_eq!(verifier.begun(), before);
}

#[tokio::test]
async fn a_place_with_another_realm_has_the_same_users() {
    let (before, verifier) = all();
    let basic = Basic::new("other", verifier, Some(&before));
    assert_eq!(says(&basic, "bob:password").await, Ok("bob".to_owned()));

    // Also for connections that came in before.
    basic.admit(users(&[("alice", ALICE)]));
    assert_eq!(says(&before, "bob:password").await, Err(Denied::Wrong));
}

#[tokio::test]
async fn the_same_credentials_at_once_are_verified_once() {
    let (basic, verifier) = all();
    let asks = (0..200).map(|_| says(&basic, "bob:password"));
    for outcome in join_all(asks).await {
        assert_eq!(outcome, Ok("bob".to_owned()));
    }
    assert_eq!(verifier.begun(), 1);
}

#[tokio::test]
async fn no_more_than_so_many_are_verified_at_once() {
    let (basic, _) = all();
    let wrong: Vec<String> = (0..100).map(|number| format!("bob:{number}")).collect();
    let asks = wrong.iter().map(|credentials| says(&basic, credentials));
    let outcomes = join_all(asks).await;
    let of = |denied| outcomes.iter().filter(|it| **it == Err(denied)).count();
    assert_eq!((of(Denied::Wrong), of(Denied::Overloaded)), (64, 36));

    // There is room again, also for those whose clients went away.
    for credentials in &wrong {
        drop(says(&basic, credentials).now_or_never());
    }
    let outcome = says(&basic, "bob:password").await;
    assert_eq!(outcome, Ok("bob".to_owned()));
}

#[test]
fn the_challenge_names_the_place() {
    for (realm, challenge) in [
        ("sluice", r#"Basic realm="sluice", charset="UTF-8""#),
        (
            r#"a "b" \c"#,
            r#"Basic realm="a \"b\" \\c", charset="UTF-8""#,
        ),
    ] {
        let basic = Basic::new(realm, Verifier::default(), None);
        assert_eq!(basic.challenge(), challenge);
    }
}
