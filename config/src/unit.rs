//! Durations and sizes as texts: `"1h30m"`, `"64KiB"`. What is printed reads back as the same.

use std::time::Duration;

/// From the largest; every one divides the one before it.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `10s`, `500ms`, `1h30m`. None for anything else, and beyond 2⁶⁴ ms.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        total = total.checked_add(number.checked_mul(*scale)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Prints a duration so that [`duration`] reads it; what is below 1 ms is cut.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, scale) in TIMES {
        let count = rest / scale;
        rest %= scale;
        if count > 0 {
            text = format!("{text}{count}{name}");
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Reads `64KiB`, `10MB`, `512B`, `512`. None for anything else, and beyond 2⁶⁴.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit {
        "" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// Prints a size so that [`size`] reads it, in the largest binary unit that divides it.
pub(crate) fn size_text(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| {
        bytes > 0 && bytes.is_multiple_of(*scale) && scale.is_power_of_two()
    };
    match SIZES.iter().find(fits) {
        Some((name, scale)) => format!("{}{name}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

/// Reads `10/h`: so many in a second, minute, hour or day. None for anything else.
pub(crate) fn rate(text: &str) -> Option<(u32, Duration)> {
    let (count, unit) = text.split_once('/')?;
    let (_, scale) = TIMES
        .iter()
        .find(|(name, _)| *name == unit && *name != "ms")?;
    let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    let count = count.parse().ok().filter(|_| digits)?;
    Some((count, Duration::from_millis(*scale)))
}

/// Prints a rate so that [`rate`] reads it.
pub(crate) fn rate_text(count: u32, per: Duration) -> String {
    let fits = |(_, scale): &&(&str, u64)| Duration::from_millis(*scale) == per;
    let unit = TIMES.iter().find(fits).map_or("s", |(name, _)| *name);
    format!("{count}/{unit}")
}

/// Reads the permissions of a file, `0660`: three or four octal digits, without special bits.
pub(crate) fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok()?;
    (digits && (3..=4).contains(&text.len()) && mode <= 0o777).then_some(mode)
}

/// Prints permissions so that [`octal`] reads them.
pub(crate) fn octal_text(mode: u32) -> String {
    format!("{mode:04o}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let ok = [
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("0s", 0),
            ("2d", 172_800_000),
        ];
        for (text, millis) in ok {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10sec",
            "99999999999999999999s",
            "1h30",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_numbers_with_units() {
        let ok = [
            ("0B", 0),
            ("512", 512),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1TiB", 1 << 40),
        ];
        for (text, bytes) in ok {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1kb", "-1B", "1.5MiB", "1 KiB", "99999999999TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(number in any::<u64>()) {
            prop_assert_eq!(size(&size_text(number)), Some(number));
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&duration_text(time)), Some(time));
        }
    }

    #[test]
    fn rates_come_back_and_others_are_refused() {
        for text in ["10/h", "1/s", "7/m", "1000/d"] {
            let (count, per) = rate(text).unwrap();
            assert_eq!(rate_text(count, per), text);
        }
        for text in [
            "",
            "10",
            "/h",
            "10/",
            "10/ms",
            "10/w",
            "+1/h",
            "-1/h",
            "1.5/h",
            "99999999999/h",
        ] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn permissions_are_octal_digits() {
        for (text, mode) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(octal(text), Some(mode), "{text}");
            assert_eq!(octal(&octal_text(mode)), Some(mode), "{text}");
        }
        for text in ["", "66", "0o660", "00660", "1777", "0668", "+660", "rw-"] {
            assert_eq!(octal(text), None, "{text}");
        }
    }
}
