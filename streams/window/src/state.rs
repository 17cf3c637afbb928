//! Partial states of one aggregate, one for each slot of a slice.
//!
//! A state is a value, how many rows made it, and nothing that stands for "no value": MIN of
//! negative numbers needs no smallest number to begin with.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use holm_lanes::{
    Fault, Kind, Lane, LaneBuilder, LoadError, Loader, Saver, Scalar, Shape, Values, index,
};

use crate::aggregate::Aggregate;

/// The earliest or latest value so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edge {
    time: i64,
    sequence: u64,
    value: Scalar,
}

/// Number of values, their mean, and the sum of squared distances from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

/// The states of one aggregate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// COUNT(*) lives in the slice.
    Rows,
    Count(Vec<u64>),
    Exact(Vec<i128>, Vec<u64>),
    Real(Vec<f64>, Vec<u64>),
    Best(Vec<Option<Scalar>>),
    BestInt(Vec<i64>, Vec<bool>),
    BestReal(Vec<f64>, Vec<bool>),
    Edges(Vec<Option<Edge>>),
    Distinct(Vec<BTreeSet<i64>>),
    Moments(Vec<Moments>),
}

/// About what a value of a set takes, its share of the tree's nodes with it.
const DISTINCT: usize = 12;

/// What rows bring to a state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) lane: Option<&'a Lane>,
    pub(crate) filter: Option<&'a [bool]>,
    pub(crate) times: Option<&'a [i64]>,
    pub(crate) sequences: &'a holm_lanes::Origin,
}

impl Input<'_> {
    fn edge(&self, row: usize) -> Edge {
        Edge {
            time: self.times.map_or(0, |times| times[row]),
            sequence: self.sequences.at(row),
            value: self.lane.map_or(Scalar::Null, |lane| lane.scalar(row)),
        }
    }
}

impl State {
    pub(crate) fn new(aggregate: Aggregate, has_filter: bool) -> Self {
        match aggregate {
            Aggregate::CountRows if !has_filter => Self::Rows,
            Aggregate::CountRows | Aggregate::Count => Self::Count(Vec::new()),
            Aggregate::CountDistinct => Self::Distinct(Vec::new()),
            Aggregate::Sum(kind) | Aggregate::Average(kind) => {
                if kind.is_float() {
                    Self::Real(Vec::new(), Vec::new())
                } else {
                    Self::Exact(Vec::new(), Vec::new())
                }
            }
            Aggregate::Least(kind) | Aggregate::Greatest(kind) => match kind.shape() {
                Shape::Int => Self::BestInt(Vec::new(), Vec::new()),
                Shape::Real => Self::BestReal(Vec::new(), Vec::new()),
                Shape::Bool | Shape::Wide | Shape::Text => Self::Best(Vec::new()),
            },
            Aggregate::First(_) | Aggregate::Last(_) => Self::Edges(Vec::new()),
            Aggregate::Spread { .. } => Self::Moments(Vec::new()),
        }
    }

