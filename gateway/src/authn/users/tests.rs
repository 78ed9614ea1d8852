use super::*;

const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

fn read(text: &str) -> Result<Vec<String>, LineError> {
    let users = Users::of_file(text)?;
    Ok(users.all.keys().map(ToString::to_string).collect())
}

#[test]
fn a_file_has_a_user_in_each_line_that_is_no_remark() {
    let text = format!("# who may\n\nalice:{HASH}\r\n  bob:{HASH}  \n#carol:{HASH}\njosé:{HASH}");
    assert_eq!(
        read(&text),
        Ok(vec!["alice".into(), "bob".into(), "josé".into()])
    );
    assert_eq!(read(""), Ok(Vec::new()));
}

#[test]
fn a_line_that_cannot_be_read_is_named() {
    use UserError::{Hash, Name, NoHash, Twice};
    for (last, error) in [
        ("bob", NoHash),
        ("bob:", Hash(PasswordHashError::Unknown)),
        ("bob:secret", Hash(PasswordHashError::Unknown)),
        (&format!(":{HASH}"), Name(BasicError::Empty)),
        (&format!("b\tb:{HASH}"), Name(BasicError::Character('\t'))),
        (&format!("alice:{HASH}"), Twice),
        // As old ones had it, with a full name behind the hash.
        (
            &format!("bob:{HASH}:Bob"),
            Hash(PasswordHashError::Malformed("bcrypt")),
        ),
    ] {
        let text = format!("alice:{HASH}\n\n{last}\n");
        assert_eq!(read(&text), Err(LineError { line: 3, error }), "{last}");
    }
}

#[test]
fn who_is_on_both_lists_has_the_password_of_the_first() {
    let other = HASH.replace("$2b$", "$2y$");
    let mut users = Users::of_file(&format!("alice:{HASH}")).expect("users");
    users.complete(Users::of_file(&format!("alice:{other}\nbob:{other}")).expect("users"));
    let hash_of = |name| users.find(name).map(|(_, hash)| hash.as_str());
    assert_eq!(hash_of("alice"), Some(HASH));
    assert_eq!(hash_of("bob"), Some(&*other));
}

#[test]
fn a_name_that_nobody_has_gets_the_hash_of_somebody() {
    let mut users = Users::default();
    assert_eq!(users.decoy(7), None);
    users.add("alice", HASH).expect("a user");
    users.add("bob", HASH).expect("a user");
    for number in [0, 1, 2, usize::MAX] {
        assert!(users.decoy(number).is_some(), "{number}");
    }
}
