//! Distributions as tables of 4,096 quantiles in whole nanoseconds.
//!
//! Tables are built once with a maths library in pure Rust: a platform's own `ln` may differ in
//! the last bit, and then equal seeds would not give equal runs. Drawing is one choice of the
//! tape; choice 0 is the median, the most normal value.

use std::sync::Arc;

use crate::tape::{Place, Tape};

/// How many quantiles a table holds.
const SIZE: usize = 4_096;

/// Points per part when two distributions are added: 64 x 64 make a table.
const COARSE: usize = 64;

/// A distribution of spans of time, in nanoseconds. A span may be negative, as a clock's offset.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Always this.
    Fixed(i64),
    /// Anything between the two, all equally likely.
    Uniform(i64, i64),
    /// Mean and standard deviation.
    Normal(i64, i64),
    /// Mean.
    Exponential(i64),
    /// Median, and the standard deviation of the logarithm.
    LogNormal(i64, f64),
    /// Measured values, in any order, all equally likely.
    Measured(Vec<i64>),
    /// One of several, by weight.
    Mix(Vec<(f64, Self)>),
    /// The sum of several independent ones.
    Sum(Vec<Self>),
}

/// A table to draw from. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Ascending; one value if there is nothing to draw.
    table: Arc<[i64]>,
}

impl Quantiles {
    /// The table of a distribution.
    ///
    /// # Panics
    ///
    /// If a list of parts or of measured values is empty, or a weight is not positive.
    #[must_use]
    pub fn of(distribution: &Distribution) -> Self {
        let mut table = points(distribution, SIZE);
        if table.first() == table.last() {
            table.truncate(1);
        }
        Self {
            table: table.into(),
        }
    }

    /// Always `nanos`.
    #[must_use]
    pub fn fixed(nanos: i64) -> Self {
        Self::of(&Distribution::Fixed(nanos))
    }

    /// Draws a span.
    #[inline]
    pub fn draw(&self, place: Place, tape: &mut Tape) -> i64 {
        if let [only] = *self.table {
            return only;
        }
        self.pick(place, tape)
    }

    fn pick(&self, place: Place, tape: &mut Tape) -> i64 {
        let size = u32::try_from(self.table.len()).expect("tables are small");
        let choice = (tape.choose(place, size) + size / 2) % size;
        self.table[usize::try_from(choice).expect("tables are small")]
    }

    /// Draws a span that does not lie in the past.
    #[inline]
    pub fn delay(&self, place: Place, tape: &mut Tape) -> u64 {
        u64::try_from(self.draw(place, tape)).unwrap_or(0)
    }

    /// Draws a span that lies so many thousandths of the way from this one's to the other's; beyond that, it goes on as
    /// before.
    pub(crate) fn delay_between(
        &self,
        other: &Self,
        per_mille: u64,
        place: Place,
        tape: &mut Tape,
    ) -> u64 {
        let size = u32::try_from(SIZE).expect("tables are small");
        let choice = (tape.choose(place, size) + size / 2) % size;
        let choice = usize::try_from(choice).expect("tables are small");
        let at = |one: &Self| i128::from(one.table[choice * one.table.len() / SIZE]);
        let (from, to) = (at(self), at(other));
        let span = from + (to - from) * i128::from(per_mille) / 1_000;
        u64::try_from(span).unwrap_or(0)
    }

    /// The value below which `per_mille` thousandths lie.
    #[must_use]
    pub fn quantile(&self, per_mille: usize) -> i64 {
        let index = (self.table.len() * per_mille / 1_000).min(self.table.len() - 1);
        self.table[index]
    }
}

