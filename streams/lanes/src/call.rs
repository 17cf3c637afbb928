//! The functions of SQL that this knows, over lanes.
//!
//! Mathematics is libm's, so that the last bit is the same on every platform.

use std::sync::Arc;

use crate::civil::Civil;
use crate::decimal;
use crate::fault::Fault;
use crate::kind::Kind;
use crate::lane::{Lane, LaneBuilder};
use crate::scalar::Scalar;

/// A function of values; NULL if an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A number made simpler.
    Rounded(Rounding),
    /// A function of floats.
    Math(Math),
    /// A function of strings.
    Words(Words),
    /// A part of a time.
    Extract(Part),
    /// The largest, or else the smallest.
    Best {
        /// Whether it is the largest.
        is_greatest: bool,
    },
    /// A point in time of a count of seconds (0) or milliseconds (3).
    ToTimestampLtz,
}

/// A number made simpler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Without its sign.
    Abs,
    /// The next whole number above.
    Ceil,
    /// The next whole number below.
    Floor,
    /// Half away from zero, to so many digits.
    Round,
    /// -1, 0 or 1.
    Sign,
}

/// A function of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Math {
    /// The square root.
    Sqrt,
    /// One to the power of the other.
    Power,
    /// e to the power.
    Exp,
    /// The natural logarithm.
    Ln,
    /// The logarithm of base ten.
    Log10,
}

/// A function of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// In capitals.
    Upper,
    /// In small letters.
    Lower,
    /// Without blanks around.
    Trim,
    /// Letters in a string.
    CharLength,
    /// From a letter on, counted from one, so many.
    Substring,
    /// One after the other.
    Concat,
    /// Each occurrence of one by another.
    Replace,
}

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The year.
    Year,
    /// 1 to 12.
    Month,
    /// 1 to 31.
    Day,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// 0 to 59.
    Second,
    /// Monday is 2 and Sunday is 1, as in Flink.
    DayOfWeek,
}

pub(crate) fn call(
    function: Function,
    arguments: &[(Arc<Lane>, Kind)],
    kind: Kind,
    rows: usize,
    note: &mut dyn FnMut(usize, Fault),
) -> Lane {
    let mut builder = LaneBuilder::new(kind.shape());
    let mut values = Vec::with_capacity(arguments.len());
    for row in 0..rows {
        values.clear();
        values.extend(arguments.iter().map(|(lane, _)| lane.scalar(row)));
        if values.iter().any(Scalar::is_null) {
            builder.push_null();
            continue;
        }
        let of = arguments.first().map_or(kind, |(_, kind)| *kind);
        match one(function, &values, of, kind) {
            Ok(value) => builder.push(&value),
            Err(fault) => {
                builder.push_null();
                note(row, fault);
            }
        }
    }
    builder.finish()
}

fn one(function: Function, values: &[Scalar], of: Kind, kind: Kind) -> Result<Scalar, Fault> {
    match function {
        Function::Rounded(rounding) => rounded(rounding, values, of, kind),
        Function::Math(math) => mathematics(math, values),
        Function::Words(words) => Ok(text(words, values)),
        Function::Extract(part) => Ok(Scalar::Int(extract(part, int(&values[0]), of))),
        Function::Best { is_greatest } => Ok(best(values, is_greatest)),
        Function::ToTimestampLtz => {
            let unit = if int(&values[1]) == 0 {
                1_000_000
            } else {
                1_000
            };
            let time = int(&values[0]).checked_mul(unit);
            // The years 1 to 9999, which are all that can be written.
            time.filter(|time| (-62_135_596_800_000_000..253_402_300_800_000_000).contains(time))
                .map(Scalar::Int)
                .ok_or_else(|| Fault::overflow(int(&values[0]), kind))
        }
    }
}

fn int(scalar: &Scalar) -> i64 {
    if let Scalar::Int(value) = scalar {
        *value
    } else {
        panic!("types are settled before values flow: {scalar:?} is no integer")
    }
}

fn real(scalar: &Scalar) -> f64 {
    if let Scalar::Real(value) = scalar {
        *value
    } else {
        panic!("types are settled before values flow: {scalar:?} is no float")
    }
}

fn string(scalar: &Scalar) -> &str {
    if let Scalar::Text(value) = scalar {
        value
    } else {
        panic!("types are settled before values flow: {scalar:?} is no string")
    }
}

fn rounded(function: Rounding, values: &[Scalar], of: Kind, kind: Kind) -> Result<Scalar, Fault> {
    match &values[0] {
        Scalar::Int(value) => {
            let result = match function {
                Rounding::Abs => value.checked_abs(),
                Rounding::Sign => Some(value.signum()),
                Rounding::Ceil | Rounding::Floor | Rounding::Round => Some(*value),
            };
            let (least, most) = kind.bounds();
            let result = result.filter(|result| (least..=most).contains(result));
            let what = || Fault::overflow(format!("ABS({value})"), kind);
            result.map(Scalar::Int).ok_or_else(what)
        }
        Scalar::Real(value) => Ok(Scalar::Real(match function {
            Rounding::Abs => value.abs(),
            Rounding::Sign if *value == 0.0 || value.is_nan() => *value,
            Rounding::Sign => value.signum(),
            Rounding::Ceil => libm::ceil(*value),
            Rounding::Floor => libm::floor(*value),
            Rounding::Round => round(*value, values.get(1).map_or(0, int)),
        })),
        Scalar::Wide(value) => {
            let scale = of.decimal().map_or(0, |(_, scale)| scale);
            let unit = 10_i128.pow(u32::from(scale));
            let wanted = kind.decimal().map_or(0, |(_, scale)| scale);
            let result = match function {
                Rounding::Abs => Some(value.abs()),
                Rounding::Sign => Some(value.signum()),
                Rounding::Ceil => Some(-(-value).div_euclid(unit)),
                Rounding::Floor => Some(value.div_euclid(unit)),
                Rounding::Round => decimal::rescale(*value, scale, wanted, 38),
            };
            let what = || Fault::overflow("a rounded decimal", kind);
            result.map(Scalar::Wide).ok_or_else(what)
        }
        Scalar::Null | Scalar::Bool(_) | Scalar::Text(_) => {
            panic!("types are settled before values flow: {kind} is no number")
        }
    }
}

