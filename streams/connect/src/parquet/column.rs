//! A column of a Parquet file: what its values are, and how they become those of a kind.

use holm_lanes::{Fault, Kind, LaneBuilder, letters_of};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

use crate::value::cut;

/// What the values of a column mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Have {
    Truth,
    /// An integer of so many bits.
    Whole {
        bits: i8,
        is_signed: bool,
    },
    Single,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Text,
    /// Bytes that nothing says more about.
    Raw,
    Date,
    /// So many of them, or a part of one, are a microsecond.
    Time {
        unit: Unit,
        is_utc: bool,
    },
}

/// What a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Have {
    /// What a column has; `Err` in words, if it is nothing that SQL here has a type for.
    pub(crate) fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        let (physical, converted) = (column.physical_type(), column.converted_type());
        let logical = column.logical_type_ref();
        let decimal = || {
            let digits = |of: i32| u8::try_from(of).ok();
            let (precision, scale) = (
                digits(column.type_precision())?,
                digits(column.type_scale())?,
            );
            (1..=38)
                .contains(&precision)
                .then_some(Self::Decimal { precision, scale })
        };
        let is_decimal =
            matches!(logical, Some(LogicalType::Decimal(_))) || converted == ConvertedType::DECIMAL;
        let none = || format!("{physical} {}", said(logical, converted));
        if is_decimal {
            return decimal().ok_or_else(none);
        }
        match physical {
            Type::BOOLEAN => Ok(Self::Truth),
            Type::INT32 | Type::INT64 => Self::of_integer(column).ok_or_else(none),
            Type::INT96 => Ok(Self::Time {
                unit: Unit::Nanos,
                is_utc: false,
            }),
            Type::FLOAT => Ok(Self::Single),
            Type::DOUBLE => Ok(Self::Double),
            Type::BYTE_ARRAY => match logical {
                Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => Ok(Self::Text),
                None if converted == ConvertedType::NONE => Ok(Self::Raw),
                None => Ok(Self::Text),
                Some(_) => Err(none()),
            },
            Type::FIXED_LEN_BYTE_ARRAY => match logical {
                None if converted == ConvertedType::NONE => Ok(Self::Raw),
                None | Some(_) => Err(none()),
            },
        }
    }

    fn of_integer(column: &ColumnDescriptor) -> Option<Self> {
        let whole = |bits, is_signed| Some(Self::Whole { bits, is_signed });
        let plain = if column.physical_type() == Type::INT32 {
            32
        } else {
            64
        };
        match column.logical_type_ref() {
            Some(LogicalType::Integer(of)) => return whole(of.bit_width, of.is_signed),
            Some(LogicalType::Date) => return Some(Self::Date),
            Some(LogicalType::Timestamp(of)) => {
                let unit = match of.unit {
                    TimeUnit::MILLIS => Unit::Millis,
                    TimeUnit::MICROS => Unit::Micros,
                    TimeUnit::NANOS => Unit::Nanos,
                };
                let is_utc = of.is_adjusted_to_u_t_c;
                return Some(Self::Time { unit, is_utc });
            }
            Some(_) => return None,
            None => {}
        }
        let time = |unit| Some(Self::Time { unit, is_utc: true });
        match column.converted_type() {
            ConvertedType::NONE => whole(plain, true),
            ConvertedType::INT_8 => whole(8, true),
            ConvertedType::INT_16 => whole(16, true),
            ConvertedType::INT_32 => whole(32, true),
            ConvertedType::INT_64 => whole(64, true),
            ConvertedType::UINT_8 => whole(8, false),
            ConvertedType::UINT_16 => whole(16, false),
            ConvertedType::UINT_32 => whole(32, false),
            ConvertedType::UINT_64 => whole(64, false),
            ConvertedType::DATE => Some(Self::Date),
            ConvertedType::TIMESTAMP_MILLIS => time(Unit::Millis),
            ConvertedType::TIMESTAMP_MICROS => time(Unit::Micros),
            _ => None,
        }
    }

    /// The type that holds all of its values.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Truth => Kind::Boolean,
            Self::Whole { bits, is_signed } => match (bits, is_signed) {
                (8, true) => Kind::TinyInt,
                (8, false) | (16, true) => Kind::SmallInt,
                (16, false) | (32, true) => Kind::Int,
                (64, false) => Kind::Decimal {
                    precision: 20,
                    scale: 0,
                },
                _ => Kind::BigInt,
            },
            Self::Single => Kind::Float,
            Self::Double => Kind::Double,
            Self::Decimal { precision, scale } => Kind::Decimal { precision, scale },
            Self::Text => Kind::String,
            Self::Raw => Kind::Bytes,
            Self::Date => Kind::Date,
            Self::Time { unit, is_utc } => {
                let digits = if matches!(unit, Unit::Millis) { 3 } else { 6 };
                if is_utc {
                    Kind::TimestampLtz { digits }
                } else {
                    Kind::Timestamp { digits }
                }
            }
        }
    }

    /// Whether a column of a kind may be read from it. A value may still not fit, and diverts its
    /// row then; nothing is rounded but times, to the digits that their column shows.
    pub(crate) const fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Truth => matches!(kind, Kind::Boolean),
            Self::Whole { .. } => kind.is_integer() || matches!(kind, Kind::Decimal { .. }),
            Self::Single => kind.is_float(),
            Self::Double => matches!(kind, Kind::Double),
            Self::Decimal { scale, .. } => {
                matches!(kind, Kind::Decimal { scale: wanted, .. } if wanted >= scale)
            }
            Self::Text | Self::Raw => matches!(kind, Kind::String | Kind::Bytes),
            Self::Date => matches!(kind, Kind::Date),
            Self::Time { .. } => kind.is_time(),
        }
    }
}