    pub(crate) fn resize(&mut self, slots: usize) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => counts.resize(slots, 0),
            Self::Exact(sums, counts) => {
                sums.resize(slots, 0);
                counts.resize(slots, 0);
            }
            Self::Real(sums, counts) => {
                sums.resize(slots, 0.0);
                counts.resize(slots, 0);
            }
            Self::Best(values) => values.resize(slots, None),
            Self::BestInt(values, set) => {
                values.resize(slots, 0);
                set.resize(slots, false);
            }
            Self::BestReal(values, set) => {
                values.resize(slots, 0.0);
                set.resize(slots, false);
            }
            Self::Edges(edges) => edges.resize(slots, None),
            Self::Distinct(sets) => sets.resize(slots, BTreeSet::new()),
            Self::Moments(moments) => moments.resize(slots, Moments::default()),
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        const VALUE: usize = 40;
        match self {
            Self::Rows => 0,
            Self::Count(counts) => 8 * counts.len(),
            Self::Exact(sums, _) => 24 * sums.len(),
            Self::Real(sums, _) => 16 * sums.len(),
            Self::Best(values) => VALUE * values.len(),
            Self::BestInt(values, _) => 9 * values.len(),
            Self::BestReal(values, _) => 9 * values.len(),
            Self::Edges(edges) => (VALUE + 16) * edges.len(),
            Self::Distinct(sets) => sets.iter().map(|set| 24 + DISTINCT * set.len()).sum(),
            Self::Moments(moments) => 24 * moments.len(),
        }
    }

    /// Adds rows to their slots, in the order of rows (I5).
    #[expect(clippy::too_many_lines, reason = "a dispatch over the states")]
    pub(crate) fn add(
        &mut self,
        aggregate: Aggregate,
        rows: Range<usize>,
        slots: &[u32],
        input: Input<'_>,
    ) {
        let has_all = input.filter.is_none() && input.lane.is_none_or(|it| it.nulls().is_none());
        if has_all && self.add_dense(&rows, slots, input.lane.map(Lane::values)) {
            return;
        }
        let wanted = |row: usize| {
            input.filter.is_none_or(|filter| filter[row])
                && input.lane.is_none_or(|lane| !lane.is_null(row))
        };
        let pairs = rows
            .zip(slots.iter().map(|slot| index(*slot)))
            .filter(|(row, _)| wanted(*row));
        let values = input.lane.map(Lane::values);
        match (self, values) {
            (Self::Rows, _) => {}
            (Self::Count(counts), _) => pairs.for_each(|(_, slot)| counts[slot] += 1),
            (Self::Exact(sums, counts), Some(Values::Int(values))) => {
                for (row, slot) in pairs {
                    sums[slot] += i128::from(values[row]);
                    counts[slot] += 1;
                }
            }
            (Self::Exact(sums, counts), Some(Values::Wide(values))) => {
                for (row, slot) in pairs {
                    sums[slot] += values[row];
                    counts[slot] += 1;
                }
            }
            (Self::Real(sums, counts), Some(Values::Real(values))) => {
                for (row, slot) in pairs {
                    sums[slot] += values[row];
                    counts[slot] += 1;
                }
            }
            (Self::BestInt(best, set), Some(Values::Int(values))) => {
                for (row, slot) in pairs {
                    let order = values[row].cmp(&best[slot]);
                    if !set[slot] || improves(aggregate, order) {
                        (best[slot], set[slot]) = (values[row], true);
                    }
                }
            }
            (Self::BestReal(best, set), Some(Values::Real(values))) => {
                for (row, slot) in pairs {
                    let order = order_reals(values[row], best[slot]);
                    if !set[slot] || improves(aggregate, order) {
                        (best[slot], set[slot]) = (values[row], true);
                    }
                }
            }
            (Self::Distinct(sets), Some(Values::Int(values))) => {
                for (row, slot) in pairs {
                    sets[slot].insert(values[row]);
                }
            }
            (Self::Moments(moments), Some(Values::Real(values))) => {
                for (row, slot) in pairs {
                    moments[slot].add(values[row]);
                }
            }
            (Self::Best(best), Some(_)) => {
                let lane = input.lane.expect("its values were just seen");
                pairs.for_each(|(row, slot)| {
                    keep_best(aggregate, &mut best[slot], lane.scalar(row));
                });
            }
            (Self::Edges(edges), Some(_)) => {
                pairs.for_each(|(row, slot)| {
                    keep_edge(aggregate, &mut edges[slot], input.edge(row));
                });
            }
            (state, values) => {
                panic!("types are settled before values flow: {state:?}, {values:?}")
            }
        }
    }

    /// Adds rows of which each counts and has a value, where that is worth a loop of its own.
    fn add_dense(&mut self, rows: &Range<usize>, slots: &[u32], values: Option<&Values>) -> bool {
        let is_one = slots.len() > 1 && slots.iter().all(|slot| *slot == slots[0]);
        let slots = slots.iter().map(|slot| index(*slot));
        match (self, values) {
            (Self::Real(sums, counts), Some(Values::Real(values))) if is_one => {
                let Some(slot) = slots.clone().next() else {
                    return true;
                };
                let of_run = &values[rows.clone()];
                // One after the other, as rows come (I5).
                sums[slot] = of_run.iter().fold(sums[slot], |sum, value| sum + value);
                counts[slot] += u64::try_from(of_run.len()).expect("a batch is in memory");
            }
            (Self::Real(sums, counts), Some(Values::Real(values))) => {
                for (value, slot) in values[rows.clone()].iter().zip(slots) {
                    sums[slot] += value;
                    counts[slot] += 1;
                }
            }
            (Self::Exact(sums, counts), Some(Values::Int(values))) => {
                for (value, slot) in values[rows.clone()].iter().zip(slots) {
                    sums[slot] += i128::from(*value);
                    counts[slot] += 1;
                }
            }
            (Self::Count(counts), _) => slots.for_each(|slot| counts[slot] += 1),
            _ => return false,
        }
        true
    }

    /// Adds the slots of another slice to ours.
    pub(crate) fn merge(&mut self, aggregate: Aggregate, into: &[u32], other: &Self) {
        let pairs = into.iter().map(|slot| index(*slot)).enumerate();
        match (self, other) {
            (Self::Rows, Self::Rows) => {}
            (Self::Count(ours), Self::Count(theirs)) => {
                pairs.for_each(|(from, to)| ours[to] += theirs[from]);
            }
            (Self::Exact(sums, counts), Self::Exact(other_sums, other_counts)) => {
                for (from, to) in pairs {
                    sums[to] += other_sums[from];
                    counts[to] += other_counts[from];
                }
            }
            (Self::Real(sums, counts), Self::Real(other_sums, other_counts)) => {
                for (from, to) in pairs {
                    sums[to] += other_sums[from];
                    counts[to] += other_counts[from];
                }
            }
            (Self::BestInt(best, set), Self::BestInt(other, other_set)) => {
                for (from, to) in pairs.filter(|(from, _)| other_set[*from]) {
                    if !set[to] || improves(aggregate, other[from].cmp(&best[to])) {
                        (best[to], set[to]) = (other[from], true);
                    }
                }
            }
            (Self::BestReal(best, set), Self::BestReal(other, other_set)) => {
                for (from, to) in pairs.filter(|(from, _)| other_set[*from]) {
                    if !set[to] || improves(aggregate, order_reals(other[from], best[to])) {
                        (best[to], set[to]) = (other[from], true);
                    }
                }
            }
            (Self::Best(best), Self::Best(other)) => {
                for (from, to) in pairs {
                    if let Some(value) = &other[from] {
                        keep_best(aggregate, &mut best[to], value.clone());
                    }
                }
            }
            (Self::Edges(edges), Self::Edges(other)) => {
                for (from, to) in pairs {
                    if let Some(edge) = &other[from] {
                        keep_edge(aggregate, &mut edges[to], edge.clone());
                    }
                }
            }
            (Self::Distinct(sets), Self::Distinct(other)) => {
                for (from, to) in pairs {
                    sets[to].extend(other[from].iter().copied());
                }
            }
            (Self::Moments(moments), Self::Moments(other)) => {
                pairs.for_each(|(from, to)| moments[to].merge(other[from]));
            }
            (ours, theirs) => panic!("I5: states of one aggregate: {ours:?}, {theirs:?}"),
        }
    }

    /// Takes the slots of another slice away from ours: exact ones only (I5).
    pub(crate) fn subtract(&mut self, into: &[u32], other: &Self) {
        let pairs = into.iter().map(|slot| index(*slot)).enumerate();
        match (self, other) {
            (Self::Rows, Self::Rows) => {}
            (Self::Count(ours), Self::Count(theirs)) => {
                pairs.for_each(|(from, to)| ours[to] -= theirs[from]);
            }
            (Self::Exact(sums, counts), Self::Exact(other_sums, other_counts)) => {
                for (from, to) in pairs {
                    sums[to] -= other_sums[from];
                    counts[to] -= other_counts[from];
                }
            }
            (ours, _) => panic!("I5: {ours:?} has no inverse"),
        }
    }

    /// Writes the result of a slot.
    pub(crate) fn finish(
        &self,
        aggregate: Aggregate,
        slot: usize,
        rows: u64,
        out: &mut LaneBuilder,
    ) -> Result<(), Fault> {
        let count = |count: u64| {
            i64::try_from(count).map_err(|_beyond| Fault::overflow("COUNT", Kind::BigInt))
        };
        match self {
            Self::Rows => out.push_int(count(rows)?),
            Self::Count(counts) => out.push_int(count(counts[slot])?),
            Self::Distinct(sets) => {
                out.push_int(i64::try_from(sets[slot].len()).expect("memory is smaller"));
            }
            Self::Exact(sums, counts) => exact(aggregate, sums[slot], counts[slot], out)?,
            Self::Real(sums, counts) => real(aggregate, sums[slot], counts[slot], out),
            Self::Best(best) => out.push(best[slot].as_ref().unwrap_or(&Scalar::Null)),
            Self::BestInt(values, set) if set[slot] => out.push_int(values[slot]),
            Self::BestReal(values, set) if set[slot] => out.push_real(values[slot]),
            Self::BestInt(..) | Self::BestReal(..) => out.push_null(),
            Self::Edges(edges) => {
                let value = edges[slot].as_ref().map(|edge| &edge.value);
                out.push(value.unwrap_or(&Scalar::Null));
            }
            Self::Moments(moments) => out.push(&moments[slot].spread(aggregate)),
        }
        Ok(())
    }
}

