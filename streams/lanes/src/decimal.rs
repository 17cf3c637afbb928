//! Exact numbers: an i128 without its point, and the point's place in the type.

/// The largest number of digits that a decimal has.
const DIGITS: u8 = 38;

/// Ten to a power; `None` beyond 38.
fn power(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(u32::from(exponent))
}

/// The value with another number of digits behind the point, rounded half away from zero;
/// `None` if it has more than `precision` digits then.
#[must_use]
pub fn rescale(value: i128, from: u8, to: u8, precision: u8) -> Option<i128> {
    let moved = if to >= from {
        value.checked_mul(power(to - from)?)?
    } else {
        divide(value, power(from - to)?)
    };
    fits(moved, precision).then_some(moved)
}

/// Whether a value has so many digits at most.
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    power(precision.min(DIGITS)).is_some_and(|limit| value > -limit && value < limit)
}

/// A quotient rounded half away from zero.
pub(crate) const fn divide(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    let twice = rest.unsigned_abs() >= by.unsigned_abs().div_ceil(2);
    if !twice || rest == 0 {
        quotient
    } else if (value < 0) == (by < 0) {
        quotient + 1
    } else {
        quotient - 1
    }
}

/// The sum of two decimals' scales as a product of values; `None` if it does not fit.
pub(crate) fn scale_up(value: i128, by: u8) -> Option<i128> {
    value.checked_mul(power(by)?)
}

/// Reads `12.5`, `-3`, `1e3` as a decimal of a scale, rounded half away from zero.
#[must_use]
pub fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.as_bytes() {
        [b'-', ..] => (true, &mantissa[1..]),
        [b'+', ..] => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut value = 0_i128;
    let mut point = i32::try_from(part.len()).ok()?;
    for byte in whole.bytes().chain(part.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    point = point.checked_sub(exponent)?;
    let scale_wanted = i32::from(scale);
    let value = if point <= scale_wanted {
        if value == 0 {
            0
        } else {
            scale_up(value, u8::try_from(scale_wanted - point).ok()?)?
        }
    } else {
        let cut = u8::try_from(point - scale_wanted).ok();
        cut.and_then(power).map_or(0, |by| divide(value, by))
    };
    let value = if is_negative { -value } else { value };
    fits(value, precision).then_some(value)
}

/// Writes a decimal with all digits of its scale.
pub fn write_decimal(value: i128, scale: u8, out: &mut String) {
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if value < 0 {
        out.push('-');
    }
    if scale == 0 {
        out.push_str(&digits);
        return;
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    out.push_str(whole);
    out.push('.');
    out.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_and_written() {
        for (text, value, shown) in [
            ("12.5", 1250, "12.50"),
            ("-0.005", -1, "-0.01"),
            ("-0.004", 0, "0.00"),
            ("1e2", 10_000, "100.00"),
            ("+7", 700, "7.00"),
            (".5", 50, "0.50"),
        ] {
            assert_eq!(parse_decimal(text, 10, 2), Some(value), "{text}");
            let mut out = String::new();
            write_decimal(value, 2, &mut out);
            assert_eq!(out, shown);
        }
        for text in ["", ".", "1.2.3", "x", "1e", "99999999999", "1e400"] {
            assert_eq!(parse_decimal(text, 10, 2), None, "{text}");
        }
    }

    #[test]
    fn rescaling_rounds_half_away_from_zero() {
        assert_eq!(rescale(125, 2, 1, 10), Some(13));
        assert_eq!(rescale(-125, 2, 1, 10), Some(-13));
        assert_eq!(rescale(124, 2, 1, 10), Some(12));
        assert_eq!(rescale(99, 0, 2, 3), None);
        assert_eq!(divide(7, 2), 4);
        assert_eq!(divide(-7, 2), -4);
        assert_eq!(divide(1, 3), 0);
    }
}
