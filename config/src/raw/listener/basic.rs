//! `basic` of a listener.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::Table;

/// Names and passwords that clients are asked for. At least one of `users` and `file`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Basic {
    /// What clients are told that they are asked for. Default `sluice`.
    pub realm: Option<String>,
    /// Password hashes by name, as `sluice hash-password` prints them: argon2id, argon2i (`"$argon2id$v=19$…"`) or
    /// bcrypt (`"$2b$12$…"`, `$2y$`, `$2a$`). Default none.
    pub users: Option<Table<String>>,
    /// A file with more users, `name:hash` in each line, `#` before comments; it is read again when it changes.
    /// A relative path is meant from the folder of the file in which it stands. Default none.
    pub file: Option<String>,
}
