//! The aggregates: what each is of, what it gives, and whether it can be taken back.

use holm_lanes::Kind;

/// An aggregate over the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// COUNT(*).
    CountRows,
    /// COUNT of what is not NULL.
    Count,
    /// COUNT(DISTINCT ...).
    CountDistinct,
    /// APPROX_COUNT_DISTINCT.
    AboutDistinct,
    /// APPROX_QUANTILE of floats: what so many millionths of all are not above.
    Quantile {
        /// How many.
        millionths: u32,
    },
    /// SUM.
    Sum(Kind),
    /// AVG.
    Average(Kind),
    /// MIN.
    Least(Kind),
    /// MAX.
    Greatest(Kind),
    /// FIRST_VALUE: of the earliest row; NULLs are passed over.
    First(Kind),
    /// LAST_VALUE: of the latest row; NULLs are passed over.
    Last(Kind),
    /// VAR_POP, VAR_SAMP, STDDEV_POP or STDDEV_SAMP of floats.
    Spread {
        /// Divides by one less.
        of_sample: bool,
        /// Takes the root.
        is_root: bool,
    },
}

impl Aggregate {
    /// What it gives.
    #[must_use]
    pub fn gives(self) -> Kind {
        match self {
            Self::CountRows | Self::Count | Self::CountDistinct | Self::AboutDistinct => {
                Kind::BigInt
            }
            Self::Sum(Kind::Decimal { scale, .. }) => Kind::Decimal {
                precision: 38,
                scale,
            },
            Self::Average(Kind::Decimal { scale, .. }) => Kind::Decimal {
                precision: 38,
                scale: scale.max(6),
            },
            Self::Sum(kind)
            | Self::Average(kind)
            | Self::Least(kind)
            | Self::Greatest(kind)
            | Self::First(kind)
            | Self::Last(kind) => kind,
            Self::Spread { .. } | Self::Quantile { .. } => Kind::Double,
        }
    }

    /// Whether it goes by the order of rows, and therefore by their numbers.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        matches!(self, Self::First(_) | Self::Last(_))
    }

    /// Whether what was added can be taken away again, exactly.
    #[must_use]
    pub const fn is_invertible(self) -> bool {
        match self {
            Self::CountRows | Self::Count => true,
            Self::Sum(kind) | Self::Average(kind) => !kind.is_float(),
            Self::CountDistinct
            | Self::AboutDistinct
            | Self::Quantile { .. }
            | Self::Least(_)
            | Self::Greatest(_)
            | Self::First(_)
            | Self::Last(_)
            | Self::Spread { .. } => false,
        }
    }

    /// Whether its result does not depend, to the last bit, on how rows were put together.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        match self {
            // Of two zeros the least is the one that came first, by pane and then by row.
            Self::Sum(kind) | Self::Average(kind) | Self::Least(kind) | Self::Greatest(kind) => {
                !kind.is_float()
            }
            Self::Spread { .. } => false,
            Self::CountRows
            | Self::Count
            | Self::CountDistinct
            | Self::AboutDistinct
            | Self::Quantile { .. }
            | Self::First(_)
            | Self::Last(_) => true,
        }
    }

    /// Its name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CountRows | Self::Count => "COUNT",
            Self::CountDistinct => "COUNT DISTINCT",
            Self::AboutDistinct => "APPROX_COUNT_DISTINCT",
            Self::Quantile { .. } => "APPROX_QUANTILE",
            Self::Sum(_) => "SUM",
            Self::Average(_) => "AVG",
            Self::Least(_) => "MIN",
            Self::Greatest(_) => "MAX",
            Self::First(_) => "FIRST_VALUE",
            Self::Last(_) => "LAST_VALUE",
            Self::Spread {
                of_sample: false,
                is_root: false,
            } => "VAR_POP",
            Self::Spread {
                of_sample: true,
                is_root: false,
            } => "VAR_SAMP",
            Self::Spread {
                of_sample: false,
                is_root: true,
            } => "STDDEV_POP",
            Self::Spread {
                of_sample: true,
                is_root: true,
            } => "STDDEV_SAMP",
        }
    }
}

/// An aggregate of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub aggregate: Aggregate,
    /// The lane it is of; COUNT(*) has none.
    pub column: Option<usize>,
    /// The lane of truths that says which rows count.
    pub filter: Option<usize>,
}
