//! Partial states of one aggregate, one for each slot of a slice.
//!
//! A state is a value, how many rows made it, and nothing that stands for "no value": MIN of
//! negative numbers needs no smallest number to begin with.

mod saved;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{AddAssign, Range};

use holm_lanes::{Fault, Kind, Lane, LaneBuilder, Narrow, Scalar, Shape, Values, index};

use crate::aggregate::Aggregate;
use crate::counts::Counts;
use crate::sketch::Sketch;

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
    Count(Counts),
    Exact(Vec<i128>, Counts),
    Real(Vec<f64>, Counts),
    Best(Vec<Option<Scalar>>),
    BestInt(Vec<i64>, Vec<bool>),
    BestReal(Vec<f64>, Vec<bool>),
    Edges(Vec<Option<Edge>>),
    Distinct(Vec<BTreeSet<i64>>),
    Sketches(Vec<Sketch>),
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

/// Where the slots of one slice lie in another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Into<'a> {
    /// In the same places, so many.
    Same(usize),
    /// In these.
    At(&'a [u32]),
}

impl Into<'_> {
    /// From which slot to which.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (same, at) = match self {
            Self::Same(slots) => (0..*slots, &[][..]),
            Self::At(places) => (0..0, *places),
        };
        let same = same.map(|slot| (slot, slot));
        same.chain(at.iter().map(|slot| index(*slot)).enumerate())
    }
}

impl Input<'_> {
    /// Whether each row counts and has a value.
    pub(crate) fn is_dense(&self) -> bool {
        self.filter.is_none() && self.lane.is_none_or(|lane| lane.nulls().is_none())
    }

    fn edge(&self, row: usize) -> Edge {
        Edge {
            time: self.times.map_or(0, |times| times[row]),
            sequence: self.sequences.at(row),
            value: self.lane.map_or(Scalar::Null, |lane| lane.scalar(row)),
        }
    }
}

/// Adds each value to the sum of its slot, in order.
fn add_each<S: AddAssign + Copy, V: Copy + std::convert::Into<S>>(
    sums: &mut [S],
    values: &[V],
    slots: &[u32],
) {
    for (value, slot) in values.iter().zip(slots) {
        sums[index(*slot)] += (*value).into();
    }
}

/// The sum of integers of 32 bits at most: of a batch's rows it fits 64.
fn sum_of_few_bits<V: Copy + std::convert::Into<i64>>(values: &[V]) -> i128 {
    i128::from(
        values
            .iter()
            .fold(0, |sum: i64, value| sum + (*value).into()),
    )
}

/// The sum of integers of 64 bits: halves are added up apart, so that neither wraps.
fn sum_of_words(values: &[i64]) -> i128 {
    let (high, low) = values.iter().fold((0_i64, 0_i64), |(high, low), value| {
        (high + (value >> 32), low + (value & 0xffff_ffff))
    });
    (i128::from(high) << 32) + i128::from(low)
}

