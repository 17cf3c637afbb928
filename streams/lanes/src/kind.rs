//! The types that SQL knows, and the machine type that holds the values of each.

use std::fmt;

/// A type of SQL, with Flink's names and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// A signed integer of 8 bits.
    TinyInt,
    /// A signed integer of 16 bits.
    SmallInt,
    /// A signed integer of 32 bits.
    Int,
    /// A signed integer of 64 bits.
    BigInt,
    /// A float of 32 bits; computed in 64 and rounded.
    Float,
    /// A float of 64 bits.
    Double,
    /// An exact number of so many digits, some of them behind the point.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Text in UTF-8.
    String,
    /// Bytes, each kept as a letter: see `bytes.rs`.
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// A time without zone, in microseconds since 1970.
    Timestamp {
        /// Digits of a second that are shown: 3 or 6.
        digits: u8,
    },
    /// A point in time, in microseconds since 1970 UTC.
    TimestampLtz {
        /// Digits of a second that are shown: 3 or 6.
        digits: u8,
    },
    /// A length of time in microseconds. No column has it.
    Interval,
}

/// The machine type that holds a kind's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `bool`.
    Bool,
    /// `i64`.
    Int,
    /// `i128`.
    Wide,
    /// `f64`.
    Real,
    /// UTF-8.
    Text,
}

impl Kind {
    /// The machine type of its values.
    #[must_use]
    pub const fn shape(self) -> Shape {
        match self {
            Self::Boolean => Shape::Bool,
            Self::TinyInt
            | Self::SmallInt
            | Self::Int
            | Self::BigInt
            | Self::Date
            | Self::Timestamp { .. }
            | Self::TimestampLtz { .. }
            | Self::Interval => Shape::Int,
            Self::Float | Self::Double => Shape::Real,
            Self::Decimal { .. } => Shape::Wide,
            Self::String | Self::Bytes => Shape::Text,
        }
    }

    /// Whether it is an integer of SQL's.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(
            self,
            Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt
        )
    }

    /// Whether it is FLOAT or DOUBLE.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    /// Whether one can compute with it.
    #[must_use]
    pub const fn is_number(self) -> bool {
        self.is_integer() || self.is_float() || matches!(self, Self::Decimal { .. })
    }

    /// Whether it is a time that a window can be over.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Timestamp { .. } | Self::TimestampLtz { .. })
    }

    /// The smallest and largest integer of the kind; for others those of 64 bits.
    #[must_use]
    pub fn bounds(self) -> (i64, i64) {
        match self {
            Self::TinyInt => (i8::MIN.into(), i8::MAX.into()),
            Self::SmallInt => (i16::MIN.into(), i16::MAX.into()),
            Self::Int => (i32::MIN.into(), i32::MAX.into()),
            Self::BigInt
            | Self::Boolean
            | Self::Float
            | Self::Double
            | Self::Decimal { .. }
            | Self::String
            | Self::Bytes
            | Self::Date
            | Self::Timestamp { .. }
            | Self::TimestampLtz { .. }
            | Self::Interval => (i64::MIN, i64::MAX),
        }
    }

    /// Precision and scale of an exact number; `None` for all else.
    #[must_use]
    pub const fn decimal(self) -> Option<(u8, u8)> {
        match self {
            Self::TinyInt => Some((3, 0)),
            Self::SmallInt => Some((5, 0)),
            Self::Int => Some((10, 0)),
            Self::BigInt => Some((19, 0)),
            Self::Decimal { precision, scale } => Some((precision, scale)),
            Self::Boolean
            | Self::Float
            | Self::Double
            | Self::String
            | Self::Bytes
            | Self::Date
            | Self::Timestamp { .. }
            | Self::TimestampLtz { .. }
            | Self::Interval => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => formatter.write_str("BOOLEAN"),
            Self::TinyInt => formatter.write_str("TINYINT"),
            Self::SmallInt => formatter.write_str("SMALLINT"),
            Self::Int => formatter.write_str("INT"),
            Self::BigInt => formatter.write_str("BIGINT"),
            Self::Float => formatter.write_str("FLOAT"),
            Self::Double => formatter.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => {
                write!(formatter, "DECIMAL({precision}, {scale})")
            }
            Self::String => formatter.write_str("STRING"),
            Self::Bytes => formatter.write_str("BYTES"),
            Self::Date => formatter.write_str("DATE"),
            Self::Timestamp { digits } => write!(formatter, "TIMESTAMP({digits})"),
            Self::TimestampLtz { digits } => write!(formatter, "TIMESTAMP_LTZ({digits})"),
            Self::Interval => formatter.write_str("INTERVAL"),
        }
    }
}

/// A named column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What queries call it.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// Whether it may be NULL.
    pub nullable: bool,
}