fn order_reals(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

const fn improves(aggregate: Aggregate, order: Ordering) -> bool {
    if matches!(aggregate, Aggregate::Least(_)) {
        order.is_lt()
    } else {
        order.is_gt()
    }
}

fn keep_best(aggregate: Aggregate, best: &mut Option<Scalar>, value: Scalar) {
    let order = match (&value, &*best) {
        (_, None) => None,
        (Scalar::Bool(left), Some(Scalar::Bool(right))) => Some(left.cmp(right)),
        (Scalar::Wide(left), Some(Scalar::Wide(right))) => Some(left.cmp(right)),
        (Scalar::Text(left), Some(Scalar::Text(right))) => Some(left.cmp(right)),
        (left, right) => panic!("types are settled before values flow: {left:?}, {right:?}"),
    };
    if order.is_none_or(|order| improves(aggregate, order)) {
        *best = Some(value);
    }
}

fn keep_edge(aggregate: Aggregate, kept: &mut Option<Edge>, edge: Edge) {
    let wins = kept.as_ref().is_none_or(|kept| {
        let order = (edge.time, edge.sequence).cmp(&(kept.time, kept.sequence));
        if matches!(aggregate, Aggregate::First(_)) {
            order.is_lt()
        } else {
            order.is_gt()
        }
    });
    if wins {
        *kept = Some(edge);
    }
}

fn exact(aggregate: Aggregate, sum: i128, count: u64, out: &mut LaneBuilder) -> Result<(), Fault> {
    if count == 0 {
        out.push_null();
        return Ok(());
    }
    let gives = aggregate.gives();
    let name = aggregate.name();
    let value = if let Aggregate::Average(Kind::Decimal { scale, .. }) = aggregate {
        let wanted = scale.max(6);
        let up = sum.checked_mul(10_i128.pow(u32::from(wanted - scale)));
        let quotient = up.map(|up| half_up(up, i128::from(count)));
        quotient.ok_or_else(|| Fault::overflow(name, gives))?
    } else if let Aggregate::Average(_) = aggregate {
        sum / i128::from(count)
    } else {
        sum
    };
    if let Kind::Decimal { .. } = gives {
        let limit = 10_i128.pow(38);
        if value <= -limit || value >= limit {
            return Err(Fault::overflow(name, gives));
        }
        out.push_wide(value);
        return Ok(());
    }
    let (least, most) = gives.bounds();
    let value = i64::try_from(value)
        .ok()
        .filter(|value| (least..=most).contains(value));
    out.push_int(value.ok_or_else(|| Fault::overflow(format!("{name} {sum}"), gives))?);
    Ok(())
}

const fn half_up(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    if rest.unsigned_abs() >= by.unsigned_abs().div_ceil(2) && rest != 0 {
        quotient + value.signum()
    } else {
        quotient
    }
}

fn real(aggregate: Aggregate, sum: f64, count: u64, out: &mut LaneBuilder) {
    if count == 0 {
        return out.push_null();
    }
    let value = if matches!(aggregate, Aggregate::Average(_)) {
        sum / count as f64
    } else {
        sum
    };
    out.push_real(if aggregate.gives() == Kind::Float {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "FLOAT is rounded to 32 bits"
        )]
        let single = value as f32;
        f64::from(single)
    } else {
        value
    });
}