impl State {
    pub(crate) fn new(aggregate: Aggregate, has_filter: bool) -> Self {
        match aggregate {
            Aggregate::CountRows if !has_filter => Self::Rows,
            Aggregate::CountRows | Aggregate::Count => Self::Count(Counts::default()),
            Aggregate::CountDistinct => Self::Distinct(Vec::new()),
            Aggregate::AboutDistinct | Aggregate::Quantile { .. } => Self::Sketches(Vec::new()),
            Aggregate::Sum(kind) | Aggregate::Average(kind) => {
                if kind.is_float() {
                    Self::Real(Vec::new(), Counts::default())
                } else {
                    Self::Exact(Vec::new(), Counts::default())
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
            Self::Count(counts) => counts.resize(slots),
            Self::Exact(sums, counts) => {
                sums.resize(slots, 0);
                counts.resize(slots);
            }
            Self::Real(sums, counts) => {
                sums.resize(slots, 0.0);
                counts.resize(slots);
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
            Self::Sketches(sketches) => sketches.resize(slots, Sketch::default()),
            Self::Moments(moments) => moments.resize(slots, Moments::default()),
        }
    }

    /// Moves each slot to another one of so many, unless it has none.
    pub(crate) fn relocate(&mut self, slots: usize, places: &[u32]) {
        match self {
            Self::Rows => {}
            Self::Count(counts) => counts.relocate(slots, places),
            Self::Exact(sums, counts) => {
                moved(sums, slots, places);
                counts.relocate(slots, places);
            }
            Self::Real(sums, counts) => {
                moved(sums, slots, places);
                counts.relocate(slots, places);
            }
            Self::Best(values) => moved(values, slots, places),
            Self::BestInt(values, set) => {
                moved(values, slots, places);
                moved(set, slots, places);
            }
            Self::BestReal(values, set) => {
                moved(values, slots, places);
                moved(set, slots, places);
            }
            Self::Edges(edges) => moved(edges, slots, places),
            Self::Distinct(sets) => moved(sets, slots, places),
            Self::Sketches(sketches) => moved(sketches, slots, places),
            Self::Moments(moments) => moved(moments, slots, places),
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        const VALUE: usize = 40;
        match self {
            Self::Rows => 0,
            Self::Count(_) => 0,
            Self::Exact(sums, _) => 24 * sums.len(),
            Self::Real(sums, _) => 16 * sums.len(),
            Self::Best(values) => VALUE * values.len(),
            Self::BestInt(values, _) => 9 * values.len(),
            Self::BestReal(values, _) => 9 * values.len(),
            Self::Edges(edges) => (VALUE + 16) * edges.len(),
            Self::Distinct(sets) => sets.iter().map(|set| 24 + DISTINCT * set.len()).sum(),
            Self::Sketches(sketches) => sketches.iter().map(|it| 32 + it.bytes()).sum(),
            Self::Moments(moments) => 24 * moments.len(),
        }
    }

    /// Adds rows to their slots, in the order of rows (I5). The slice had so many rows by slot
    /// before these.
    #[expect(clippy::too_many_lines, reason = "a dispatch over the states")]
    pub(crate) fn add(
        &mut self,
        aggregate: Aggregate,
        rows: Range<usize>,
        (slots, before): (&[u32], &[u64]),
        input: Input<'_>,
    ) {
        if input.is_dense() && self.add_dense(&rows, slots, input.lane) {
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
            (Self::Count(counts), _) => {
                let counts = counts.apart(before);
                pairs.for_each(|(_, slot)| counts[slot] += 1);
            }
            (Self::Exact(sums, counts), Some(Values::Int(values))) => {
                let counts = counts.apart(before);
                for (row, slot) in pairs {
                    sums[slot] += i128::from(values[row]);
                    counts[slot] += 1;
                }
            }
            (Self::Exact(sums, counts), Some(Values::Wide(values))) => {
                let counts = counts.apart(before);
                for (row, slot) in pairs {
                    sums[slot] += values[row];
                    counts[slot] += 1;
                }
            }
            (Self::Real(sums, counts), Some(Values::Real(values))) => {
                let counts = counts.apart(before);
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
            (Self::Sketches(sketches), Some(Values::Int(values))) => {
                pairs.for_each(|(row, slot)| sketches[slot].add_hash(values[row].cast_unsigned()));
            }
            (Self::Sketches(sketches), Some(Values::Real(values))) => {
                pairs.for_each(|(row, slot)| sketches[slot].add_real(values[row]));
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
    fn add_dense(&mut self, rows: &Range<usize>, slots: &[u32], lane: Option<&Lane>) -> bool {
        let is_done = self.add_sums(rows.clone(), slots, lane);
        if let Self::Real(_, counts) | Self::Exact(_, counts) | Self::Count(counts) = self
            && is_done
        {
            counts.add_all(slots);
        }
        is_done
    }

    fn add_sums(&mut self, rows: Range<usize>, slots: &[u32], lane: Option<&Lane>) -> bool {
        match (self, lane.and_then(Lane::narrow_values)) {
            (Self::Real(sums, _), Some(Narrow::Singles(it))) => add_each(sums, &it[rows], slots),
            (Self::Exact(sums, _), Some(Narrow::Bytes(it))) => add_each(sums, &it[rows], slots),
            (Self::Exact(sums, _), Some(Narrow::Halves(it))) => add_each(sums, &it[rows], slots),
            (Self::Exact(sums, _), Some(Narrow::Ints(it))) => add_each(sums, &it[rows], slots),
            (Self::Count(_), _) => {}
            (state, _) => match (state, lane.map(Lane::values)) {
                (Self::Real(sums, _), Some(Values::Real(it))) => add_each(sums, &it[rows], slots),
                (Self::Exact(sums, _), Some(Values::Int(it))) => add_each(sums, &it[rows], slots),
                _ => return false,
            },
        }
        true
    }

    /// The sum of a slot that rows may be added to without a look at each, if it is of floats.
    pub(crate) fn plain_sum(&mut self, slot: usize) -> Option<&mut f64> {
        if let Self::Real(sums, counts) = self
            && counts.are_rows()
        {
            return Some(&mut sums[slot]);
        }
        None
    }

    /// Adds rows of one slot to a sum of integers, side by side, for their order does not matter.
    pub(crate) fn add_exact_run(
        &mut self,
        slot: usize,
        rows: Range<usize>,
        lane: Option<&Lane>,
    ) -> bool {
        let Self::Exact(sums, counts) = self else {
            return false;
        };
        let Some(lane) = lane.filter(|_| counts.are_rows()) else {
            return false;
        };
        sums[slot] += match lane.narrow_values() {
            Some(Narrow::Bytes(it)) => sum_of_few_bits(&it[rows]),
            Some(Narrow::Halves(it)) => sum_of_few_bits(&it[rows]),
            Some(Narrow::Ints(it)) => sum_of_few_bits(&it[rows]),
            Some(Narrow::Singles(_)) => return false,
            None => {
                let Values::Int(it) = lane.values() else {
                    return false;
                };
                sum_of_words(&it[rows])
            }
        };
        true
    }

    /// Adds the slots of another slice to ours. Both slices' rows are those before.
    pub(crate) fn merge(
        &mut self,
        aggregate: Aggregate,
        into: &Into<'_>,
        (rows, other_rows): (&[u64], &[u64]),
        other: &Self,
    ) {
        let pairs = into.pairs();
        let add = |ours: u64, theirs: u64| ours + theirs;
        match (self, other) {
            (Self::Rows, Self::Rows) => {}
            (Self::Count(ours), Self::Count(theirs)) => {
                ours.merge(rows, (theirs, other_rows), pairs, add);
            }
            (Self::Exact(sums, counts), Self::Exact(other_sums, other_counts)) => {
                into.pairs()
                    .for_each(|(from, to)| sums[to] += other_sums[from]);
                counts.merge(rows, (other_counts, other_rows), pairs, add);
            }
            (Self::Real(sums, counts), Self::Real(other_sums, other_counts)) => {
                if let Into::Same(_) = into {
                    sums.iter_mut()
                        .zip(other_sums)
                        .for_each(|(sum, other)| *sum += other);
                } else {
                    into.pairs()
                        .for_each(|(from, to)| sums[to] += other_sums[from]);
                }
                counts.merge(rows, (other_counts, other_rows), pairs, add);
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
            (Self::Sketches(sketches), Self::Sketches(other)) => {
                pairs.for_each(|(from, to)| sketches[to].merge(&other[from]));
            }
            (Self::Moments(moments), Self::Moments(other)) => {
                pairs.for_each(|(from, to)| moments[to].merge(other[from]));
            }
            (ours, theirs) => panic!("I5: states of one aggregate: {ours:?}, {theirs:?}"),
        }
    }

    /// Takes the slots of another slice away from ours: exact ones only (I5).
    pub(crate) fn subtract(
        &mut self,
        into: &Into<'_>,
        (rows, other_rows): (&[u64], &[u64]),
        other: &Self,
    ) {
        let pairs = into.pairs();
        let take = |ours: u64, theirs: u64| ours - theirs;
        match (self, other) {
            (Self::Rows, Self::Rows) => {}
            (Self::Count(ours), Self::Count(theirs)) => {
                ours.merge(rows, (theirs, other_rows), pairs, take);
            }
            (Self::Exact(sums, counts), Self::Exact(other_sums, other_counts)) => {
                into.pairs()
                    .for_each(|(from, to)| sums[to] -= other_sums[from]);
                counts.merge(rows, (other_counts, other_rows), pairs, take);
            }
            (ours, _) => panic!("I5: {ours:?} has no inverse"),
        }
    }

    /// Writes the results of slots that all have rows; a fault leaves part of them written.
    pub(crate) fn finish_all(
        &self,
        aggregate: Aggregate,
        (slots, rows): (&[(u32, usize)], &[u64]),
        out: &mut LaneBuilder,
    ) -> Result<(), Fault> {
        match self {
            Self::Real(sums, counts) if counts.are_rows() && aggregate.gives() == Kind::Double => {
                let sums = slots.iter().map(|(_, slot)| (sums[*slot], rows[*slot]));
                if matches!(aggregate, Aggregate::Average(_)) {
                    out.extend_reals(sums.map(|(sum, rows)| sum / rows as f64));
                } else {
                    out.extend_reals(sums.map(|(sum, _)| sum));
                }
                Ok(())
            }
            Self::Rows => {
                let counts = slots.iter().map(|(_, slot)| rows[*slot].cast_signed());
                out.extend_ints(counts);
                Ok(())
            }
            Self::Count(_)
            | Self::Exact(..)
            | Self::Real(..)
            | Self::Best(_)
            | Self::BestInt(..)
            | Self::BestReal(..)
            | Self::Edges(_)
            | Self::Distinct(_)
            | Self::Sketches(_)
            | Self::Moments(_) => slots
                .iter()
                .try_for_each(|(_, slot)| self.finish(aggregate, *slot, rows[*slot], out)),
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
            Self::Count(counts) => out.push_int(count(counts.at(slot, rows))?),
            Self::Distinct(sets) => {
                out.push_int(i64::try_from(sets[slot].len()).expect("memory is smaller"));
            }
            Self::Sketches(sketches) => {
                if let Aggregate::Quantile { millionths } = aggregate {
                    let value = sketches[slot].quantile(millionths);
                    out.push(&value.map_or(Scalar::Null, Scalar::Real));
                } else {
                    out.push_int(sketches[slot].distinct());
                }
            }
            Self::Exact(sums, counts) => exact(aggregate, sums[slot], counts.at(slot, rows), out)?,
            Self::Real(sums, counts) => real(aggregate, sums[slot], counts.at(slot, rows), out),
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

/// What stands in each slot, moved; one past all slots is none.
pub(crate) fn moved<T: Default>(values: &mut Vec<T>, slots: usize, places: &[u32]) {
    let mut all: Vec<T> = (0..slots).map(|_| T::default()).collect();
    for (value, place) in values.drain(..).zip(places) {
        if let Some(to) = all.get_mut(index(*place)) {
            *to = value;
        }
    }
    *values = all;
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
