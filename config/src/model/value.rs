//! Small values that several objects share.

mod grpc;

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

pub use grpc::GrpcStatus;

/// A bound that may be switched off with `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit<T> {
    /// No bound.
    Off,
    /// At most this.
    At(T),
}

impl<T> Limit<T> {
    /// Whether there is no bound.
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

impl<T: Copy> Limit<T> {
    /// The bound, if there is one.
    pub fn get(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::At(value) => value.serialize(serializer),
        }
    }
}

/// A share of a hundred, kept in millionths of the whole, so that it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    const WHOLE: u32 = 1_000_000;

    /// None when it is beyond 0 to 100.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    pub fn new(percent: f64) -> Option<Self> {
        let share = percent / 100.0;
        (0.0..=1.0)
            .contains(&share)
            .then(|| Self((share * f64::from(Self::WHOLE)).round() as u32))
    }

    /// Whether it takes in `random`, any number by chance.
    pub fn takes(self, random: u64) -> bool {
        random % u64::from(Self::WHOLE) < u64::from(self.0)
    }

    /// Whether it takes in nothing.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / f64::from(Self::WHOLE / 100))
    }
}

/// A header name: a lower-case token (RFC 9110 §5.6.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HeaderName(Arc<str>);

impl HeaderName {
    /// Lower-cases `text` and refuses what is no token.
    pub fn new(text: &str) -> Option<Self> {
        is_token(text).then(|| Self(Arc::from(text.to_ascii_lowercase())))
    }

    /// The name, lower-case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request method: a token, case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Method(Arc<str>);

impl Method {
    /// Refuses what is no token.
    pub fn new(text: &str) -> Option<Self> {
        is_token(text).then(|| Self(Arc::from(text)))
    }

    /// The method as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A regular expression that is known to compile and that matches the *whole* value.
///
/// Equality is that of the text. The compiled form is kept, so nobody compiles it twice.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: regex::Regex,
}

/// Why a regular expression is refused.
#[derive(Debug, thiserror::Error)]
#[error("the regular expression is refused")]
pub struct PatternError(#[from] pub regex::Error);

/// The compiled size a single expression may reach.
const MAX_COMPILED: usize = 1 << 20;

impl Pattern {
    /// Compiles `text`, anchored at both ends.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // By itself first: "a)(b" is refused, though it has a meaning between our own parentheses.
        regex_syntax::Parser::new()
            .parse(text)
            .map_err(|error| regex::Error::Syntax(error.to_string()))?;
        let regex = regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(MAX_COMPILED)
            .build()?;
        Ok(Self {
            text: Arc::from(text),
            regex,
        })
    }

    /// How many groups it has that can be captured.
    pub fn groups(&self) -> usize {
        self.regex.captures_len().saturating_sub(1)
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The compiled expression; it matches whole values only.
    pub fn regex(&self) -> &regex::Regex {
        &self.regex
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
