//! Lists of users, in the configuration or in files as `htpasswd` writes them: `name:hash`, one in a line.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use super::password::{HashError, PasswordHash};

/// Users by name, and how their passwords are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    all: BTreeMap<Arc<str>, Arc<PasswordHash>>,
}

/// Why somebody cannot be on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// There is no colon.
    #[error("it is no `name:hash`")]
    NoHash,
    /// A name that no client can send.
    #[error("the name is empty, has a colon or a control character")]
    Name,
    /// The same name again.
    #[error("there is a user of this name already")]
    Twice,
    /// The hash is none.
    #[error("the hash cannot be used: {0}")]
    Hash(#[from] HashError),
}

/// A line that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub error: UserError,
}

impl Users {
    /// Puts one on the list.
    pub fn add(&mut self, name: &str, hash: &str) -> Result<(), UserError> {
        if name.is_empty() || name.contains(|it: char| it == ':' || it.is_control()) {
            return Err(UserError::Name);
        }
        if self.all.contains_key(name) {
            return Err(UserError::Twice);
        }
        let hash = PasswordHash::parse(hash)?;
        self.all.insert(name.into(), Arc::new(hash));
        Ok(())
    }

    /// Puts those on the list that a file has. Lines without a user are empty or begin with `#`.
    pub fn add_file(&mut self, text: &str) -> Result<(), LineError> {
        for (position, line) in text.lines().enumerate() {
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let added = text
                .split_once(':')
                .ok_or(UserError::NoHash)
                .and_then(|(name, hash)| self.add(name, hash));
            added.map_err(|error| LineError {
                line: position.saturating_add(1),
                error,
            })?;
        }
        Ok(())
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Who has this name.
    pub(super) fn find(&self, name: &str) -> Option<(&Arc<str>, &Arc<PasswordHash>)> {
        self.all.get_key_value(name)
    }

    /// The hash of somebody, for a name that nobody has; none where there is nobody at all.
    pub(super) fn decoy(&self, number: usize) -> Option<&Arc<PasswordHash>> {
        let number = number.checked_rem(self.all.len())?;
        self.all.values().nth(number)
    }
}
