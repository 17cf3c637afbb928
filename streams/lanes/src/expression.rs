//! What a query computes of a row, with all types settled, and its evaluation over a batch.

use std::sync::Arc;

use crate::arithmetic;
use crate::batch::Batch;
use crate::call::{self, Function};
use crate::cast;
use crate::compare::{self, Comparison, Pattern};
use crate::fault::Faults;
use crate::json_value::JsonValue;
use crate::kind::Kind;
use crate::lane::{Lane, LaneBuilder, Values};
use crate::scalar::Scalar;

/// An operation on two numbers of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `*`.
    Multiply,
    /// `/`; of integers it truncates.
    Divide,
    /// `%`; the sign is that of the left side.
    Remainder,
}

/// What becomes of a cast that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// The row is diverted: CAST.
    Divert,
    /// NULL: TRY_CAST.
    Null,
}

/// An expression over the lanes of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A lane.
    Column(usize),
    /// A constant.
    Literal(Scalar, Kind),
    /// Two operands, both of `of`, except that decimals keep their own scales.
    Arithmetic {
        /// What is done.
        op: Arithmetic,
        /// Left operand and its kind.
        left: Box<(Self, Kind)>,
        /// Right operand and its kind.
        right: Box<(Self, Kind)>,
        /// The kind of the result.
        kind: Kind,
    },
    /// Two operands of one shape and scale.
    Compare(Comparison, Box<Self>, Box<Self>),
    /// Both are true; the right side is not looked at where the left is false.
    And(Box<Self>, Box<Self>),
    /// One is true; the right side is not looked at where the left is true.
    Or(Box<Self>, Box<Self>),
    /// Not true; NULL of NULL.
    Not(Box<Self>),
    /// Whether it is NULL.
    IsNull(Box<Self>),
    /// The first branch whose condition is true, else the last part.
    Case {
        /// Conditions and results.
        branches: Vec<(Self, Self)>,
        /// What holds if no condition does.
        otherwise: Box<Self>,
        /// The kind of all results.
        kind: Kind,
    },
    /// The first that is not NULL, of one kind.
    Coalesce(Vec<Self>, Kind),
    /// A value as another kind.
    Cast {
        /// The value.
        value: Box<Self>,
        /// Its kind.
        from: Kind,
        /// The wanted kind.
        to: Kind,
        /// What becomes of one that has no value there.
        on_fault: OnFault,
    },
    /// Whether text matches a pattern.
    Like(Box<Self>, Pattern),
    /// A value out of text of JSON.
    Json(Box<JsonValue>),
    /// A function of values.
    Call(Function, Vec<(Self, Kind)>, Kind),
}

/// Rows that are looked at; `None` is all of them.
pub(crate) type Active<'a> = Option<&'a [bool]>;

impl Expr {
    /// Its value for each row. Rows that have none get a fault, and what stands in the lane there
    /// means nothing.
    pub fn evaluate(&self, batch: &Batch, faults: &mut Faults) -> Arc<Lane> {
        self.lane(batch, None, faults)
    }

    /// The lanes that it reads.
    pub fn columns(&self, found: &mut Vec<usize>) {
        match self {
            Self::Column(column) => found.push(*column),
            Self::Literal(..) => {}
            Self::Arithmetic { left, right, .. } => {
                left.0.columns(found);
                right.0.columns(found);
            }
            Self::Compare(_, left, right) | Self::And(left, right) | Self::Or(left, right) => {
                left.columns(found);
                right.columns(found);
            }
            Self::Not(value) | Self::IsNull(value) | Self::Like(value, _) => value.columns(found),
            Self::Cast { value, .. } => value.columns(found),
            Self::Case {
                branches,
                otherwise,
                ..
            } => {
                for (condition, result) in branches {
                    condition.columns(found);
                    result.columns(found);
                }
                otherwise.columns(found);
            }
            Self::Coalesce(values, _) => values.iter().for_each(|value| value.columns(found)),
            Self::Json(json) => json.columns(found),
            Self::Call(_, values, _) => values.iter().for_each(|value| value.0.columns(found)),
        }
    }

