//! Values as other kinds. What has no value there is a fault, or NULL for TRY_CAST.

use std::sync::Arc;

use crate::bytes::{bytes_of, letters_of};
use crate::civil::{parse_date, parse_timestamp, write_date, write_timestamp};
use crate::decimal::{parse_decimal, rescale, write_decimal};
use crate::expression::OnFault;
use crate::fault::Fault;
use crate::kind::{Kind, Shape};
use crate::lane::{Lane, LaneBuilder};
use crate::scalar::Scalar;

const DAY: i64 = 86_400_000_000;

/// A float rounded to 32 bits.
pub(crate) fn to_single(value: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "FLOAT is rounded to 32 bits"
    )]
    let single = value as f32;
    f64::from(single)
}

/// Casts a lane. Where nothing has to be done it is the same lane.
pub(crate) fn cast(
    lane: &Arc<Lane>,
    from: Kind,
    to: Kind,
    on_fault: OnFault,
    note: &mut dyn FnMut(usize, Fault),
) -> Arc<Lane> {
    if from == to || is_same(from, to) {
        return Arc::clone(lane);
    }
    let mut builder = LaneBuilder::new(to.shape());
    for row in 0..lane.len() {
        match convert(&lane.scalar(row), from, to) {
            Ok(scalar) => builder.push(&scalar),
            Err(fault) => {
                builder.push_null();
                match on_fault {
                    OnFault::Divert => note(row, fault),
                    OnFault::Null => {}
                }
            }
        }
    }
    Arc::new(builder.finish())
}

/// Whether every value of a kind is, as it stands, one of another.
fn is_same(from: Kind, to: Kind) -> bool {
    let widens = from.is_integer() && to.is_integer() && {
        let ((least, most), (low, high)) = (from.bounds(), to.bounds());
        low <= least && most <= high
    };
    let floats = from.is_float() && to == Kind::Double;
    widens || floats
}

/// One value as another kind.
///
/// # Errors
///
/// A fault if it has no value there.
pub fn convert(scalar: &Scalar, from: Kind, to: Kind) -> Result<Scalar, Fault> {
    match scalar {
        Scalar::Null => Ok(Scalar::Null),
        Scalar::Bool(value) => of_bool(*value, to),
        Scalar::Int(value) => of_int(*value, from, to),
        Scalar::Wide(value) => of_wide(*value, from, to),
        Scalar::Real(value) => of_real(*value, to),
        Scalar::Text(_) if from == to => Ok(scalar.clone()),
        Scalar::Text(letters) if from == Kind::Bytes => {
            parse(&String::from_utf8_lossy(&bytes_of(letters)), to)
        }
        Scalar::Text(text) => parse(text, to),
    }
}

fn of_bool(value: bool, to: Kind) -> Result<Scalar, Fault> {
    match to.shape() {
        Shape::Bool => Ok(Scalar::Bool(value)),
        Shape::Text => Ok(Scalar::Text(value.to_string().to_uppercase())),
        Shape::Int => of_int(i64::from(value), Kind::Int, to),
        Shape::Wide => of_int(i64::from(value), Kind::Int, to),
        Shape::Real => Ok(Scalar::Real(f64::from(u8::from(value)))),
    }
}

fn of_int(value: i64, from: Kind, to: Kind) -> Result<Scalar, Fault> {
    let fault = || Fault::overflow(value, to);
    match (from, to) {
        (_, Kind::Bytes) => Err(fault()),
        (_, Kind::String) => Ok(Scalar::Text(shown(value, from))),
        (Kind::Date, Kind::Timestamp { .. } | Kind::TimestampLtz { .. }) => {
            Ok(Scalar::Int(value * DAY))
        }
        (Kind::Timestamp { .. } | Kind::TimestampLtz { .. }, Kind::Date) => {
            Ok(Scalar::Int(value.div_euclid(DAY)))
        }
        (
            Kind::Timestamp { .. } | Kind::TimestampLtz { .. },
            Kind::Timestamp { digits } | Kind::TimestampLtz { digits },
        ) => Ok(Scalar::Int(if digits <= 3 {
            value.div_euclid(1_000) * 1_000
        } else {
            value
        })),
        (_, Kind::Boolean) => Ok(Scalar::Bool(value != 0)),
        (_, Kind::Decimal { precision, scale }) => {
            let wide = rescale(i128::from(value), 0, scale, precision);
            wide.map(Scalar::Wide).ok_or_else(fault)
        }
        (_, Kind::Double) => Ok(Scalar::Real(value as f64)),
        (_, Kind::Float) => Ok(Scalar::Real(to_single(value as f64))),
        (_, to) => {
            let (least, most) = to.bounds();
            let is_in = (least..=most).contains(&value);
            is_in.then_some(Scalar::Int(value)).ok_or_else(fault)
        }
    }
}