/// Half away from zero, by way of the shortest decimal that is the float.
fn round(value: f64, digits: i64) -> f64 {
    if !value.is_finite() {
        return value;
    }
    let Ok(digits) = u8::try_from(digits.clamp(0, 30)) else {
        return value;
    };
    let rounded = decimal::parse_decimal(&format!("{value:e}"), 38, digits);
    let Some(rounded) = rounded else {
        return value;
    };
    let mut text = String::new();
    decimal::write_decimal(rounded, digits, &mut text);
    text.parse().unwrap_or(value)
}

fn mathematics(function: Math, values: &[Scalar]) -> Result<Scalar, Fault> {
    let value = real(&values[0]);
    let undefined = |function| {
        Err(Fault::Undefined {
            function,
            argument: value.to_string(),
        })
    };
    let result = match function {
        Math::Sqrt if value < 0.0 => return undefined("SQRT"),
        Math::Ln if value <= 0.0 => return undefined("LN"),
        Math::Log10 if value <= 0.0 => return undefined("LOG10"),
        Math::Sqrt => libm::sqrt(value),
        Math::Ln => libm::log(value),
        Math::Log10 => libm::log10(value),
        Math::Exp => libm::exp(value),
        Math::Power => libm::pow(value, real(&values[1])),
    };
    Ok(Scalar::Real(result))
}

fn text(function: Words, values: &[Scalar]) -> Scalar {
    let first = string(&values[0]);
    Scalar::Text(match function {
        Words::Upper => first.to_uppercase(),
        Words::Lower => first.to_lowercase(),
        Words::Trim => first.trim_matches(' ').to_owned(),
        Words::CharLength => {
            let count = i64::try_from(first.chars().count());
            return Scalar::Int(count.expect("a row is shorter than that"));
        }
        Words::Replace => first.replace(string(&values[1]), string(&values[2])),
        Words::Substring => substring(first, int(&values[1]), values.get(2).map(int)),
        Words::Concat => values.iter().map(string).collect(),
    })
}

/// As Flink: from one on; a negative start counts from the end; an end before the start is empty.
fn substring(text: &str, start: i64, length: Option<i64>) -> String {
    let letters: Vec<char> = text.chars().collect();
    let count = i64::try_from(letters.len()).unwrap_or(i64::MAX);
    let from = match start {
        0 => 0,
        start if start > 0 => (start - 1).min(count),
        start => count.saturating_add(start).max(0),
    };
    let to = length.map_or(count, |length| {
        from.saturating_add(length.max(0)).min(count)
    });
    let place = |at: i64| usize::try_from(at).unwrap_or(0);
    letters[place(from)..place(to.max(from))].iter().collect()
}

fn extract(part: Part, value: i64, of: Kind) -> i64 {
    const DAY: i64 = 86_400_000_000;
    let time = if of == Kind::Date { value * DAY } else { value };
    let civil = Civil::of(time);
    match part {
        Part::Year => civil.year,
        Part::Month => civil.month,
        Part::Day => civil.day,
        Part::Hour => civil.micros / 3_600_000_000,
        Part::Minute => civil.micros / 60_000_000 % 60,
        Part::Second => civil.micros / 1_000_000 % 60,
        // 1970-01-01 was a Thursday.
        Part::DayOfWeek => (time.div_euclid(DAY) + 4).rem_euclid(7) + 1,
    }
}

fn best(values: &[Scalar], wants_greater: bool) -> Scalar {
    let mut best = values[0].clone();
    for value in &values[1..] {
        let order = match (value, &best) {
            (Scalar::Bool(left), Scalar::Bool(right)) => left.cmp(right),
            (Scalar::Int(left), Scalar::Int(right)) => left.cmp(right),
            (Scalar::Wide(left), Scalar::Wide(right)) => left.cmp(right),
            (Scalar::Real(left), Scalar::Real(right)) => crate::compare::order_reals(*left, *right),
            (Scalar::Text(left), Scalar::Text(right)) => left.cmp(right),
            (left, right) => panic!("types are settled before values flow: {left:?}, {right:?}"),
        };
        if (wants_greater && order.is_gt()) || (!wants_greater && order.is_lt()) {
            best = value.clone();
        }
    }
    best
}

impl Part {
    /// Reads its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "YEAR" => Self::Year,
            "MONTH" => Self::Month,
            "DAY" => Self::Day,
            "HOUR" => Self::Hour,
            "MINUTE" => Self::Minute,
            "SECOND" => Self::Second,
            "DOW" => Self::DayOfWeek,
            _ => return None,
        })
    }
}