    pub(crate) fn lane(&self, batch: &Batch, active: Active<'_>, faults: &mut Faults) -> Arc<Lane> {
        match self {
            Self::Column(column) => Arc::clone(&batch.lanes[*column]),
            Self::Literal(scalar, kind) => {
                Arc::new(Lane::repeated(scalar, kind.shape(), batch.rows))
            }
            Self::Arithmetic {
                op,
                left,
                right,
                kind,
            } => {
                let operands = ((&left.0, left.1), (&right.0, right.1));
                computed(*op, operands, *kind, (batch, active), faults)
            }
            Self::Compare(comparison, left, right) => {
                let left = left.lane(batch, active, faults);
                if let Self::Literal(Scalar::Int(right), _) = **right
                    && let Some(lane) = compare::compare_with(*comparison, &left, right)
                {
                    return Arc::new(lane);
                }
                let right = right.lane(batch, active, faults);
                Arc::new(compare::compare(*comparison, &left, &right))
            }
            Self::And(left, right) => both(left, right, batch, active, faults, false),
            Self::Or(left, right) => both(left, right, batch, active, faults, true),
            Self::Not(value) => {
                let lane = value.lane(batch, active, faults);
                let truths = (0..lane.len()).map(|row| !lane.is_true(row)).collect();
                let nulls = lane.nulls().map(<[bool]>::to_vec);
                Arc::new(Lane::new(Values::Bool(truths), nulls))
            }
            Self::IsNull(value) => {
                let lane = value.lane(batch, active, faults);
                let truths = (0..lane.len()).map(|row| lane.is_null(row)).collect();
                Arc::new(Lane::dense(Values::Bool(truths)))
            }
            Self::Case {
                branches,
                otherwise,
                kind,
            } => case(branches, otherwise, *kind, batch, active, faults),
            Self::Coalesce(values, kind) => coalesce(values, *kind, batch, active, faults),
            Self::Cast {
                value,
                from,
                to,
                on_fault,
            } => {
                let lane = value.lane(batch, active, faults);
                let mut note = noting(active, faults);
                cast::cast(&lane, *from, *to, *on_fault, &mut note)
            }
            Self::Like(value, pattern) => {
                let lane = value.lane(batch, active, faults);
                Arc::new(like(&lane, pattern))
            }
            Self::Json(json) => json.lane(batch, active, faults),
            Self::Call(function, arguments, kind) => {
                let arguments: Vec<(Arc<Lane>, Kind)> = arguments
                    .iter()
                    .map(|(value, kind)| (value.lane(batch, active, faults), *kind))
                    .collect();
                let mut note = noting(active, faults);
                Arc::new(call::call(
                    *function, &arguments, *kind, batch.rows, &mut note,
                ))
            }
        }
    }
}

/// Two operands put together; a small constant divides without a division.
fn computed(
    op: Arithmetic,
    (left, right): ((&Expr, Kind), (&Expr, Kind)),
    kind: Kind,
    (batch, active): (&Batch, Active<'_>),
    faults: &mut Faults,
) -> Arc<Lane> {
    let lane = left.0.lane(batch, active, faults);
    if let (Arithmetic::Divide, Expr::Literal(Scalar::Int(by), _)) = (op, right.0)
        && let Some(lane) = arithmetic::divide_small(&lane, *by)
    {
        return Arc::new(lane);
    }
    let sides = (
        (lane, left.1),
        (right.0.lane(batch, active, faults), right.1),
    );
    let mut note = noting(active, faults);
    Arc::new(arithmetic::compute(op, &sides, kind, &mut note))
}

/// Notes faults of rows that are looked at (I4).
pub(crate) fn noting<'a>(
    active: Active<'a>,
    faults: &'a mut Faults,
) -> impl FnMut(usize, crate::fault::Fault) + use<'a> {
    move |row, fault| {
        if active.is_none_or(|active| active[row]) {
            faults.note(row, fault);
        }
    }
}

