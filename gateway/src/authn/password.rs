//! Passwords as they are kept: hashed by argon2 or bcrypt. The only home of both libraries.
//!
//! Takes a tenth of a second of a processor by design: nothing here is called on a worker's thread.

#[cfg(test)]
mod tests;

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sluice_config::model::{self, PasswordHashError};
use subtle::ConstantTimeEq as _;

/// The longest password that bcrypt looks at the whole of.
const BCRYPT_LIMIT: usize = 72;

/// What bcrypt costs where we hash: a quarter of a second.
const BCRYPT_COST: u32 = 12;

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
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let checked = model::PasswordHash::new(text)?;
        let kind = if text.starts_with("$argon2") {
            let argon = argon(checked.expose());
            Kind::Argon2(argon.ok_or(PasswordHashError::Malformed("argon2"))?)
        } else {
            Kind::Bcrypt
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

/// `$argon2id$v=19$m=19456,t=2,p=1$salt$output`; none where salt or output are no base64.
fn argon(text: &str) -> Option<Argon> {
    let mut parts: Vec<&str> = text.split('$').skip(1).collect();
    let version = match *parts.get(1)? {
        "v=19" => Version::V0x13,
        "v=16" => Version::V0x10,
        // The first one had no number.
        _ => {
            parts.insert(1, "");
            Version::V0x10
        }
    };
    let [kind, _, costs, salt, output] = *parts.as_slice() else {
        return None;
    };
    let mut costs = costs.split(',').filter_map(|cost| cost.get(2..));
    let mut cost = || costs.next()?.parse().ok();
    Some(Argon {
        algorithm: match kind {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            _ => return None,
        },
        version,
        memory: cost()?,
        passes: cost()?,
        lanes: cost()?,
        salt: STANDARD_NO_PAD.decode(salt).ok()?,
        output: STANDARD_NO_PAD.decode(output).ok()?,
    })
}
