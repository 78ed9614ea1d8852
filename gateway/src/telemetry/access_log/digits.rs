//! Numbers, addresses and times as text, without the machinery of `std::fmt`: that alone would cost a
//! request more than everything else in its line.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use time::OffsetDateTime;

/// Appends `value` in decimal digits.
pub(super) fn number(value: u64, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an address.
pub(super) fn address(address: IpAddr, buffer: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            number(u64::from(first), buffer);
            for octet in rest {
                buffer.push(b'.');
                number(u64::from(octet), buffer);
            }
        }
        IpAddr::V6(address) => {
            let written = write!(buffer, "{address}");
            debug_assert!(written.is_ok(), "a Vec takes every write");
        }
    }
}

/// Appends an address with its port.
pub(super) fn socket(socket: SocketAddr, buffer: &mut Vec<u8>) {
    match socket {
        SocketAddr::V4(_) => {
            address(socket.ip(), buffer);
            buffer.push(b':');
            number(u64::from(socket.port()), buffer);
        }
        SocketAddr::V6(socket) => {
            let written = write!(buffer, "{socket}");
            debug_assert!(written.is_ok(), "a Vec takes every write");
        }
    }
}

/// Appends a time in milliseconds with three decimals.
pub(super) fn millis(time: Duration, buffer: &mut Vec<u8>) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    number(micros / 1000, buffer);
    buffer.push(b'.');
    three(micros % 1000, buffer);
}

/// Appends a moment as RFC 3339 with three decimals, so that lines sort.
pub(super) fn moment(time: OffsetDateTime, buffer: &mut Vec<u8>) {
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    year_of(year, buffer);
    for (before, number) in [
        (b'-', u8::from(month)),
        (b'-', day),
        (b'T', hour),
        (b':', minute),
        (b':', second),
    ] {
        buffer.push(before);
        two(number, buffer);
    }
    buffer.push(b'.');
    three(u64::from(time.millisecond()), buffer);
    buffer.push(b'Z');
}

/// Appends `14/Nov/2023:22:13:20 +0000`.
pub(super) fn classic(time: OffsetDateTime, buffer: &mut Vec<u8>) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = usize::from(u8::from(month)).checked_sub(1);
    let month = month.and_then(|month| MONTHS.get(month));
    two(day, buffer);
    buffer.push(b'/');
    buffer.extend_from_slice(month.copied().unwrap_or_default().as_bytes());
    buffer.push(b'/');
    year_of(year, buffer);
    for number in [hour, minute, second] {
        buffer.push(b':');
        two(number, buffer);
    }
    buffer.extend_from_slice(b" +0000");
}

/// The clock of a system stands between the years 0 and 9999.
fn year_of(year: i32, buffer: &mut Vec<u8>) {
    let year = u16::try_from(year).unwrap_or_default();
    for part in [year / 100, year % 100] {
        two(u8::try_from(part).unwrap_or_default(), buffer);
    }
}

fn two(number: u8, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[digit(number / 10), digit(number)]);
}

fn three(number: u64, buffer: &mut Vec<u8>) {
    let number = u16::try_from(number % 1000).unwrap_or_default();
    let hundreds = u8::try_from(number / 100).unwrap_or_default();
    let rest = u8::try_from(number % 100).unwrap_or_default();
    buffer.push(digit(hundreds));
    two(rest, buffer);
}

fn digit(number: u8) -> u8 {
    b'0' + number % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(append: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut buffer = Vec::new();
        append(&mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn addresses_read_as_everybody_writes_them() {
        for socket in [
            "127.0.0.1:80",
            "255.10.0.9:65535",
            "[::1]:443",
            "[2001:db8::a]:1",
        ] {
            let parsed: SocketAddr = socket.parse().unwrap();
            assert_eq!(text(|buffer| super::socket(parsed, buffer)), socket);
            let ip = text(|buffer| address(parsed.ip(), buffer));
            assert_eq!(ip, parsed.ip().to_string());
        }
    }

    #[test]
    fn times_have_three_decimals_whatever_their_size() {
        for (micros, expected) in [
            (0, "0.000"),
            (7, "0.007"),
            (999, "0.999"),
            (1_000, "1.000"),
            (65_040, "65.040"),
            (3_600_000_123, "3600000.123"),
        ] {
            let time = Duration::from_micros(micros);
            assert_eq!(text(|buffer| millis(time, buffer)), expected);
        }
    }

    #[test]
    fn moments_have_every_digit() {
        for (nanos, expected, classic) in [
            (
                1_700_000_000_007_000_000,
                "2023-11-14T22:13:20.007Z",
                "14/Nov/2023:22:13:20 +0000",
            ),
            (
                946_684_799_999_999_999,
                "1999-12-31T23:59:59.999Z",
                "31/Dec/1999:23:59:59 +0000",
            ),
            (
                951_782_400_000_000_000,
                "2000-02-29T00:00:00.000Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
        ] {
            let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
            assert_eq!(text(|buffer| moment(time, buffer)), expected);
            assert_eq!(text(|buffer| super::classic(time, buffer)), classic);
        }
    }
}