impl Moments {
    /// Welford's step.
    fn add(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
    }

    /// Chan's merge.
    fn merge(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let both = ours + theirs;
        let distance = other.mean - self.mean;
        self.squares += other.squares + distance * distance * (ours * theirs / both);
        self.mean += distance * (theirs / both);
        self.count += other.count;
    }

    fn spread(self, aggregate: Aggregate) -> Scalar {
        let Aggregate::Spread { of_sample, is_root } = aggregate else {
            panic!("I5: {aggregate:?} has no moments");
        };
        let by = self.count.saturating_sub(u64::from(of_sample));
        if by == 0 {
            return Scalar::Null;
        }
        let variance = self.squares / by as f64;
        Scalar::Real(if is_root {
            libm::sqrt(variance)
        } else {
            variance
        })
    }
}

/// State as bytes, and back.
impl State {
    pub(crate) fn save(&self, to: &mut Saver) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => {
                to.count(counts.len());
                counts.iter().for_each(|count| to.word(*count));
            }
            Self::Exact(sums, counts) => {
                to.count(sums.len());
                sums.iter().for_each(|sum| to.wide(*sum));
                counts.iter().for_each(|count| to.word(*count));
            }
            Self::Real(sums, counts) => {
                to.count(sums.len());
                sums.iter().for_each(|sum| to.real(*sum));
                counts.iter().for_each(|count| to.word(*count));
            }
            Self::Best(values) => {
                to.count(values.len());
                for value in values {
                    to.truth(value.is_some());
                    if let Some(value) = value {
                        to.scalar(value);
                    }
                }
            }
            Self::BestInt(values, set) => {
                to.count(values.len());
                values.iter().for_each(|value| to.int(*value));
                set.iter().for_each(|set| to.truth(*set));
            }
            Self::BestReal(values, set) => {
                to.count(values.len());
                values.iter().for_each(|value| to.real(*value));
                set.iter().for_each(|set| to.truth(*set));
            }
            Self::Edges(edges) => {
                to.count(edges.len());
                for edge in edges {
                    to.truth(edge.is_some());
                    if let Some(edge) = edge {
                        to.int(edge.time);
                        to.word(edge.sequence);
                        to.scalar(&edge.value);
                    }
                }
            }
            Self::Distinct(sets) => {
                to.count(sets.len());
                for set in sets {
                    to.count(set.len());
                    set.iter().for_each(|value| to.int(*value));
                }
            }
            Self::Moments(moments) => {
                to.count(moments.len());
                for moments in moments {
                    to.word(moments.count);
                    to.real(moments.mean);
                    to.real(moments.squares);
                }
            }
        }
    }

    /// Reads what a state of the same aggregate wrote; there are as many as slots.
    pub(crate) fn load(&mut self, slots: usize, from: &mut Loader<'_>) -> Result<(), LoadError> {
        if matches!(self, Self::Rows) {
            return Ok(());
        }
        let n = from.count(1)?;
        if n != slots {
            return Err(LoadError::Invalid { what: "state" });
        }
        match self {
            Self::Rows => {}
            Self::Count(counts) => *counts = from.many(n, Loader::word)?,
            Self::Exact(sums, counts) => {
                *sums = from.many(n, Loader::wide)?;
                *counts = from.many(n, Loader::word)?;
            }
            Self::Real(sums, counts) => {
                *sums = from.many(n, Loader::real)?;
                *counts = from.many(n, Loader::word)?;
            }
            Self::Best(values) => {
                *values = from.many(n, |from| optional(from, |from| from.scalar()))?;
            }
            Self::BestInt(values, set) => {
                *values = from.many(n, Loader::int)?;
                *set = from.many(n, Loader::truth)?;
            }
            Self::BestReal(values, set) => {
                *values = from.many(n, Loader::real)?;
                *set = from.many(n, Loader::truth)?;
            }
            Self::Edges(edges) => *edges = from.many(n, |from| optional(from, edge))?,
            Self::Distinct(sets) => {
                *sets = from.many(n, |from| {
                    let count = from.count(8)?;
                    Ok(from.many(count, Loader::int)?.into_iter().collect())
                })?;
            }
            Self::Moments(all) => *all = from.many(n, moments)?,
        }
        Ok(())
    }
}

fn optional<T>(
    from: &mut Loader<'_>,
    one: impl FnOnce(&mut Loader<'_>) -> Result<T, LoadError>,
) -> Result<Option<T>, LoadError> {
    if from.truth()? {
        one(from).map(Some)
    } else {
        Ok(None)
    }
}

fn edge(from: &mut Loader<'_>) -> Result<Edge, LoadError> {
    Ok(Edge {
        time: from.int()?,
        sequence: from.word()?,
        value: from.scalar()?,
    })
}

fn moments(from: &mut Loader<'_>) -> Result<Moments, LoadError> {
    Ok(Moments {
        count: from.word()?,
        mean: from.real()?,
        squares: from.real()?,
    })
}
