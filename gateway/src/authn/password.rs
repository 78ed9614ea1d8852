//! Passwords as they are kept: hashed by argon2 or bcrypt. The only home of both libraries.
//!
//! Takes a tenth of a second of a processor by design: nothing here is called on a worker's thread.

#[cfg(test)]
mod tests;

use std::{fmt, ops::RangeInclusive};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use subtle::ConstantTimeEq as _;

/// The longest password that bcrypt looks at the whole of.
const BCRYPT_LIMIT: usize = 72;

/// What bcrypt may cost: its least, and about ten seconds.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=18;

/// What bcrypt costs where we hash: a quarter of a second.
const BCRYPT_COST: u32 = 12;

/// The most that argon2 may take for one password: a gibibyte of memory, and so many passes over it.
const MOST_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;

/// The longest salt and the longest output.
const MOST_BYTES: usize = 64;

/// A password, hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2(Argon),
    Bcrypt,
}

#[derive(Clone, PartialEq, Eq)]
struct Argon {
    algorithm: Algorithm,
    version: Version,
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// Why a text is no hash of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Neither of both.
    #[error("it is neither argon2id nor argon2i ($argon2id$…) nor bcrypt ($2b$…)")]
    Unknown,
    /// It begins like one and goes on like none.
    #[error("it is malformed")]
    Malformed,
    /// A verification would take too long, or too much memory.
    #[error("verifying it would cost too much")]
    Dear,
}

/// A password that cannot be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// bcrypt would look at a part of it only.
    #[error("bcrypt takes no more than {BCRYPT_LIMIT} bytes")]
    TooLong,
    /// The library refuses.
    #[error("it cannot be hashed")]
    Refused,
}

impl PasswordHash {
    /// Reads a hash as it is written in lists of users.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let kind = if let Some(rest) = text.strip_prefix("$argon2") {
            Kind::Argon2(argon(rest)?)
        } else if let Some(rest) = text.strip_prefix("$2") {
            bcrypt(rest)?;
            Kind::Bcrypt
        } else {
            return Err(HashError::Unknown);
        };
        let text = text.into();
        Ok(Self { text, kind })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a password of so many bytes can be compared as a whole.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        match self.kind {
            Kind::Argon2(_) => true,
            Kind::Bcrypt => bytes <= BCRYPT_LIMIT,
        }
    }

    /// Whether it is the hash of `password`. Takes long.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.kind {
            Kind::Argon2(argon) => argon
                .output_for(password)
                .is_some_and(|output| output.ct_eq(&argon.output).into()),
            Kind::Bcrypt => {
                self.takes(password.len()) && bcrypt::verify(password, &self.text).unwrap_or(false)
            }
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Hashes a password by argon2id, as is recommended today. Takes long.
pub fn argon2id(password: &[u8]) -> Result<String, PasswordError> {
    let argon = Argon {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        memory: Params::DEFAULT_M_COST,
        passes: Params::DEFAULT_T_COST,
        lanes: Params::DEFAULT_P_COST,
        salt: rand::random::<[u8; 16]>().to_vec(),
        output: vec![0; Params::DEFAULT_OUTPUT_LEN],
    };
    let output = argon.output_for(password).ok_or(PasswordError::Refused)?;
    Ok(format!(
        "$argon2id$v=19$m={},t={},p={}${}${}",
        argon.memory,
        argon.passes,
        argon.lanes,
        STANDARD_NO_PAD.encode(&argon.salt),
        STANDARD_NO_PAD.encode(output)
    ))
}

/// Hashes a password by bcrypt, for lists that others read, too. Takes long.
pub fn bcrypt_2b(password: &[u8]) -> Result<String, PasswordError> {
    if password.len() > BCRYPT_LIMIT {
        return Err(PasswordError::TooLong);
    }
    let hashed = bcrypt::hash_with_salt(password, BCRYPT_COST, rand::random());
    let hashed = hashed.map_err(|_| PasswordError::Refused)?;
    Ok(hashed.format_for_version(bcrypt::Version::TwoB))
}

impl Argon {
    /// What the password comes to with this salt.
    fn output_for(&self, password: &[u8]) -> Option<Vec<u8>> {
        let mut output = vec![0; self.output.len()];
        let length = Some(output.len());
        let params = Params::new(self.memory, self.passes, self.lanes, length).ok()?;
        Argon2::new(self.algorithm, self.version, params)
            .hash_password_into(password, &self.salt, &mut output)
            .ok()?;
        Some(output)
    }
}

/// What follows `$argon2`: `id$v=19$m=19456,t=2,p=1$salt$output`.
fn argon(rest: &str) -> Result<Argon, HashError> {
    let mut parts = rest.split('$');
    let mut next = || parts.next().ok_or(HashError::Malformed);
    let algorithm = match next()? {
        "id" => Algorithm::Argon2id,
        "i" => Algorithm::Argon2i,
        // argon2d among others: what it does shows in caches.
        _ => return Err(HashError::Unknown),
    };
    let version = match next()? {
        "v=19" => Version::V0x13,
        "v=16" => Version::V0x10,
        _ => return Err(HashError::Malformed),
    };
    let mut costs = next()?.split(',');
    let mut cost = |name: &str| {
        let text = costs.next().and_then(|it| it.strip_prefix(name));
        number(text.ok_or(HashError::Malformed)?)
    };
    let (memory, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
    if costs.next().is_some() {
        return Err(HashError::Malformed);
    }
    let mut bytes = || {
        let bytes = STANDARD_NO_PAD.decode(next()?);
        bytes.map_err(|_| HashError::Malformed)
    };
    let (salt, output) = (bytes()?, bytes()?);
    if parts.next().is_some() || salt.len() > MOST_BYTES || output.len() > MOST_BYTES {
        return Err(HashError::Malformed);
    }
    if memory > MOST_KIB || passes > MOST_PASSES {
        return Err(HashError::Dear);
    }
    let is_fine = Params::new(memory, passes, lanes, Some(output.len())).is_ok();
    if !is_fine || salt.len() < argon2::MIN_SALT_LEN {
        return Err(HashError::Malformed);
    }
    Ok(Argon {
        algorithm,
        version,
        memory,
        passes,
        lanes,
        salt,
        output,
    })
}

/// Digits and nothing else.
fn number(text: &str) -> Result<u32, HashError> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_digits);
    number.ok_or(HashError::Malformed)
}

/// What follows `$2`: `b$12$` and 53 characters of salt and output.
fn bcrypt(rest: &str) -> Result<(), HashError> {
    let rest = ["a$", "b$", "y$"]
        .into_iter()
        .find_map(|version| rest.strip_prefix(version))
        .ok_or(HashError::Unknown)?;
    let (cost, rest) = rest.split_once('$').ok_or(HashError::Malformed)?;
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(is_character) {
        return Err(HashError::Malformed);
    }
    let cost = number(cost)?;
    if cost > *BCRYPT_COSTS.end() {
        return Err(HashError::Dear);
    }
    if !BCRYPT_COSTS.contains(&cost) {
        return Err(HashError::Malformed);
    }
    Ok(())
}
