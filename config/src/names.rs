//! Names of objects: one type per kind, so that a route cannot be looked up where an upstream belongs.
//!
//! Cheap to clone (shared text), ordered by byte, valid by construction.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// The longest name, in bytes.
pub const MAX_NAME: usize = 128;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("a name may not be empty")]
    Empty,
    /// Longer than [`MAX_NAME`].
    #[error("a name may have at most {MAX_NAME} characters, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside `[A-Za-z0-9._/-]`, or a first one outside `[A-Za-z0-9]`.
    #[error("a name may not {place} {character:?}")]
    Character {
        /// The first offending character.
        character: char,
        /// `begin with` or `contain`.
        place: &'static str,
    },
}

/// Holds `text` against `[A-Za-z0-9][A-Za-z0-9._/-]{0,127}`.
fn valid(text: &str) -> Result<(), NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong { length: text.len() });
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Character {
            character: first,
            place: "begin with",
        });
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._/-".contains(*c)))
    {
        Some(character) => Err(NameError::Character {
            character,
            place: "contain",
        }),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                valid(text).map(|()| Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a listener.
    ListenerName,
    /// The name of a route.
    RouteName,
    /// The name of a rule inside its route: as written, or `#1`, `#2`, … by position.
    RuleName,
    /// The name of an upstream; for an address written directly in `to`, the address itself.
    UpstreamName,
    /// The name of a reusable set of filters.
    FilterName,
    /// The name of a discovered service.
    ServiceName,
    /// The name of a certificate.
    CertificateName,
    /// The name of an issuer of certificates: an `[acme.NAME]`, or `local`.
    IssuerName,
    /// The name of a rule of `[egress]`: an `[egress.allow.NAME]`.
    EgressName,
}

impl IssuerName {
    /// The development CA of this machine, which no `[acme.NAME]` may be named like.
    pub const LOCAL: &str = "local";

    /// Whether it is the development CA of this machine.
    pub fn is_local(&self) -> bool {
        &*self.0 == Self::LOCAL
    }
}

impl ListenerName {
    /// The name of the listener that exists where none is written.
    pub fn implied() -> Self {
        Self(Arc::from("default"))
    }
}

impl RuleName {
    /// The name of an unnamed rule: `#1` for the first.
    pub fn nth(position: usize) -> Self {
        Self(Arc::from(format!("#{}", position.saturating_add(1))))
    }

    /// Whether it is one of [`Self::nth`], which is not written.
    pub fn is_by_position(&self) -> bool {
        self.0.starts_with('#')
    }

    /// The name of the catch-all that `to`, `redirect` or `respond` on a route makes: `*`.
    pub fn catch_all() -> Self {
        Self(Arc::from("*"))
    }
}

impl UpstreamName {
    /// The name of the upstream that an address in `to` stands for. Its text contains `:`, which
    /// no written name may, so the two never meet.
    pub fn of_address(address: &crate::model::Address) -> Self {
        Self(Arc::from(address.to_string()))
    }

    /// The name under which the TLS of a rule of `[egress]` is known. It begins with `@`, as no written name
    /// may.
    pub fn of_egress(rule: &EgressName) -> Self {
        Self(Arc::from(format!("@egress/{rule}")))
    }
}
