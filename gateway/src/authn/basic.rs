//! User names and passwords in a header (RFC 7617).
//!
//! What must stay true: who asks learns nothing from how long an answer takes, since a name that nobody has
//! is verified like one that somebody has; a password is never compared with but a part of itself; and a
//! user that is taken out of the list is nobody with the next request.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderValue, header::GetAll};

use super::{
    users::Users,
    verifier::{Busy, Verifier},
};

/// The longest value of a header that is looked at: more than any name and password need.
const LONGEST: usize = 4 << 10;

/// With padding or without, as clients differ; but every text has one meaning.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user whose password was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub(super) Arc<str>);

impl User {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why it is not known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no header, or one with credentials of another kind. To be answered with the challenge.
    #[error("there are no credentials")]
    Missing,
    /// There are several headers, or one that cannot be read. To be answered with the challenge.
    #[error("the credentials cannot be read")]
    Malformed,
    /// No such user, or another password. To be answered with the challenge.
    #[error("the user or the password is wrong")]
    Wrong,
    /// Too many others are being verified. To be answered with 503: asking for credentials again would have
    /// the client's user type them once more.
    #[error("too many passwords are being verified")]
    Overloaded,
}

/// Who may come in with a password.
#[derive(Debug)]
pub struct Basic {
    challenge: HeaderValue,
    /// Of all versions of the place: a connection that came in before asks them, too.
    users: Arc<ArcSwap<Users>>,
    verifier: Verifier,
}

impl Basic {
    /// A place that is told apart from others by `realm`. Has the users of `previous`, now and later; without
    /// it nobody so far.
    pub fn new(realm: &str, verifier: Verifier, previous: Option<&Self>) -> Self {
        Self {
            challenge: challenge(realm),
            users: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.users)),
            verifier,
        }
    }

    /// From now on these, and nobody else.
    pub fn admit(&self, users: Arc<Users>) {
        self.users.store(users);
    }

    /// What `WWW-Authenticate` or `Proxy-Authenticate` says to those who are denied.
    pub fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// Who asks with these values of `Authorization` or `Proxy-Authorization`: all that the request has.
    ///
    /// May be dropped at any time.
    pub async fn verify(&self, values: GetAll<'_, HeaderValue>) -> Result<User, Denied> {
        let text = decoded(&values)?;
        let (name, password) = text.split_once(':').ok_or(Denied::Malformed)?;
        // Held over the wait: a list that takes its place meanwhile counts from the next request on.
        let users = self.users.load_full();
        let found = users.find(name);
        let is_known = found.is_some();
        // Somebody else's hash, always the same for the same name: nobody gets in by it.
        let Some(hash) = found
            .map(|(_, hash)| hash)
            .or_else(|| users.decoy(self.verifier.spread(name)))
        else {
            return Err(Denied::Wrong);
        };
        let verified = self.verifier.verify(name, password, hash, is_known);
        let verified = verified.await.map_err(|Busy| Denied::Overloaded)?;
        match found {
            Some((name, _)) if verified => Ok(User(Arc::clone(name))),
            Some(_) | None => Err(Denied::Wrong),
        }
    }
}

/// The name and the password with the colon between them.
fn decoded(values: &GetAll<'_, HeaderValue>) -> Result<String, Denied> {
    let mut values = values.iter();
    let value = values.next().ok_or(Denied::Missing)?;
    // Whoever stands between may have verified the other one.
    if values.next().is_some() || value.len() > LONGEST {
        return Err(Denied::Malformed);
    }
    let value = value.to_str().map_err(|_| Denied::Malformed)?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Denied::Missing);
    }
    let bytes = BASE64.decode(rest.trim_matches(' '));
    let text = String::from_utf8(bytes.map_err(|_| Denied::Malformed)?);
    let text = text.map_err(|_| Denied::Malformed)?;
    // RFC 7617 §2: none in names and passwords. A NUL would end the password where C reads it.
    if text.contains(char::is_control) {
        return Err(Denied::Malformed);
    }
    Ok(text)
}

/// RFC 7617 §2.1: names and passwords are UTF-8.
fn challenge(realm: &str) -> HeaderValue {
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
        .unwrap_or(HeaderValue::from_static("Basic realm=\"sluice\""))
}
