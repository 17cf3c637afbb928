//! How quantities are written and read on the command line: durations, sizes, counts.
//!
//! One place, so that `10s` means the same in every flag and a table never mixes styles.

use std::time::Duration;

/// Reads `500ms`, `10s`, `5m`, `8h`; a bare number is refused, since nobody can guess its unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let value: f64 = number
        .parse()
        .map_err(|_not_a_number| duration_hint(text))?;
    let seconds = match unit {
        "us" => value / 1e6,
        "ms" => value / 1e3,
        "s" => value,
        "m" => value * 60.0,
        "h" => value * 3600.0,
        "d" => value * 86_400.0,
        _ if value == 0.0 && unit.is_empty() => 0.0,
        _ => return Err(duration_hint(text)),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_out_of_range| duration_hint(text))
}

fn duration_hint(text: &str) -> String {
    format!("`{text}` is no duration: write a number and us, ms, s, m, h or d, such as 10s")
}

/// Reads a size in bytes: a bare number, or one with KiB, MiB or GiB.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let hint = || format!("`{text}` is no size: write bytes, or a number and KiB, MiB or GiB");
    let value: u64 = number.parse().map_err(|_not_a_number| hint())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(hint()),
    };
    value.checked_mul(factor).ok_or_else(hint)
}

/// Reads how often per second; what is no number above 0 is refused.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("`{text}` is no rate: write a number above 0, such as 500"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|sign: char| !sign.is_ascii_digit() && sign != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// A count with its thousands set apart: `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count that was computed, rounded: `12,345`, or `3.21` when it is small.
pub(crate) fn rate(value: f64) -> String {
    if value >= 100.0 {
        count(rounded(value))
    } else {
        format!("{value:.2}")
    }
}

/// The nearest whole number, 0 for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes a whole number only by `as`, which saturates"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// A duration with three significant digits: `812 ns`, `61.2 us`, `4.03 ms`, `1.20 s`.
pub(crate) fn nanos(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value < 1e3 => (value, "ns"),
        value if value < 1e6 => (value / 1e3, "us"),
        value if value < 1e9 => (value / 1e6, "ms"),
        value => (value / 1e9, "s"),
    };
    let digits = if unit == "ns" || scaled >= 100.0 {
        0
    } else {
        usize::from(scaled < 10.0) + 1
    };
    format!("{scaled:.digits$} {unit}")
}

/// A size: `312 B`, `4.1 KiB`, `192 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if scaled < 1024.0 || unit == "TiB" {
            let digits = usize::from(unit != "B" && scaled < 10.0);
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1024.0;
    }
    format!("{value} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("10").is_err_and(|text| text.contains("such as 10s")));
    }

    #[test]
    fn a_rate_lies_above_zero() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "fast"] {
            assert!(parse_rate(text).is_err_and(|error| error.contains("no rate")));
        }
    }

    #[test]
    fn sizes_take_units() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert!(parse_bytes("2GB").is_err());
    }

    #[test]
    fn quantities_are_written_for_people() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(nanos(812.0), "812 ns");
        assert_eq!(nanos(61_230.0), "61.2 us");
        assert_eq!(nanos(4_031_000.0), "4.03 ms");
        assert_eq!(bytes(4198), "4.1 KiB");
        assert_eq!(bytes(192 << 20), "192 MiB");
    }
}
