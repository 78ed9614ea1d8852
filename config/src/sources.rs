//! What the configuration was read from: texts, the environment they name, what to watch.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Problem;

/// Everything a check needs. Equal sources check to equal reports, so a reload that finds the same
/// content does nothing. Holds values of the environment: treat as a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// In the order they are merged.
    pub files: Vec<SourceFile>,
    /// Directories whose changes can change the configuration.
    pub watch: Vec<PathBuf>,
    /// The variables of the environment that the files name; none for those that are not set.
    pub environment: BTreeMap<String, Option<String>>,
    /// What could not be read. Each has the path of a file or directory in `at`.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// One text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// As it was given, or found in the directory that was given.
    pub path: PathBuf,
    /// The content. Of a file that could not be read, as much as could.
    pub text: String,
    /// How to read it.
    pub form: Form,
}

/// How to read a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A local operator's file; `${NAME}` is substituted.
    Toml,
    /// The canonical form; `${` is literal.
    Json,
    /// Not to be read: `Sources::problems` says why.
    Unreadable,
}

/// Without values of the environment.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("files", &self.files)
            .field("watch", &self.watch)
            .field("environment", &self.environment.keys())
            .field("problems", &self.problems)
            .finish()
    }
}

/// Without its content.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFile")
            .field("path", &self.path)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// One file with this content, and an empty environment.
    pub fn from_text(path: &str, text: &str) -> Self {
        Self::of(path, text, Form::Toml)
    }

    /// An object tree in canonical form, as it comes over the wire. There is no substitution.
    pub fn from_json(path: &str, text: &str) -> Self {
        Self::of(path, text, Form::Json)
    }

    fn of(path: &str, text: &str, form: Form) -> Self {
        Self {
            files: vec![SourceFile {
                path: path.into(),
                text: text.to_owned(),
                form,
            }],
            ..Self::default()
        }
    }

    /// Adds another file.
    #[must_use]
    pub fn and_text(mut self, path: &str, text: &str) -> Self {
        self.files.append(&mut Self::from_text(path, text).files);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment
            .insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    /// The SHA-256 of everything that a check can see, in hexadecimal. Says nothing about secrets.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(file.text.len().to_be_bytes());
            hash.update(&file.text);
        }
        for (name, value) in &self.environment {
            hash.update(name);
            hash.update([0, u8::from(value.is_some())]);
            hash.update(value.as_deref().unwrap_or_default());
            hash.update([0]);
        }
        for problem in &self.problems {
            hash.update(&problem.at);
            hash.update(&problem.what);
        }
        let digest = hash.finalize();
        digest
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }
}