/// `count` values, ascending, each standing for an equal share.
fn points(distribution: &Distribution, count: usize) -> Vec<i64> {
    match distribution {
        Distribution::Fixed(value) => vec![*value; count],
        Distribution::Uniform(low, high) => {
            let (low, width) = (float(*low), float(high.saturating_sub(*low)));
            shares(count).map(|p| whole(low + p * width)).collect()
        }
        Distribution::Normal(mean, deviation) => deviates(count)
            .map(|z| whole(float(*mean) + z * float(*deviation)))
            .collect(),
        Distribution::Exponential(mean) => shares(count)
            .map(|p| whole(-float(*mean) * libm::log1p(-p)))
            .collect(),
        Distribution::LogNormal(median, deviation) => deviates(count)
            .map(|z| whole(float(*median) * libm::exp(z * deviation)))
            .collect(),
        Distribution::Measured(values) => {
            let mut values = values.clone();
            values.sort_unstable();
            let weighted: Vec<(i64, f64)> = values.into_iter().map(|value| (value, 1.0)).collect();
            resampled(&weighted, count)
        }
        Distribution::Mix(parts) => {
            let mut weighted: Vec<(i64, f64)> = Vec::new();
            for (weight, part) in parts {
                assert!(*weight > 0.0, "a part without weight is no part");
                weighted.extend(points(part, SIZE).into_iter().map(|value| (value, *weight)));
            }
            weighted.sort_by_key(|&(value, _)| value);
            resampled(&weighted, count)
        }
        Distribution::Sum(parts) => sum(parts, count),
    }
}

fn sum(parts: &[Distribution], count: usize) -> Vec<i64> {
    let mut parts = parts.iter();
    let first = parts.next().expect("a sum has parts");
    let mut total = points(first, count);
    for part in parts {
        // What is fixed only shifts; two that vary are crossed, point by point.
        let (left, right) = if let Distribution::Fixed(value) = part {
            (total, vec![*value])
        } else if total.first() == total.last() {
            (points(part, count), vec![total[0]])
        } else {
            (thinned(&total), points(part, COARSE))
        };
        let mut crossed: Vec<(i64, f64)> = Vec::with_capacity(left.len() * right.len());
        for &a in &left {
            crossed.extend(right.iter().map(|&b| (a.saturating_add(b), 1.0)));
        }
        crossed.sort_by_key(|&(value, _)| value);
        total = resampled(&crossed, count);
    }
    total
}

fn thinned(values: &[i64]) -> Vec<i64> {
    let weighted: Vec<(i64, f64)> = values.iter().map(|&value| (value, 1.0)).collect();
    resampled(&weighted, COARSE)
}

/// The values at the middle of `count` equal shares of the whole weight.
fn resampled(weighted: &[(i64, f64)], count: usize) -> Vec<i64> {
    assert!(!weighted.is_empty(), "nothing can be drawn from nothing");
    let whole: f64 = weighted.iter().map(|&(_, weight)| weight).sum();
    let (mut index, mut behind) = (0, 0.0);
    shares(count)
        .map(|share| {
            while index + 1 < weighted.len() && behind + weighted[index].1 <= share * whole {
                behind += weighted[index].1;
                index += 1;
            }
            weighted[index].0
        })
        .collect()
}

/// The middles of `count` equal shares of the span from 0 to 1.
fn shares(count: usize) -> impl Iterator<Item = f64> {
    let size = f64::from(u32::try_from(count).expect("tables are small"));
    (0_u32..)
        .take(count)
        .map(move |index| (f64::from(index) + 0.5) / size)
}

/// Standard normal deviates at the middles of `count` equal shares, ascending.
fn deviates(count: usize) -> impl Iterator<Item = f64> {
    let mut floor = -9.0;
    shares(count).map(move |share| {
        // The integral has no closed inverse; halving an interval is exact enough and portable.
        let (mut low, mut high) = (floor, 9.0);
        for _ in 0..60 {
            let middle = (low + high) * 0.5;
            if 0.5 * libm::erfc(-middle * std::f64::consts::FRAC_1_SQRT_2) < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        floor = low;
        low
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "spans beyond 2^53 ns, 104 days, may lose their last nanoseconds"
)]
const fn float(nanos: i64) -> f64 {
    nanos as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it saturates, and no clock lives for 292 years"
)]
fn whole(nanos: f64) -> i64 {
    libm::rint(nanos) as i64
}