fn said(logical: Option<&LogicalType>, converted: ConvertedType) -> String {
    match logical {
        Some(logical) => format!("({logical:?})"),
        None if converted == ConvertedType::NONE => String::new(),
        None => format!("({converted})"),
    }
}

/// Values as the file has them, those that are NULL left out.
enum Dense {
    Truth(Vec<bool>),
    Narrow(Vec<i32>),
    Wide(Vec<i64>),
    Old(Vec<Int96>),
    Single(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// The next rows of a column as a lane, and those that have no value of the kind.
pub(crate) fn read(
    reader: &mut ColumnReader,
    (rows, is_optional): (usize, bool),
    (have, kind, nullable): (Have, Kind, bool),
    faults: &mut Vec<(usize, Fault)>,
) -> Result<LaneBuilder, ParquetError> {
    let mut levels: Vec<i16> = Vec::new();
    let dense = dense(reader, rows, &mut levels)?;
    let mut lane = LaneBuilder::new(kind.shape());
    let mut at = 0;
    for row in 0..rows {
        // A flat column that may be NULL has two levels: 1 where there is a value.
        let is_null = is_optional && levels.get(row) != Some(&1);
        let pushed = if is_null {
            if nullable {
                lane.push_null();
                Ok(())
            } else {
                Err(Fault::Null)
            }
        } else {
            at += 1;
            push(&dense, at - 1, (have, kind), &mut lane)
        };
        if let Err(fault) = pushed {
            faults.push((row, fault));
            lane.push_null();
        }
    }
    Ok(lane)
}

fn dense(
    reader: &mut ColumnReader,
    rows: usize,
    levels: &mut Vec<i16>,
) -> Result<Dense, ParquetError> {
    macro_rules! values {
        ($reader:ident, $made:ident) => {{
            let mut values = Vec::new();
            let (read, ..) = $reader.read_records(rows, Some(levels), None, &mut values)?;
            (read, Dense::$made(values))
        }};
    }
    let (read, dense) = match reader {
        ColumnReader::BoolColumnReader(reader) => values!(reader, Truth),
        ColumnReader::Int32ColumnReader(reader) => values!(reader, Narrow),
        ColumnReader::Int64ColumnReader(reader) => values!(reader, Wide),
        ColumnReader::Int96ColumnReader(reader) => values!(reader, Old),
        ColumnReader::FloatColumnReader(reader) => values!(reader, Single),
        ColumnReader::DoubleColumnReader(reader) => values!(reader, Double),
        ColumnReader::ByteArrayColumnReader(reader) => values!(reader, Bytes),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => values!(reader, Fixed),
    };
    if read != rows {
        let text = format!(
            "a column ends {} rows before its row group does",
            rows - read
        );
        return Err(ParquetError::General(text));
    }
    Ok(dense)
}

fn push(
    dense: &Dense,
    at: usize,
    (have, kind): (Have, Kind),
    lane: &mut LaneBuilder,
) -> Result<(), Fault> {
    match dense {
        Dense::Truth(values) => lane.push_bool(values[at]),
        Dense::Narrow(values) => {
            let value = values[at];
            let is_unsigned = matches!(
                have,
                Have::Whole {
                    is_signed: false,
                    ..
                }
            );
            let value = if is_unsigned {
                i64::from(value.cast_unsigned())
            } else {
                i64::from(value)
            };
            whole(i128::from(value), (have, kind), lane)?;
        }
        Dense::Wide(values) => match have {
            Have::Time { unit, .. } => time(values[at], unit, kind, lane)?,
            Have::Whole {
                is_signed: false, ..
            } => {
                whole(i128::from(values[at].cast_unsigned()), (have, kind), lane)?;
            }
            _ => whole(i128::from(values[at]), (have, kind), lane)?,
        },
        Dense::Old(values) => time(values[at].to_nanos(), Unit::Nanos, kind, lane)?,
        Dense::Single(values) => lane.push_real(f64::from(values[at])),
        Dense::Double(values) => lane.push_real(values[at]),
        Dense::Bytes(values) if matches!(have, Have::Text | Have::Raw) => {
            bytes(values[at].data(), kind, lane)?;
        }
        Dense::Fixed(values) if have == Have::Raw => bytes(values[at].data(), kind, lane)?,
        Dense::Bytes(values) => whole(number(values[at].data(), kind)?, (have, kind), lane)?,
        Dense::Fixed(values) => whole(number(values[at].data(), kind)?, (have, kind), lane)?,
    }
    Ok(())
}

/// Bytes as they are, or as text.
fn bytes(bytes: &[u8], kind: Kind, lane: &mut LaneBuilder) -> Result<(), Fault> {
    if kind == Kind::Bytes {
        lane.push_text(&letters_of(bytes));
        return Ok(());
    }
    let none = |_wrong| Fault::no_value(&String::from_utf8_lossy(bytes), kind);
    lane.push_text(str::from_utf8(bytes).map_err(none)?);
    Ok(())
}

/// A number with its sign, the largest byte first.
fn number(bytes: &[u8], kind: Kind) -> Result<i128, Fault> {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if is_negative { 0xff } else { 0 };
    let skipped = bytes.len().saturating_sub(16);
    let (more, bytes) = bytes.split_at(skipped);
    let mut whole = [fill; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    whole.reverse();
    let number = i128::from_le_bytes(whole);
    if more.iter().all(|byte| *byte == fill) && (number < 0) == is_negative {
        return Ok(number);
    }
    Err(too_large("a number of more than 38 digits", kind))
}

fn too_large(what: &str, kind: Kind) -> Fault {
    Fault::Overflow {
        what: what.to_owned(),
        kind: kind.to_string(),
    }
}

/// An integer, or the digits of a decimal.
fn whole(value: i128, (have, kind): (Have, Kind), lane: &mut LaneBuilder) -> Result<(), Fault> {
    let none = || too_large(&value.to_string(), kind);
    if let Kind::Decimal { precision, scale } = kind {
        let from = if let Have::Decimal { scale, .. } = have {
            scale
        } else {
            0
        };
        let by = 10_i128
            .checked_pow(u32::from(scale - from))
            .ok_or_else(none)?;
        let value = value.checked_mul(by).ok_or_else(none)?;
        let bound = 10_i128.pow(u32::from(precision));
        if value <= -bound || value >= bound {
            return Err(none());
        }
        lane.push_wide(value);
        return Ok(());
    }
    let (least, most) = kind.bounds();
    let value = i64::try_from(value).ok();
    let value = value.filter(|value| (least..=most).contains(value));
    lane.push_int(value.ok_or_else(none)?);
    Ok(())
}

fn time(value: i64, unit: Unit, kind: Kind, lane: &mut LaneBuilder) -> Result<(), Fault> {
    let micros = match unit {
        Unit::Millis => value.checked_mul(1_000),
        Unit::Micros => Some(value),
        Unit::Nanos => Some(value.div_euclid(1_000)),
    };
    let micros = micros.ok_or_else(|| too_large(&value.to_string(), kind))?;
    let digits = match kind {
        Kind::Timestamp { digits } | Kind::TimestampLtz { digits } => digits,
        _ => 6,
    };
    lane.push_int(cut(micros, digits));
    Ok(())
}
