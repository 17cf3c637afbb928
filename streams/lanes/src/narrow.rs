//! Values of fewer bytes than their shape has: integers of one, two and four, and single floats.
//!
//! Half of what a query does with a column is to fetch it from memory. So a source that has
//! narrow values gives them as they are, and what reads most rows (filters, keys, sums) reads
//! them so. All else sees the lane as if it were wide: it is widened once, when it is asked for.

use std::ops::Range;

use crate::index;
use crate::lane::Values;

/// Values of fewer bytes than their shape has.
#[derive(Clone, Debug, PartialEq)]
pub enum Narrow {
    /// Of TINYINT.
    Bytes(Vec<i8>),
    /// Of SMALLINT.
    Halves(Vec<i16>),
    /// Of INT.
    Ints(Vec<i32>),
    /// Of FLOAT, and of DOUBLE where each value is a single float.
    Singles(Vec<f32>),
}

/// Does the same with integers of each width; with nothing if they are floats.
macro_rules! for_integers {
    ($narrow:expr, $values:ident => $done:expr) => {
        match $narrow {
            $crate::Narrow::Bytes($values) => Some($done),
            $crate::Narrow::Halves($values) => Some($done),
            $crate::Narrow::Ints($values) => Some($done),
            $crate::Narrow::Singles(_) => None,
        }
    };
}
pub(crate) use for_integers;

impl Narrow {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Halves(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Singles(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of a value.
    #[must_use]
    pub const fn width(&self) -> usize {
        match self {
            Self::Bytes(_) => 1,
            Self::Halves(_) => 2,
            Self::Ints(_) | Self::Singles(_) => 4,
        }
    }

    /// The same as values of their shape.
    pub(crate) fn widened(&self) -> Values {
        match self {
            Self::Singles(values) => {
                Values::Real(values.iter().map(|value| f64::from(*value)).collect())
            }
            Self::Bytes(_) | Self::Halves(_) | Self::Ints(_) => {
                let wide = for_integers!(self, values => {
                    values.iter().map(|value| i64::from(*value)).collect()
                });
                Values::Int(wide.expect("they are integers"))
            }
        }
    }

    /// Some that follow one another.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Bytes(values) => Self::Bytes(values[rows].to_vec()),
            Self::Halves(values) => Self::Halves(values[rows].to_vec()),
            Self::Ints(values) => Self::Ints(values[rows].to_vec()),
            Self::Singles(values) => Self::Singles(values[rows].to_vec()),
        }
    }

    /// Those that are named, in the order in which they are.
    pub(crate) fn take(&self, rows: &[u32]) -> Self {
        let picked = rows.iter().map(|row| index(*row));
        match self {
            Self::Bytes(values) => Self::Bytes(picked.map(|row| values[row]).collect()),
            Self::Halves(values) => Self::Halves(picked.map(|row| values[row]).collect()),
            Self::Ints(values) => Self::Ints(picked.map(|row| values[row]).collect()),
            Self::Singles(values) => Self::Singles(picked.map(|row| values[row]).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arithmetic, Batch, Comparison, Expr, Faults, Kind, Lane, Scalar};

    use super::*;

    fn lanes() -> [Lane; 4] {
        [
            Lane::narrow(Narrow::Bytes(vec![-128, 0, 7, 127])),
            Lane::narrow(Narrow::Halves(vec![-32_768, 0, 7, 32_767])),
            Lane::narrow(Narrow::Ints(vec![i32::MIN, 0, 7, i32::MAX])),
            Lane::narrow(Narrow::Singles(vec![-0.0, 0.1, f32::MAX, 1.0])),
        ]
    }

    #[test]
    fn a_narrow_lane_is_as_the_wide_one() {
        for lane in lanes() {
            let wide = Lane::dense(lane.values().clone());
            assert_eq!(lane, wide);
            assert_eq!((lane.len(), lane.shape()), (wide.len(), wide.shape()));
            assert_eq!(lane.take(&[3, 0, 0]), wide.take(&[3, 0, 0]));
            assert!(lane.take(&[3]).narrow_values().is_some());
            assert_eq!(lane.slice(1..3), wide.slice(1..3));
            assert_eq!(lane.scalar(3), wide.scalar(3));
        }
    }

    #[test]
    fn numbers_beyond_the_width_compare_as_they_should() {
        let [bytes, ..] = lanes();
        let batch = Batch::of(vec![bytes]);
        let comparisons = [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ];
        let wide = Batch::of(vec![Lane::dense(batch.lanes[0].values().clone())]);
        for comparison in comparisons {
            for number in [-1_000, -128, 0, 7, 127, 128, i64::MAX] {
                let literal = Expr::Literal(Scalar::Int(number), Kind::BigInt);
                let column = Box::new(Expr::Column(0));
                let compare = Expr::Compare(comparison, column, Box::new(literal));
                let mut faults = Faults::default();
                let ours = compare.evaluate(&batch, &mut faults);
                assert_eq!(ours, compare.evaluate(&wide, &mut faults), "{number}");
            }
        }
    }

    #[test]
    fn arithmetic_sees_wide_values() {
        let [_, _, ints, _] = lanes();
        let batch = Batch::of(vec![ints]);
        let double = Expr::Arithmetic {
            op: Arithmetic::Add,
            left: Box::new((Expr::Column(0), Kind::BigInt)),
            right: Box::new((Expr::Column(0), Kind::BigInt)),
            kind: Kind::BigInt,
        };
        let mut faults = Faults::default();
        let sums = double.evaluate(&batch, &mut faults);
        assert_eq!(sums.scalar(3), Scalar::Int(2 * i64::from(i32::MAX)));
    }
}
