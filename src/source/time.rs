//! Points in time as records and headers write them.

use std::time::{Duration, SystemTime};

/// Parses `2006-01-02T15:04:05.999999999Z` (RFC 3339, with any offset).
pub(super) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.split('-');
    let (year, month, day) = (
        number(date.next()?)?,
        number(date.next()?)?,
        number(date.next()?)?,
    );
    let rest = rest.strip_prefix(['T', 't'])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let seconds = unix_seconds(year, month, day, clock)?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = rest.split_at_checked(end)?;
            (fraction(digits)?, zone)
        }
        None => (0, rest),
    };
    let offset = zone_seconds(zone)?;
    let seconds = u64::try_from(seconds.checked_sub(offset)?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`, the form that HTTP headers use.
pub(super) fn parse_http_date(text: &str) -> Option<SystemTime> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let day = number(parts.next()?)?;
    let name = parts.next()?;
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = i64::try_from(months.iter().position(|month| *month == name)?).ok()? + 1;
    let year = number(parts.next()?)?;
    let seconds = unix_seconds(year, month, day, parts.next()?)?;
    if parts.next() != Some("GMT") {
        return None;
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Nanoseconds of a decimal fraction; digits beyond the ninth are dropped.
fn fraction(digits: &str) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    nine.map(|b| u32::from(b.wrapping_sub(b'0')))
        .try_fold(0_u32, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = number(hours)? * 3600 + number(minutes)? * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// Seconds since 1970 of a date and `HH:MM:SS`, both in UTC.
fn unix_seconds(year: i64, month: i64, day: i64, clock: &str) -> Option<i64> {
    let mut clock = clock.split(':');
    let (hour, minute, second) = (
        number(clock.next()?)?,
        number(clock.next()?)?,
        number(clock.next()?)?,
    );
    let sane = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && clock.next().is_none();
    if !sane {
        return None;
    }
    // Days since 1970 of the civil calendar, with years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::since_epoch;

    #[test]
    fn known_points_in_time_are_read() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600, 500_000_000),
            ("2123-08-14T12:17:03.694052Z", 4_847_689_023, 694_052_000),
            (
                "2001-09-09T03:46:40.123456789123+02:00",
                1_000_000_000,
                123_456_789,
            ),
        ] {
            let time = parse_rfc3339(text).unwrap();
            assert_eq!(since_epoch(time), Duration::new(seconds, nanos), "{text}");
        }
        let http = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(since_epoch(http).as_secs(), 784_111_777);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2000-13-01T00:00:00Z",
            "2000-01-01",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T25:00:00Z",
            "éééééééééééééééééééééé",
            "2000-01-01T00:00:00.1",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
