//! The text form of metrics: the `OpenMetrics` format, 1.0.

use std::fmt::{Display, Write};

/// What [`Text`] is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Kinds of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Says something by its labels; its samples end in `_info`.
    Info,
}

/// Metrics being written, one family after the other.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    family: String,
}

impl Text {
    /// Begins a family: a name without the suffix of its samples, and what it tells.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.family);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        self.push(format_args!("# TYPE {name} {kind}\n# HELP {name} {help}\n"));
    }

    /// A sample of the family: its suffix (`_total`, `_bucket`, …), its labels, its value.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        for (position, (label, value)) in labels.iter().enumerate() {
            self.text.push(if position == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    char => self.text.push(char),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.text.write_fmt(text).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_with_their_samples_and_values_of_labels_are_escaped() {
        let mut text = Text::default();
        text.family("sluice_retries", Kind::Counter, "Attempts repeated");
        text.sample("_total", &[], 3);
        text.sample("_total", &[("upstream", "a\\b\"c\nd"), ("x", "y")], 1.5);
        assert_eq!(
            text.finish(),
            "# TYPE sluice_retries counter\n\
             # HELP sluice_retries Attempts repeated\n\
             sluice_retries_total 3\n\
             sluice_retries_total{upstream=\"a\\\\b\\\"c\\nd\",x=\"y\"} 1.5\n\
             # EOF\n"
        );
    }
}
