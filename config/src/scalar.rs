//! Values with a range: numbers, durations, sizes.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use crate::{
    findings::{Finding, Findings},
    model::Limit,
    raw::{CountOrOff, DurationOrOff, DurationText, SizeOrOff, SizeText},
    tree::At,
    unit,
};

/// Every timeout: shorter ones cannot be kept, longer ones are a mistake.
pub(crate) const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(24);

/// Request bodies.
pub(crate) const BODY: RangeInclusive<u64> = 0..=1 << 40;

/// A list of keys of one table: each is checked, and what is wrong keeps its default.
pub(crate) struct Scalars<'a, 'f, 'd> {
    /// The table.
    pub(crate) at: At<'a>,
    /// Where problems go.
    pub(crate) findings: &'f mut Findings<'d>,
}

impl Scalars<'_, '_, '_> {
    /// A whole number.
    pub(crate) fn number<T>(
        &mut self,
        key: &str,
        raw: Option<i64>,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let Some(number) = raw else {
            return default;
        };
        let inside = T::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        inside.unwrap_or_else(|| {
            self.beyond(key, &number, range.start(), range.end());
            default
        })
    }

    /// A whole number, or `"off"`.
    pub(crate) fn count<T>(
        &mut self,
        key: &str,
        raw: Option<&CountOrOff>,
        range: RangeInclusive<T>,
        default: Limit<T>,
    ) -> Limit<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        match raw {
            None => default,
            Some(CountOrOff::Text(text)) if text == "off" => Limit::Off,
            Some(CountOrOff::Count(number)) => {
                Limit::At(self.number(key, Some(*number), range.clone(), *range.start()))
            }
            Some(CountOrOff::Text(text)) => {
                let what = format!("{text:?} is neither a whole number nor \"off\"");
                self.findings
                    .value(&self.at.key(key), Finding::new("wrong_type", what));
                default
            }
        }
    }

    /// A duration.
    pub(crate) fn time(
        &mut self,
        key: &str,
        raw: Option<&DurationText>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        raw.and_then(|text| self.read_time(key, &text.0, &range))
            .unwrap_or(default)
    }

    /// A duration, or `"off"`.
    pub(crate) fn time_or_off(
        &mut self,
        key: &str,
        raw: Option<&DurationOrOff>,
        default: Limit<Duration>,
    ) -> Limit<Duration> {
        match raw {
            None => default,
            Some(text) if text.0 == "off" => Limit::Off,
            Some(text) => self
                .read_time(key, &text.0, &TIMEOUT)
                .map_or(default, Limit::At),
        }
    }

    /// A size.
    pub(crate) fn size(
        &mut self,
        key: &str,
        raw: Option<&SizeText>,
        range: RangeInclusive<u64>,
        default: usize,
    ) -> usize {
        let size = raw.and_then(|text| self.read_size(key, &text.0, &range));
        size.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default)
    }

    /// A size, or `"off"`.
    pub(crate) fn size_or_off(&mut self, key: &str, raw: &SizeOrOff) -> Option<Limit<u64>> {
        match raw.0.as_str() {
            "off" => Some(Limit::Off),
            text => self.read_size(key, text, &BODY).map(Limit::At),
        }
    }

    fn read_time(
        &mut self,
        key: &str,
        text: &str,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Some(time) = unit::duration(text) else {
            let finding = Finding::new("bad_duration", format!("{text:?} is no duration"));
            self.findings
                .value(&self.at.key(key), finding.hint(duration_hint(text)));
            return None;
        };
        if range.contains(&time) {
            return Some(time);
        }
        let (least, most) = (
            unit::duration_text(*range.start()),
            unit::duration_text(*range.end()),
        );
        self.beyond(key, &text, &least, &most);
        None
    }

    fn read_size(&mut self, key: &str, text: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let Some(size) = unit::size(text) else {
            let finding = Finding::new("bad_size", format!("{text:?} is no size"));
            let hint = "a whole number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB: \"64KiB\"";
            self.findings.value(&self.at.key(key), finding.hint(hint));
            return None;
        };
        if range.contains(&size) {
            return Some(size);
        }
        let (least, most) = (
            unit::size_text(*range.start()),
            unit::size_text(*range.end()),
        );
        self.beyond(key, &text, &least, &most);
        None
    }

    fn beyond(&mut self, key: &str, value: &dyn Display, least: &dyn Display, most: &dyn Display) {
        let what = format!("{key} is {value}, beyond {least} to {most}");
        self.findings
            .value(&self.at.key(key), Finding::new("out_of_range", what));
    }
}

fn duration_hint(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return format!("add a unit: \"{text}s\"");
    }
    "whole numbers with ms, s, m, h or d: \"10s\", \"1m30s\"".to_owned()
}
