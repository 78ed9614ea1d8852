//! Failures as one line, for people.

use std::{error::Error, fmt::Write as _};

/// What an error says, and what those say that caused it.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        write!(line, ": {error}").unwrap_or_default();
        cause = error.source();
    }
    line
}