fn like(lane: &Lane, pattern: &Pattern) -> Lane {
    let truths = match lane.values() {
        Values::Text(text) => text.iter().map(|text| pattern.matches(text)).collect(),
        Values::Bool(_) | Values::Int(_) | Values::Wide(_) | Values::Real(_) => {
            panic!("types are settled before values flow: LIKE is of strings")
        }
    };
    Lane::new(Values::Bool(truths), lane.nulls().map(<[bool]>::to_vec))
}

/// AND (`decisive` false) and OR (`decisive` true) in three-valued logic.
fn both(
    left: &Expr,
    right: &Expr,
    batch: &Batch,
    active: Active<'_>,
    faults: &mut Faults,
    decisive: bool,
) -> Arc<Lane> {
    let left = left.lane(batch, active, faults);
    let is_decided = |lane: &Lane, row: usize| !lane.is_null(row) && lane.is_true(row) == decisive;
    let open: Vec<bool> = (0..batch.rows)
        .map(|row| active.is_none_or(|active| active[row]) && !is_decided(&left, row))
        .collect();
    let right = right.lane(batch, Some(&open), faults);
    let mut truths = Vec::with_capacity(batch.rows);
    let mut nulls = Vec::with_capacity(batch.rows);
    for row in 0..batch.rows {
        let decided = is_decided(&left, row) || is_decided(&right, row);
        nulls.push(!decided && (left.is_null(row) || right.is_null(row)));
        truths.push(decided == decisive);
    }
    Arc::new(Lane::new(Values::Bool(truths), Some(nulls)))
}

fn case(
    branches: &[(Expr, Expr)],
    otherwise: &Expr,
    kind: Kind,
    batch: &Batch,
    active: Active<'_>,
    faults: &mut Faults,
) -> Arc<Lane> {
    let mut open = active.map_or_else(|| vec![true; batch.rows], <[bool]>::to_vec);
    let mut chosen = vec![branches.len(); batch.rows];
    let mut lanes = Vec::with_capacity(branches.len() + 1);
    for (number, (condition, result)) in branches.iter().enumerate() {
        let condition = condition.lane(batch, Some(&open), faults);
        let mut taken = vec![false; batch.rows];
        for row in 0..batch.rows {
            if open[row] && condition.is_true(row) {
                (taken[row], open[row], chosen[row]) = (true, false, number);
            }
        }
        lanes.push(result.lane(batch, Some(&taken), faults));
    }
    lanes.push(otherwise.lane(batch, Some(&open), faults));
    Arc::new(merge(&lanes, &chosen, kind))
}

fn coalesce(
    values: &[Expr],
    kind: Kind,
    batch: &Batch,
    active: Active<'_>,
    faults: &mut Faults,
) -> Arc<Lane> {
    let mut open = active.map_or_else(|| vec![true; batch.rows], <[bool]>::to_vec);
    let last = values.len().saturating_sub(1);
    let mut chosen = vec![last; batch.rows];
    let mut lanes = Vec::with_capacity(values.len());
    for (number, value) in values.iter().enumerate() {
        let lane = value.lane(batch, Some(&open), faults);
        for row in 0..batch.rows {
            if open[row] && !lane.is_null(row) {
                (open[row], chosen[row]) = (false, number);
            }
        }
        lanes.push(lane);
    }
    Arc::new(merge(&lanes, &chosen, kind))
}

/// For each row the value of the lane that was chosen.
pub(crate) fn merge(lanes: &[Arc<Lane>], chosen: &[usize], kind: Kind) -> Lane {
    let mut builder = LaneBuilder::new(kind.shape());
    for (row, lane) in chosen.iter().enumerate() {
        builder.push_from(&lanes[*lane], row);
    }
    builder.finish()
}
