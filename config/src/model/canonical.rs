//! How values print so that the check reads them back: durations and sizes with units, lists of
//! names as tables, `"off"`.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{HeaderName, Limit, Template};
use crate::unit;

/// `"10s"`
pub(super) fn time<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&unit::duration_text(*time))
}

/// `"10s"` or `"off"`
pub(super) fn time_or_off<S: Serializer>(
    time: &Limit<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Limit::Off => serializer.serialize_str("off"),
        Limit::At(time) => self::time(time, serializer),
    }
}

/// `"10s"` or `"off"`, where there is one.
#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub(super) fn maybe_time_or_off<S: Serializer>(
    time: &Option<Limit<Duration>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        None => serializer.serialize_none(),
        Some(time) => time_or_off(time, serializer),
    }
}

/// `"64KiB"`
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
pub(super) fn size<S: Serializer>(size: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&unit::size_text(u64::try_from(*size).unwrap_or(u64::MAX)))
}

/// `"64KiB"` or `"off"`, where there is one.
#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub(super) fn maybe_size_or_off<S: Serializer>(
    size: &Option<Limit<u64>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match size {
        None => serializer.serialize_none(),
        Some(Limit::Off) => serializer.serialize_str("off"),
        Some(Limit::At(size)) => serializer.serialize_str(&unit::size_text(*size)),
    }
}

/// `{ name = value }`
pub(super) fn table<'a, S, K, V>(entries: &'a [(K, V)], serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    K: Serialize + 'a,
    V: Serialize + 'a,
{
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

/// `{ name = ["value", "value"] }`: lines of one name together, in the order of their first.
pub(super) fn lines<S: Serializer>(
    lines: &[(HeaderName, Template)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut names: Vec<&HeaderName> = Vec::new();
    for (name, _) in lines {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut map = serializer.serialize_map(Some(names.len()))?;
    for name in names {
        let values = lines
            .iter()
            .filter(|(there, _)| there == name)
            .map(|(_, value)| value);
        map.serialize_entry(name, &values.collect::<Vec<_>>())?;
    }
    map.end()
}

/// Numbers where they are one, else `5000-5999`.
pub(super) fn ports<S: Serializer>(
    ports: &[RangeInclusive<u16>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Form {
        One(u16),
        Range(String),
    }

    serializer.collect_seq(ports.iter().map(|range| {
        let (first, last) = (*range.start(), *range.end());
        if first == last {
            Form::One(first)
        } else {
            Form::Range(format!("{first}-{last}"))
        }
    }))
}

/// As [`ports`], where there are some.
#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub(super) fn maybe_ports<S: Serializer>(
    ports: &Option<Vec<RangeInclusive<u16>>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match ports {
        None => serializer.serialize_none(),
        Some(ports) => self::ports(ports, serializer),
    }
}

/// What is off is not printed.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}
