//! Lists of users, in the configuration or in files as `htpasswd` writes them: `name:hash`, one in a line.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sluice_config::{
    model::{self, BasicError, PasswordHashError},
    names::ListenerName,
};

use super::password::PasswordHash;

/// Users by name, and how their passwords are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    all: BTreeMap<Arc<str>, Arc<PasswordHash>>,
}

/// The lists of listeners.
pub type Lists = HashMap<ListenerName, List>;

/// The list of one listener.
#[derive(Debug, Clone)]
pub struct List {
    /// What the configuration says.
    pub model: Arc<model::Basic>,
    /// What came of it and of the file that it names.
    pub users: Arc<Users>,
    /// Why the users are those that the file had before, and not those that it has now.
    pub refused: Option<Arc<str>>,
}

/// Why somebody cannot be on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// There is no colon.
    #[error("it is no `name:hash`")]
    NoHash,
    /// A name that no client can send.
    #[error("the name is refused: {0}")]
    Name(#[from] BasicError),
    /// The same name again.
    #[error("there is a user of this name already")]
    Twice,
    /// The hash is none.
    #[error("the hash is refused: {0}")]
    Hash(#[from] PasswordHashError),
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
        model::Basic::check_user(name)?;
        if self.all.contains_key(name) {
            return Err(UserError::Twice);
        }
        let hash = PasswordHash::parse(hash)?;
        self.all.insert(name.into(), Arc::new(hash));
        Ok(())
    }

    /// Those that a file has. Lines without a user are empty or begin with `#`.
    pub fn of_file(text: &str) -> Result<Self, LineError> {
        let mut users = Self::default();
        for (position, line) in text.lines().enumerate() {
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let added = text
                .split_once(':')
                .ok_or(UserError::NoHash)
                .and_then(|(name, hash)| users.add(name, hash));
            added.map_err(|error| LineError {
                line: position.saturating_add(1),
                error,
            })?;
        }
        Ok(users)
    }

    /// Puts those of `others` on the list whose name nobody has here.
    pub fn complete(&mut self, others: Self) {
        for (name, hash) in others.all {
            self.all.entry(name).or_insert(hash);
        }
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
