//! Texts that nobody shall see.

use std::{fmt, path::PathBuf, sync::Arc};

use serde::{Serialize, Serializer};

use crate::base64;

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The bytes that it stands for, where it is a key in base64.
    pub fn decoded(&self) -> Option<Vec<u8>> {
        base64::decode(self.expose().trim())
    }

    /// What stands for one where it is shown.
    pub fn redacted() -> Self {
        Self::new("redacted")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// A secret as it is written: the text itself, or the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretText {
    /// The text.
    Text(Secret),
    /// Read by the load step; white space around it does not count.
    File(PathBuf),
}

impl SecretText {
    /// Takes the text away, for whoever looks at what runs. A path stays.
    pub(crate) fn redact(&mut self) {
        if let Self::Text(secret) = self {
            *secret = Secret::redacted();
        }
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(secret) => secret.serialize(serializer),
            Self::File(path) => serializer.collect_str(&format_args!("file:{}", path.display())),
        }
    }
}
