//! A value as it is written, and as its column wants it.

use std::borrow::Cow;

use holm_lanes::{
    Fault, Kind, LaneBuilder, parse_base64, parse_boolean, parse_date, parse_decimal, parse_double,
    parse_timestamp,
};

/// A value of a row, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    /// Not there, or written as NULL.
    Null,
    /// In quotes.
    Text(Cow<'a, str>),
    /// Without quotes: a number, a truth.
    Bare(&'a str),
    /// An object or a list.
    Nested(&'a str),
}

/// Adds a value to a column of a kind.
pub(crate) fn push(raw: &Raw<'_>, kind: Kind, lane: &mut LaneBuilder) -> Result<(), Fault> {
    let text: &str = match raw {
        Raw::Null => {
            lane.push_null();
            return Ok(());
        }
        Raw::Text(text) => text,
        Raw::Bare(text) => text,
        Raw::Nested(text) if kind == Kind::String => text,
        Raw::Nested(text) => return Err(Fault::no_value(text, kind)),
    };
    let fault = || Fault::no_value(text, kind);
    match kind {
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt => {
            let (least, most) = kind.bounds();
            let value = integer(text).filter(|value| (least..=most).contains(value));
            lane.push_int(value.ok_or_else(fault)?);
        }
        Kind::Double => lane.push_real(parse_double(text).ok_or_else(fault)?),
        Kind::Float => {
            let value: f32 = text.parse().map_err(|_wrong| fault())?;
            lane.push_real(f64::from(value));
        }
        Kind::String => lane.push_text(text),
        Kind::Bytes => lane.push_text(&parse_base64(text).ok_or_else(fault)?),
        Kind::Boolean => lane.push_bool(parse_boolean(text).ok_or_else(fault)?),
        Kind::Decimal { precision, scale } => {
            lane.push_wide(parse_decimal(text, precision, scale).ok_or_else(fault)?);
        }
        Kind::Date => lane.push_int(parse_date(text).ok_or_else(fault)?),
        Kind::Timestamp { digits } => {
            let (time, offset) = parse_timestamp(text).ok_or_else(fault)?;
            if offset.is_some() {
                return Err(fault());
            }
            lane.push_int(cut(time, digits));
        }
        Kind::TimestampLtz { digits } => {
            let (time, _) = parse_timestamp(text).ok_or_else(fault)?;
            lane.push_int(cut(time, digits));
        }
        Kind::Interval => return Err(fault()),
    }
    Ok(())
}

pub(crate) const fn cut(time: i64, digits: u8) -> i64 {
    if digits <= 3 {
        time.div_euclid(1_000) * 1_000
    } else {
        time
    }
}

/// Digits with a sign; quicker than the general way.
fn integer(text: &str) -> Option<i64> {
    const SURE: usize = 18;
    let bytes = text.as_bytes();
    let (is_negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > SURE {
        return text.parse().ok();
    }
    let mut value = 0_i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(if is_negative { -value } else { value })
}
