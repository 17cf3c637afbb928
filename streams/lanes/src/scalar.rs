//! One value apart from its lane: literals, results, rows of tests.

/// A value, or NULL.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// No value.
    Null,
    /// Of BOOLEAN.
    Bool(bool),
    /// Of an integer, a date, a time or an interval.
    Int(i64),
    /// Of a decimal: without its point.
    Wide(i128),
    /// Of FLOAT and DOUBLE.
    Real(f64),
    /// Of STRING.
    Text(String),
}

impl Scalar {
    /// Whether it is NULL.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}
