//! Times as RFC 3339 writes them, in UTC. Pure.

const DAY_SECONDS: i64 = 86_400;
const SECOND_NS: u64 = 1_000_000_000;

/// Writes nanoseconds since the epoch as `2026-01-31T23:59:59.123456789Z`.
pub fn format(ns: u64) -> String {
    format_at((ns / SECOND_NS) as i64, (ns % SECOND_NS) as u32)
}

/// Writes seconds since the epoch and nanoseconds.
pub fn format_at(seconds: i64, nanoseconds: u32) -> String {
    format!("{}.{nanoseconds:09}Z", whole(seconds))
}

/// Writes seconds since the epoch, of a time that is not known better.
pub fn format_seconds(seconds: i64) -> String {
    whole(seconds) + "Z"
}

fn whole(seconds: i64) -> String {
    let (year, month, day) = date_of(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Reads RFC 3339 (`2026-01-31`, with a time, with an offset), or seconds since
/// the epoch with or without a fraction, as nanoseconds since the epoch.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return seconds_of(text);
    }
    let (date, rest) = match text.split_once(['T', 't', ' ']) {
        Some((date, rest)) => (date, rest),
        None => (text, "00:00:00Z"),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (
        parts.next()?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    );
    let year: i64 = year.parse().ok().filter(|_| year.len() == 4)?;
    let days = days_of(year, month, day)?;
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(at);
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = seconds_of(parts.next().unwrap_or("0"))?;
    if hour > 23 || minute > 59 || second >= 61 * SECOND_NS {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = i64::from(number(hours)?) * 60 + i64::from(number(minutes)?);
            if zone.starts_with('-') {
                -minutes
            } else {
                minutes
            }
        }
    };
    let minutes = (days * 24 + i64::from(hour)) * 60 + i64::from(minute) - offset;
    let seconds = u64::try_from(minutes.checked_mul(60)?).ok()?;
    seconds.checked_mul(SECOND_NS)?.checked_add(second)
}

fn number(text: &str) -> Option<u32> {
    let fine = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| fine)
}

/// Reads seconds with or without a fraction as nanoseconds.
fn seconds_of(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let digits: u64 = fraction.parse().ok()?;
    let ns = digits * 10_u64.pow(9 - fraction.len() as u32);
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(SECOND_NS)?
        .checked_add(ns)
}

/// The date of a day since the epoch (the proleptic Gregorian calendar, in
/// eras of 400 years that begin in March).
fn date_of(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * from_march + 2) / 5 + 1) as u32;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day)
}

/// The day since the epoch of a date; `None` for one that there is not.
fn days_of(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (shifted, from_march) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = i64::from((153 * from_march + 2) / 5 + day - 1);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (date_of(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_known_to_the_second_has_no_fraction() {
        assert_eq!(format_seconds(1), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn known_times_are_written_and_read_back() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399_000_000_001, "2000-02-28T23:59:59.000000001Z"),
            (951_868_799_999_999_999, "2000-02-29T23:59:59.999999999Z"),
            (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"),
            (4_107_542_400_500_000_000, "2100-03-01T00:00:00.500000000Z"),
        ] {
            assert_eq!(format(ns), text);
            assert_eq!(parse(text), Some(ns), "{text}");
        }
        assert_eq!(format_at(-1, 5), "1969-12-31T23:59:59.000000005Z");
    }

    #[test]
    fn times_as_people_write_them_are_read() {
        let day = 1_709_164_800_000_000_000;
        for text in [
            "2024-02-29",
            "2024-02-29T00:00:00Z",
            "2024-02-29 00:00Z",
            "2024-02-29T02:30:00+02:30",
            "2024-02-28T23:00:00.0-01:00",
            "1709164800",
            "1709164800.000",
        ] {
            assert_eq!(parse(text), Some(day), "{text}");
        }
        for bad in [
            "",
            "x",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-1-1",
            "24-01-01",
            "2024-02-29T24:00:00Z",
            "2024-02-29T00:00:00",
            "2024-02-29T00:00:00+2",
            "1.",
            ".",
            "1.0000000000",
            "-5",
            "99999999999999999999",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_two_centuries_comes_back() {
        for day in -36_525..73_050 {
            let (year, month, of_month) = date_of(day);
            assert_eq!(days_of(year, month, of_month), Some(day));
        }
    }
}
