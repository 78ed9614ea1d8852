//! `basic` of a listener: names and passwords.

use std::{fmt, path::PathBuf, sync::Arc};

use serde::Serialize;

use crate::model::canonical;

/// Names and passwords (RFC 7617). There is a user, or a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Basic {
    /// What clients are told that they are asked for; printable ASCII without `"` and `\`.
    pub realm: String,
    /// Names, as [`Basic::check_user`] admits them, each once, and what passwords are held against.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "canonical::table"
    )]
    pub users: Vec<(String, PasswordHash)>,
    /// A file with more of them, `name:hash` in each line, read by the load step. Who is in both has the
    /// password of `users`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// Why something of `basic` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BasicError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`Basic::MAX_TEXT`].
    #[error("it has more than {} bytes", Basic::MAX_TEXT)]
    TooLong,
    /// A character that cannot be sent.
    #[error("it contains {0:?}")]
    Character(char),
}

impl Basic {
    /// The realm where none is written.
    pub const REALM: &str = "sluice";
    /// The longest name or realm in bytes: more than anybody types, and it stands in every log line.
    pub const MAX_TEXT: usize = 255;

    /// Whether `name` may be that of a user: between it and the password stands a `:` (RFC 7617 §2).
    pub fn check_user(name: &str) -> Result<(), BasicError> {
        check_text(name, |c| c == ':' || c.is_control())
    }

    /// Whether `realm` can stand between quotes in a header.
    pub fn check_realm(realm: &str) -> Result<(), BasicError> {
        check_text(realm, |c| {
            !(' '..='~').contains(&c) || matches!(c, '"' | '\\')
        })
    }
}

fn check_text(text: &str, odd: impl Fn(char) -> bool) -> Result<(), BasicError> {
    if text.is_empty() {
        return Err(BasicError::Empty);
    }
    if text.len() > Basic::MAX_TEXT {
        return Err(BasicError::TooLong);
    }
    match text.chars().find(|c| odd(*c)) {
        Some(character) => Err(BasicError::Character(character)),
        None => Ok(()),
    }
}

/// What a password is held against: argon2 as a PHC string, or bcrypt. No log shows it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PasswordHash(Arc<str>);

/// Why a text is no [`PasswordHash`]. It never holds the text, which may be the password itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Neither argon2 nor bcrypt.
    #[error("it is neither argon2id, argon2i nor bcrypt")]
    Unknown,
    /// Not as its kind is written.
    #[error("it is no whole hash of {0}")]
    Malformed(&'static str),
    /// A cost that would hold everybody up, or none at all.
    #[error("its {what} is {value}, beyond {least} to {most}")]
    Cost {
        /// Which one.
        what: &'static str,
        /// How much.
        value: u32,
        /// At least.
        least: u32,
        /// At most.
        most: u32,
    },
}

/// Least and most of a cost: whoever asks with any password makes us pay it.
type Bounds = (&'static str, u32, u32);
const BCRYPT_COST: Bounds = ("cost", 4, 16);
const ARGON2_MEMORY: Bounds = ("memory in KiB (m)", 8, 1 << 20);
const ARGON2_TIME: Bounds = ("number of passes (t)", 1, 64);
const ARGON2_LANES: Bounds = ("number of lanes (p)", 1, 64);

impl PasswordHash {
    /// Refuses what is no hash that can be verified, and what would take too long.
    pub fn new(text: &str) -> Result<Self, PasswordHashError> {
        let mut fields = text.split('$');
        let (before, kind) = (fields.next(), fields.next());
        let fields: Vec<&str> = fields.collect();
        match (before, kind) {
            (Some(""), Some("argon2id" | "argon2i")) => argon2(&fields)?,
            (Some(""), Some("2a" | "2b" | "2y")) => bcrypt(&fields)?,
            _ => return Err(PasswordHashError::Unknown),
        }
        Ok(Self(Arc::from(text)))
    }

    /// The hash, for whoever verifies passwords.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands for one where it is shown.
    pub(crate) fn redacted() -> Self {
        Self(Arc::from("redacted"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// `v=19$m=65536,t=3,p=4$SALT$HASH`, the version where it is not the first (PHC string format).
fn argon2(fields: &[&str]) -> Result<(), PasswordHashError> {
    let malformed = PasswordHashError::Malformed("argon2");
    let (["v=16" | "v=19", parameters, salt, hash] | [parameters, salt, hash]) = fields else {
        return Err(malformed);
    };
    let parameters: Vec<&str> = parameters.split(',').collect();
    let [memory, time, lanes] = parameters.as_slice() else {
        return Err(malformed);
    };
    let memory = cost(memory.strip_prefix("m="), ARGON2_MEMORY, malformed)?;
    cost(time.strip_prefix("t="), ARGON2_TIME, malformed)?;
    let lanes = cost(lanes.strip_prefix("p="), ARGON2_LANES, malformed)?;
    // RFC 9106 §3.1: at least 8 KiB for each lane; 8 to 48 bytes of salt and 16 to 64 of hash, in base64
    // without padding.
    let base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    let whole = |text: &str, least, most| {
        (least..=most).contains(&text.len()) && text.len() % 4 != 1 && text.bytes().all(base64)
    };
    let fits = memory / 8 >= lanes && whole(salt, 11, 64) && whole(hash, 22, 86);
    if fits { Ok(()) } else { Err(malformed) }
}

/// `12$` and 22 characters of salt, then 31 of hash.
fn bcrypt(fields: &[&str]) -> Result<(), PasswordHashError> {
    let malformed = PasswordHashError::Malformed("bcrypt");
    let [rounds, rest] = fields else {
        return Err(malformed);
    };
    let alphabet = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'/');
    if rounds.len() != 2 || rest.len() != 53 || !rest.bytes().all(alphabet) {
        return Err(malformed);
    }
    cost(Some(rounds), BCRYPT_COST, malformed).map(drop)
}

fn cost(
    text: Option<&str>,
    (what, least, most): Bounds,
    malformed: PasswordHashError,
) -> Result<u32, PasswordHashError> {
    let digits = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let value = digits.and_then(|digits| digits.parse().ok());
    match value {
        None => Err(malformed),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(PasswordHashError::Cost {
            what,
            value,
            least,
            most,
        }),
    }
}
