use super::*;

/// Of the reference implementations: argon2's own tests, and glibc's crypt.
const KNOWN: [(&str, &str); 6] = [
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ),
    (
        "password",
        "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG",
    ),
    (
        "open sesame",
        "$2a$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    ),
    (
        "open sesame",
        "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    ),
    (
        "open sesame",
        "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    ),
    (
        "pässwörd",
        "$2b$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC",
    ),
];

#[test]
fn the_password_of_a_hash_is_right_and_any_other_wrong() {
    for (password, text) in KNOWN {
        let hash = PasswordHash::parse(text).expect(text);
        assert!(hash.verify(password.as_bytes()), "{text}");
        for other in ["", "Password", "open sesame ", "open sesame\0", "passwor"] {
            assert!(!hash.verify(other.as_bytes()), "{other:?} for {text}");
        }
        assert_eq!(hash.as_str(), text);
    }
}

#[test]
fn bcrypt_is_given_no_password_that_it_would_look_at_a_part_of() {
    let longest = "x".repeat(72);
    let hash = PasswordHash::parse("$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i");
    let hash = hash.expect("a hash");
    assert!(hash.verify(longest.as_bytes()));
    assert!(!hash.verify(format!("{longest}x").as_bytes()));
    assert_eq!(
        bcrypt_2b(format!("{longest}x").as_bytes()),
        Err(PasswordError::TooLong)
    );
}

#[test]
fn what_is_hashed_here_is_read_here_and_is_never_the_same() {
    for hash in [argon2id, bcrypt_2b] {
        let text = hash(b"open sesame").expect("a hash");
        let read = PasswordHash::parse(&text).expect(&text);
        assert!(read.verify(b"open sesame"), "{text}");
        assert!(!read.verify(b"open barley"), "{text}");
        assert_ne!(hash(b"open sesame").expect("a hash"), text);
    }
}

#[test]
fn a_hash_of_the_first_argon2_has_no_version() {
    // Of the reference implementation's tests, too.
    let with =
        "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY";
    for text in [with, &with.replace("v=16$", "")] {
        let hash = PasswordHash::parse(text).expect(text);
        assert!(hash.verify(b"password"), "{text}");
    }
}

#[test]
fn what_is_no_hash_is_refused() {
    let salt = "c29tZXNhbHQ";
    let output = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    for text in [
        "",
        "secret",
        "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
        "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=",
        "$2b$31$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
        &format!("$argon2d$v=19$m=256,t=2,p=1${salt}${output}"),
        &format!("$argon2id$v=19$m=4294967295,t=2,p=1${salt}${output}"),
        // Base64 by its letters, but with bits at its end that stand for nothing.
        &format!("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHR${output}"),
    ] {
        assert!(PasswordHash::parse(text).is_err(), "{text}");
    }
}