fn shown(value: i64, kind: Kind) -> String {
    let mut text = String::new();
    match kind {
        Kind::Date => write_date(value, &mut text),
        Kind::Timestamp { digits } | Kind::TimestampLtz { digits } => {
            write_timestamp(value, digits, &mut text);
            text = text.replace('T', " ");
        }
        Kind::Boolean
        | Kind::TinyInt
        | Kind::SmallInt
        | Kind::Int
        | Kind::BigInt
        | Kind::Float
        | Kind::Double
        | Kind::Decimal { .. }
        | Kind::String
        | Kind::Bytes
        | Kind::Interval => text = value.to_string(),
    }
    text
}

fn of_wide(value: i128, from: Kind, to: Kind) -> Result<Scalar, Fault> {
    let scale = from.decimal().map_or(0, |(_, scale)| scale);
    let text = || {
        let mut text = String::new();
        write_decimal(value, scale, &mut text);
        text
    };
    let fault = || Fault::overflow(text(), to);
    match to {
        Kind::String => Ok(Scalar::Text(text())),
        Kind::Decimal {
            precision,
            scale: wanted,
        } => rescale(value, scale, wanted, precision)
            .map(Scalar::Wide)
            .ok_or_else(fault),
        Kind::Double => parse_double(&text()).map(Scalar::Real).ok_or_else(fault),
        Kind::Float => parse_double(&text())
            .map(|real| Scalar::Real(to_single(real)))
            .ok_or_else(fault),
        Kind::Boolean => Ok(Scalar::Bool(value != 0)),
        Kind::Bytes => Err(fault()),
        Kind::TinyInt
        | Kind::SmallInt
        | Kind::Int
        | Kind::BigInt
        | Kind::Date
        | Kind::Timestamp { .. }
        | Kind::TimestampLtz { .. }
        | Kind::Interval => {
            // As Flink does, what is behind the point is cut, not rounded.
            let cut = value / 10_i128.pow(u32::from(scale));
            let whole = i64::try_from(cut).ok();
            whole.map_or_else(|| Err(fault()), |whole| of_int(whole, Kind::BigInt, to))
        }
    }
}

fn of_real(value: f64, to: Kind) -> Result<Scalar, Fault> {
    let fault = || Fault::overflow(value, to);
    match to {
        Kind::String => Ok(Scalar::Text(format!("{value:?}"))),
        Kind::Double => Ok(Scalar::Real(value)),
        Kind::Float => Ok(Scalar::Real(to_single(value))),
        Kind::Boolean => Ok(Scalar::Bool(value != 0.0)),
        Kind::Bytes => Err(fault()),
        Kind::Decimal { precision, scale } => {
            let wide = parse_decimal(&format!("{value:?}"), precision, scale);
            wide.map(Scalar::Wide).ok_or_else(fault)
        }
        Kind::TinyInt
        | Kind::SmallInt
        | Kind::Int
        | Kind::BigInt
        | Kind::Date
        | Kind::Timestamp { .. }
        | Kind::TimestampLtz { .. }
        | Kind::Interval => {
            let (least, most) = to.bounds();
            whole(value)
                .filter(|whole| (least..=most).contains(whole))
                .map(Scalar::Int)
                .ok_or_else(fault)
        }
    }
}

/// A float without what is behind its point; `None` beyond 64 bits.
pub(crate) fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let cut = value.trunc();
    if !(-LIMIT..LIMIT).contains(&cut) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it has no fraction and is in range"
    )]
    let whole = cut as i64;
    Some(whole)
}

/// Text as a value of a kind.
fn parse(text: &str, to: Kind) -> Result<Scalar, Fault> {
    let trimmed = text.trim();
    let found = match to {
        Kind::String => Some(Scalar::Text(text.to_owned())),
        Kind::Bytes => Some(Scalar::Text(letters_of(text.as_bytes()))),
        Kind::Boolean => parse_boolean(trimmed).map(Scalar::Bool),
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt => {
            let (least, most) = to.bounds();
            parse_integer(trimmed)
                .filter(|value| (least..=most).contains(value))
                .map(Scalar::Int)
        }
        Kind::Double => parse_double(trimmed).map(Scalar::Real),
        Kind::Float => parse_double(trimmed).map(|real| Scalar::Real(to_single(real))),
        Kind::Decimal { precision, scale } => {
            parse_decimal(trimmed, precision, scale).map(Scalar::Wide)
        }
        Kind::Date => parse_date(trimmed).map(Scalar::Int),
        Kind::Timestamp { .. } => parse_timestamp(trimmed)
            .filter(|(_, offset)| offset.is_none())
            .map(|(time, _)| Scalar::Int(time)),
        Kind::TimestampLtz { .. } => parse_timestamp(trimmed).map(|(time, _)| Scalar::Int(time)),
        Kind::Interval => None,
    };
    found.ok_or_else(|| Fault::no_value(text, to))
}

/// Text as an integer of 64 bits.
#[must_use]
pub fn parse_integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Text as a float; what is beyond the range is no value, `NaN` and `Infinity` are values.
#[must_use]
pub fn parse_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let is_written = text.contains(['n', 'N', 'i', 'I']);
    (value.is_finite() || is_written).then_some(value)
}

/// Text as a truth.
#[must_use]
pub const fn parse_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}
