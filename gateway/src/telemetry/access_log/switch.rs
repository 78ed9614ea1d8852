//! What an operator says about the access log while the process runs.
//!
//! It holds beside the configuration, over reloads, until somebody says otherwise or the process ends.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use sluice_config::model::LogFilter;

/// Which requests have a line, at the word of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Those that the configuration admits.
    #[default]
    Configured,
    /// None.
    Off,
    /// Those that this filter admits, whatever the configuration says.
    Only(LogFilter),
}

/// The word that is neither `on`, `off` nor a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither on, off nor all, nor a filter: statuses (404), classes of them (5xx) and \
     the shortest request (500ms), with commas between them"
)]
pub struct NoChoice(String);

impl FromStr for Choice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::Configured),
            "off" => Ok(Self::Off),
            text => LogFilter::new(text)
                .map(Self::Only)
                .ok_or_else(|| NoChoice(text.to_owned())),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("on"),
            Self::Off => f.write_str("off"),
            Self::Only(filter) => filter.fmt(f),
        }
    }
}

/// Turns writers on and off. Clones turn the same ones.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Asked for every request, before there is a line.
    off: AtomicBool,
    filter: ArcSwapOption<LogFilter>,
}

impl Switch {
    /// From now on this holds.
    pub fn set(&self, choice: Choice) {
        let off = choice == Choice::Off;
        if let Choice::Only(filter) = choice {
            self.0.filter.store(Some(Arc::new(filter)));
        } else {
            self.0.filter.store(None);
        }
        self.0.off.store(off, Ordering::Relaxed);
    }

    /// What holds.
    pub fn choice(&self) -> Choice {
        match self.0.filter.load_full() {
            _ if self.is_off() => Choice::Off,
            Some(filter) => Choice::Only(LogFilter::clone(&filter)),
            None => Choice::Configured,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.0.off.load(Ordering::Relaxed)
    }

    /// Whether a request has a line, where an operator gave a filter.
    pub(super) fn admits(&self, line: &super::Line<'_>) -> Option<bool> {
        let filter = self.0.filter.load();
        let filter = filter.as_deref()?;
        Some(filter.admits(line.status, line.duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_told_again_and_nonsense_is_refused() {
        let switch = Switch::default();
        assert_eq!(switch.choice().to_string(), "on");
        for (said, told) in [
            ("off", "off"),
            ("all", "all"),
            ("404,5xx", "404,5xx"),
            ("5xx, 1s", "5xx,1s"),
            ("500ms", "500ms"),
            ("on", "on"),
        ] {
            switch.set(said.parse().unwrap());
            assert_eq!(switch.choice().to_string(), told);
            assert_eq!(switch.is_off(), told == "off");
        }
        for nonsense in ["", "ON", "9xx", "42", "404,", "1s,2s", "all,404", "25h"] {
            assert!(nonsense.parse::<Choice>().is_err(), "{nonsense:?}");
        }
    }
}
