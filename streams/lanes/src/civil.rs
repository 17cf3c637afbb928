//! Dates and times of the Gregorian calendar, read and written; years 1 to 9999.
//!
//! Days are counted by the well-known arithmetic on years that begin in March, so that a leap
//! day is a year's last.

use std::fmt::Write;

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// A time by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1 to 9999.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// Microseconds since midnight.
    pub micros: i64,
}

impl Civil {
    /// The parts of a time in microseconds since 1970.
    #[must_use]
    pub const fn of(time: i64) -> Self {
        let (year, month, day) = from_days(time.div_euclid(DAY));
        Self {
            year,
            month,
            day,
            micros: time.rem_euclid(DAY),
        }
    }

    /// The time of the parts, if there is such a day.
    #[must_use]
    pub const fn time(self) -> Option<i64> {
        match to_days(self.year, self.month, self.day) {
            Some(days) if self.micros >= 0 && self.micros < DAY => Some(days * DAY + self.micros),
            Some(_) | None => None,
        }
    }
}

const fn from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const fn to_days(year: i64, month: i64, day: i64) -> Option<i64> {
    if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 31 {
        return None;
    }
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // A day that the month lacks comes back as another.
    let (_, back_month, back_day) = from_days(days);
    if back_month == month && back_day == day {
        Some(days)
    } else {
        None
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_i64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Days since 1970 of `2026-01-05`; `None` if it is no date.
#[must_use]
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    to_days(
        digits(&bytes[..4])?,
        digits(&bytes[5..7])?,
        digits(&bytes[8..])?,
    )
}

/// Microseconds since 1970 of `2026-01-05T10:00:00.25`, with a space or a T, and the offset from
/// UTC in microseconds where one is written (`Z`, `+01:00`).
///
/// Up to six digits of a second are read; more are cut. `None` if it is no time.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<(i64, Option<i64>)> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 10 {
        return None;
    }
    let day = parse_date(&text[..10])? * DAY;
    if bytes.len() == 10 {
        return Some((day, None));
    }
    let rest = &bytes[11..];
    if !matches!(bytes[10], b'T' | b' ' | b't') || rest.len() < 5 || rest[2] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&rest[..2])?, digits(&rest[3..5])?);
    let mut rest = &rest[5..];
    let mut second = 0;
    let mut micros = 0;
    if rest.first() == Some(&b':') {
        second = digits(rest.get(1..3)?)?;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let count = rest[1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            micros = fraction(&rest[1..=count])?;
            rest = &rest[count + 1..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let time = day + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    match rest {
        [] => Some((time, None)),
        [b'Z' | b'z'] => Some((time, Some(0))),
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let (hours, minutes) = match offset {
                [_, _] => (digits(offset)?, 0),
                [_, _, b':', ..] if offset.len() == 5 => {
                    (digits(&offset[..2])?, digits(&offset[3..])?)
                }
                [_, _, _, _] => (digits(&offset[..2])?, digits(&offset[2..])?),
                _ => return None,
            };
            let length = (hours * 60 + minutes) * 60_000_000;
            let offset = if *sign == b'-' { -length } else { length };
            (hours < 24 && minutes < 60).then_some((time - offset, Some(offset)))
        }
        _ => None,
    }
}

fn fraction(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() {
        return None;
    }
    let kept = &bytes[..bytes.len().min(6)];
    let missing = u32::try_from(6 - kept.len()).ok()?;
    Some(digits(kept)? * 10_i64.pow(missing))
}

/// Writes days since 1970 as a date.
pub fn write_date(days: i64, out: &mut String) {
    let (year, month, day) = from_days(days);
    put(year, 4, out);
    out.push('-');
    put(month, 2, out);
    out.push('-');
    put(day, 2, out);
}

/// Writes microseconds since 1970 with so many digits of a second.
pub fn write_timestamp(time: i64, digits: u8, out: &mut String) {
    write_date(time.div_euclid(DAY), out);
    let micros = time.rem_euclid(DAY);
    out.push('T');
    put(micros / 3_600_000_000, 2, out);
    out.push(':');
    put(micros / 60_000_000 % 60, 2, out);
    out.push(':');
    put(micros / 1_000_000 % 60, 2, out);
    let digits = usize::from(digits.min(6));
    if digits > 0 {
        out.push('.');
        let cut = (0..6 - digits).fold(micros % 1_000_000, |rest, _| rest / 10);
        put(cut, digits, out);
    }
}

fn put(number: i64, width: usize, out: &mut String) {
    let mut text = [b'0'; 20];
    let mut rest = number.unsigned_abs();
    let mut at = text.len();
    while rest > 0 || text.len() - at < width {
        at -= 1;
        text[at] = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
        rest /= 10;
    }
    if number < 0 {
        out.push('-');
    }
    match std::str::from_utf8(&text[at..]) {
        Ok(text) => out.push_str(text),
        // Digits are text; the formatter is the long way to say it.
        Err(_) => drop(write!(out, "{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(time: i64, digits: u8) -> String {
        let mut out = String::new();
        write_timestamp(time, digits, &mut out);
        out
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, time) in [
            ("1970-01-01T00:00:00.000", 0),
            ("1969-12-31T23:59:59.999", -1_000),
            ("2026-01-05T10:00:00.250", 1_767_607_200_250_000),
            ("0001-01-01T00:00:00.000", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999", 253_402_300_799_999_000),
            ("2024-02-29T12:00:00.000", 1_709_208_000_000_000),
        ] {
            assert_eq!(parse_timestamp(text), Some((time, None)), "{text}");
            assert_eq!(shown(time, 3), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for days in -150_000..150_000 {
            let (year, month, day) = from_days(days);
            if year >= 1 {
                assert_eq!(to_days(year, month, day), Some(days));
            }
        }
    }

    #[test]
    fn offsets_and_short_forms_are_read() {
        let noon = 1_767_614_400_000_000 - 7_200_000_000;
        for text in [
            "2026-01-05T10:00:00Z",
            "2026-01-05 11:00:00+01:00",
            "2026-01-05T08:30:00.000000-0130",
            "2026-01-05T10:00Z",
            "2026-01-05T12:00:00+02",
        ] {
            assert_eq!(parse_timestamp(text).map(|it| it.0), Some(noon), "{text}");
        }
        assert_eq!(shown(noon + 123_456, 6), "2026-01-05T10:00:00.123456");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-13-01",
            "2026-02-29",
            "2026-01-05T25:00:00",
            "2026-01-05X10:00:00",
            "2026-01-05T10:00:00.",
            "2026-01-05T10:00:00+1",
            "10000-01-01",
            "0000-01-01",
            "2026-01-05T10:00:61",
            "2026-01-05T10",
            "2026-01-05T1\u{e9}:00",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
