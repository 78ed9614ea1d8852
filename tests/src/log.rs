//! Reading the access log as an operator's tools would: lines of JSON in a file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::eventually::eventually;

/// An access log in a file.
#[derive(Debug, Clone)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    /// The log at `path`, which need not exist yet.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Every line, which must be JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = complete.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|why| panic!("a line that is no JSON ({why}): {line}"))
            })
            .collect()
    }

    /// Waits for this many lines and gives all there are.
    pub async fn wait(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} lines in the access log"), || {
            Some(self.lines()).filter(|lines| lines.len() >= count)
        })
        .await
    }

    /// Waits for a line whose field has this value.
    pub async fn wait_for(&self, field: &str, value: &str) -> Value {
        eventually(&format!("a line with {field} = {value}"), || {
            self.lines().into_iter().find(|line| line[field] == value)
        })
        .await
    }
}
